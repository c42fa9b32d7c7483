//! The stage clock: where a request's time went, as disjoint intervals of one monotonic clock.

use std::time::{Duration, Instant};

/// The stages of a request, in order. Each begins where the one before ended, so they sum to the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the request from the socket.
    Receive,
    /// Decoding it.
    Parse,
    /// Waiting for a tokenizer thread, and tokenising.
    Tokenise,
    /// Waiting for a worker.
    Queue,
    /// From the start of the first batch that holds one of its rows to the end of the last; gaps between are included.
    Compute,
    /// Waking the caller, ranking, encoding the answer and handing it to the socket.
    Reply,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 6] =
        [Self::Receive, Self::Parse, Self::Tokenise, Self::Queue, Self::Compute, Self::Reply];

    /// The stage's name in headers, metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Tokenise => "tokenise",
            Self::Queue => "queue",
            Self::Compute => "compute",
            Self::Reply => "reply",
        }
    }
}

/// One request's clock.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    start: Instant,
    ends: [Instant; Stage::ALL.len()],
}

impl Timeline {
    /// Starts the clock now: call it at the request's first byte.
    pub fn start() -> Self {
        Self::start_at(Instant::now())
    }

    /// Starts the clock at an instant that was noted before.
    pub fn start_at(start: Instant) -> Self {
        Self { start, ends: [start; Stage::ALL.len()] }
    }

    /// Ends `stage` now. A stage that is never ended took no time of its own: it belongs to the next one that is.
    pub fn end(&mut self, stage: Stage) {
        self.end_at(stage, Instant::now());
    }

    /// Ends `stage` at an instant that was noted before; never earlier than the stage before it.
    pub fn end_at(&mut self, stage: Stage, at: Instant) {
        let index = stage as usize;
        let begin = if index == 0 { self.start } else { self.ends[index - 1] };
        self.ends[index..].fill(at.max(begin));
    }

    /// When the clock started.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// How long a stage took.
    pub fn stage(&self, stage: Stage) -> Duration {
        let index = stage as usize;
        let begin = if index == 0 { self.start } else { self.ends[index - 1] };
        self.ends[index] - begin
    }

    /// From the start to the end of the last stage that was ended.
    pub fn total(&self) -> Duration {
        self.ends[Stage::ALL.len() - 1] - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_sum_to_the_total_even_when_some_are_skipped_or_out_of_order() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timeline = Timeline::start_at(start);
        timeline.end_at(Stage::Receive, at(2));
        timeline.end_at(Stage::Tokenise, at(7));
        timeline.end_at(Stage::Queue, at(5));
        timeline.end_at(Stage::Compute, at(20));
        timeline.end_at(Stage::Reply, at(21));
        let stages: Vec<u128> = Stage::ALL.iter().map(|&stage| timeline.stage(stage).as_millis()).collect();
        assert_eq!(stages, [2, 0, 5, 0, 13, 1]);
        assert_eq!(timeline.total().as_millis(), 21);
    }
}
