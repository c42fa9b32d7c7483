//! The load itself. Closed loop: so many requests in flight. Open loop: arrivals on a schedule that does not wait for
//! the server, so that a stall of the server shows in every request that was due meanwhile.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};

use crate::{
    cli::Arrivals,
    client::{Client, Failure},
    progress::Meter,
    recorder::{Observation, Scored},
    schedule::Schedule,
};

/// What decides when a request is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    Closed { concurrency: usize },
    Open { rate: f64, arrivals: Arrivals, seed: u64 },
}

/// What all requests of a phase share.
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) meter: Arc<Meter>,
}

/// The observations of a phase and how many requests were in flight at most.
pub(crate) struct Driven {
    pub(crate) observations: Vec<Observation>,
    pub(crate) max_in_flight: usize,
}

/// Sends requests for `seconds` and returns when the last answer is in.
pub(crate) async fn drive(load: &Arc<Load>, pace: Pace, seconds: u64, first: usize) -> Result<Driven> {
    let phase = Phase {
        load: Arc::clone(load),
        start: Instant::now(),
        length: Duration::from_secs(seconds),
        next: AtomicUsize::new(first),
        fatal: Mutex::new(None),
    };
    let phase = Arc::new(phase);
    let driven = match pace {
        Pace::Closed { concurrency } => closed(&phase, concurrency).await,
        Pace::Open { rate, arrivals, seed } => open(&phase, Schedule::new(arrivals, rate, seed)).await,
    };
    if let Some(failure) = phase.fatal() {
        bail!("the server stopped serving: {} ({})", failure.message, failure.code);
    }
    Ok(driven)
}

struct Phase {
    load: Arc<Load>,
    start: Instant,
    length: Duration,
    next: AtomicUsize,
    fatal: Mutex<Option<Failure>>,
}

impl Phase {
    fn fatal(&self) -> Option<Failure> {
        self.fatal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// One request: `due` is `None` where it is due when it is sent.
    async fn request(&self, due: Option<Duration>) -> (Observation, bool) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let body = self.load.bodies[turn % self.load.bodies.len()].clone();
        let sent = self.start.elapsed();
        let answer = self.load.client.send(body, turn).await;
        let done = self.start.elapsed();
        let due = due.unwrap_or(sent);
        let mut is_fatal = false;
        let outcome = match answer {
            Ok(answer) => {
                self.load.meter.answered(answer.pairs, done.saturating_sub(due));
                Ok(Scored { pairs: answer.pairs, tokens: answer.tokens })
            }
            Err(failure) => {
                self.load.meter.failed();
                is_fatal = failure.is_fatal;
                let code = failure.code.clone();
                if is_fatal {
                    *self.fatal.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(failure);
                }
                Err(code)
            }
        };
        (Observation { due, sent, done, outcome }, is_fatal)
    }
}

async fn closed(phase: &Arc<Phase>, concurrency: usize) -> Driven {
    let mut lanes = JoinSet::new();
    for _ in 0..concurrency {
        let phase = Arc::clone(phase);
        lanes.spawn(async move {
            let mut observations = Vec::new();
            while phase.start.elapsed() < phase.length {
                let (observation, is_fatal) = phase.request(None).await;
                observations.push(observation);
                if is_fatal {
                    break;
                }
            }
            observations
        });
    }
    Driven { observations: lanes.join_all().await.concat(), max_in_flight: concurrency }
}

async fn open(phase: &Arc<Phase>, schedule: Schedule) -> Driven {
    let mut due = pace(schedule, phase.start, phase.length);
    let mut requests = JoinSet::new();
    let mut observations = Vec::new();
    let mut max_in_flight = 0;
    while let Some(due) = due.recv().await {
        let mut is_fatal = false;
        while let Some(finished) = requests.try_join_next() {
            let (observation, fatal) = finished.expect("a request does not panic");
            observations.push(observation);
            is_fatal |= fatal;
        }
        if is_fatal {
            break;
        }
        let phase = Arc::clone(phase);
        requests.spawn(async move { phase.request(Some(due)).await });
        max_in_flight = max_in_flight.max(requests.len());
    }
    observations.extend(requests.join_all().await.into_iter().map(|(observation, _)| observation));
    Driven { observations, max_in_flight }
}

/// Tells each arrival when it is due. A thread of its own, because the runtime's timer counts whole milliseconds, which
/// is longer than a request to a fast server takes; the system's sleep is late by some tens of microseconds.
fn pace(schedule: Schedule, start: Instant, length: Duration) -> UnboundedReceiver<Duration> {
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        for due in schedule.take_while(|due| *due < length) {
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            if tell.send(due).is_err() {
                break;
            }
        }
    });
    told
}
