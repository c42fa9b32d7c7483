//! From single observations to the figures of a run.

use std::{collections::BTreeMap, time::Duration};

use rerank_report::{DurationHistogram, Window};

/// One request, seen from the client. Times count from the start of the run.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// When it was due (open loop) or sent (closed loop): latency counts from here.
    pub(crate) due: Duration,
    /// When it was really sent.
    pub(crate) sent: Duration,
    /// When its answer was complete.
    pub(crate) done: Duration,
    /// What came back.
    pub(crate) outcome: Result<Scored, String>,
}

/// What a served request counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored {
    pub(crate) pairs: u64,
    pub(crate) tokens: Option<u64>,
}

/// The client's side of a run.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) pairs: u64,
    pub(crate) tokens: Option<u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) latency: DurationHistogram,
    pub(crate) send_lag: DurationHistogram,
    pub(crate) windows: Vec<Window>,
}

/// Sums for one window.
#[derive(Clone, Default)]
struct Sums {
    requests: u64,
    pairs: u64,
    tokens: Option<u64>,
    latency: Duration,
    errors: u64,
}

/// Adds up a run of `seconds`, in which every request was sent; answers after them count, but in no window.
pub(crate) fn record(observations: &[Observation], seconds: u64) -> Recorded {
    let mut run = Recorded { tokens: Some(0), ..Recorded::default() };
    let mut sums = vec![Sums { tokens: Some(0), ..Sums::default() }; seconds as usize];
    let mut last = Duration::ZERO;
    for observation in observations {
        last = last.max(observation.done);
        run.send_lag.record(observation.sent.saturating_sub(observation.due));
        let latency = observation.done.saturating_sub(observation.due);
        let window = sums.get_mut(observation.done.as_secs() as usize);
        match &observation.outcome {
            Ok(scored) => {
                run.requests += 1;
                run.pairs += scored.pairs;
                run.tokens = run.tokens.zip(scored.tokens).map(|(sum, tokens)| sum + tokens);
                run.latency.record(latency);
                if let Some(window) = window {
                    window.requests += 1;
                    window.pairs += scored.pairs;
                    window.tokens = window.tokens.zip(scored.tokens).map(|(sum, tokens)| sum + tokens);
                    window.latency += latency;
                }
            }
            Err(code) => {
                *run.errors.entry(code.clone()).or_default() += 1;
                if let Some(window) = window {
                    window.errors += 1;
                }
            }
        }
    }
    run.seconds = last.as_secs_f64();
    // In the first window the pipeline fills: it holds fewer answers than requests sent.
    run.windows = (0..)
        .zip(sums)
        .skip(1)
        .map(|(second, sums)| Window {
            second,
            requests: sums.requests,
            pairs: sums.pairs,
            tokens: sums.tokens,
            latency_ms: (sums.requests > 0).then(|| sums.latency.as_secs_f64() * 1e3 / sums.requests as f64),
            errors: sums.errors,
        })
        .collect();
    run
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observation(due_ms: u64, sent_ms: u64, done_ms: u64) -> Observation {
        let [due, sent, done] = [due_ms, sent_ms, done_ms].map(Duration::from_millis);
        Observation { due, sent, done, outcome: Ok(Scored { pairs: 8, tokens: Some(100) }) }
    }

    #[test]
    fn latency_counts_from_the_scheduled_start() {
        // Due at 100 ms, but the client could not send before 900 ms: the wait belongs to the latency.
        let run = record(&[observation(100, 900, 1000)], 3);
        assert_eq!(run.latency.max_ms(), Some(900.0));
        assert_eq!(run.send_lag.max_ms(), Some(800.0));
    }

    #[test]
    fn the_first_window_and_late_answers_are_in_no_window_but_in_the_run() {
        let run =
            record(&[observation(0, 0, 500), observation(500, 500, 1500), observation(2900, 2900, 3100)], 3);
        assert_eq!((run.requests, run.pairs, run.tokens), (3, 24, Some(300)));
        let pairs: Vec<_> = run.windows.iter().map(|window| (window.second, window.pairs)).collect();
        assert_eq!(pairs, [(1, 8), (2, 0)]);
        assert_eq!(run.windows[1].latency_ms, None, "no answer, no latency");
        assert!((run.seconds - 3.1).abs() < 1e-9);
    }

    #[test]
    fn tokens_are_unknown_when_one_answer_did_not_tell() {
        let mut silent = observation(0, 0, 1500);
        silent.outcome = Ok(Scored { pairs: 8, tokens: None });
        assert_eq!(record(&[observation(0, 0, 1500), silent], 3).tokens, None);
    }

    #[test]
    fn failures_are_counted_by_code_and_have_no_latency() {
        let mut refused = observation(0, 0, 1500);
        refused.outcome = Err("ResourceExhausted".to_owned());
        let run = record(&[refused], 3);
        assert_eq!((run.requests, run.latency.n(), run.errors["ResourceExhausted"]), (0, 0, 1));
        assert_eq!(run.windows[0].errors, 1);
    }

    proptest! {
        #[test]
        fn windows_hold_every_answer_between_the_first_second_and_the_last(done in proptest::collection::vec(0..6000_u64, 0..200)) {
            let observations: Vec<_> = done.iter().map(|done| observation(0, 0, *done)).collect();
            let run = record(&observations, 5);
            let inside = done.iter().filter(|ms| (1000..5000).contains(*ms)).count() as u64;
            prop_assert_eq!(run.windows.iter().map(|window| window.requests).sum::<u64>(), inside);
            prop_assert_eq!(run.latency.n(), done.len() as u64);
        }
    }
}
