//! What goes in, what comes out, and what a request is in between.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rerank_core::{rank, sigmoid};
use tokio::sync::oneshot;

use crate::admission::Reservation;
use crate::{EngineError, Rows, Stage, Timeline, Truncation};

/// One query and the documents to rank by it.
#[derive(Debug)]
pub struct RerankRequest {
    /// The query; not empty.
    pub query: String,
    /// The documents; at least one. Empty ones are scored like any other.
    pub documents: Vec<String>,
    /// What to do with pairs that are too long.
    pub truncation: Truncation,
    /// When the answer is of no use any more: rows not yet scored are dropped then.
    pub deadline: Option<Instant>,
    /// The request's clock, started by whoever received it.
    pub timeline: Timeline,
}

/// Arbitrary pairs to score.
#[derive(Debug)]
pub struct ScoreRequest {
    /// Queries and documents; at least one pair, no query empty.
    pub pairs: Vec<(String, String)>,
    /// What to do with pairs that are too long.
    pub truncation: Truncation,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// The request's clock.
    pub timeline: Timeline,
}

/// The texts of a request, kept so that the answer can return documents without having copied them.
#[derive(Debug)]
pub enum Texts {
    /// One query, many documents.
    Rerank {
        /// The query.
        query: String,
        /// The documents.
        documents: Vec<String>,
    },
    /// A query for each document.
    Pairs(Vec<(String, String)>),
}

impl Texts {
    /// How many pairs there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Rerank { documents, .. } => documents.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The query of pair `index`.
    pub fn query(&self, index: usize) -> &str {
        match self {
            Self::Rerank { query, .. } => query,
            Self::Pairs(pairs) => &pairs[index].0,
        }
    }

    /// The document of pair `index`.
    pub fn document(&self, index: usize) -> &str {
        match self {
            Self::Rerank { documents, .. } => &documents[index],
            Self::Pairs(pairs) => &pairs[index].1,
        }
    }
}

/// One logit for every pair.
#[derive(Debug)]
pub struct Scored {
    /// Raw logits, in the order of the request's pairs.
    pub logits: Vec<f32>,
    /// Tokens in all rows, special tokens included, after truncation.
    pub tokens: usize,
    /// The request's texts.
    pub texts: Arc<Texts>,
    /// The clock, ended up to [`Stage::Compute`]; the adapter ends [`Stage::Reply`].
    pub timeline: Timeline,
}

/// A document's place in the ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The document's index in the request.
    pub index: usize,
    /// The raw logit.
    pub logit: f32,
    /// The logit's sigmoid.
    pub score: f64,
}

impl Scored {
    /// The best `top_n` documents, or all of them, best first: by logit, ties by index.
    pub fn ranked(&self, top_n: Option<usize>) -> Vec<Ranked> {
        let mut order = rank(&self.logits);
        order.truncate(top_n.unwrap_or(usize::MAX));
        let place =
            |index: usize| Ranked { index, logit: self.logits[index], score: sigmoid(self.logits[index]) };
        order.into_iter().map(place).collect()
    }
}

/// What the caller waits for.
pub(crate) type Reply = Result<Scored, EngineError>;

/// A request between admission and answer, shared by the threads that work on it.
pub(crate) struct Pending {
    pub(crate) texts: Arc<Texts>,
    pub(crate) truncation: Truncation,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reservation: Reservation,
    /// When its rows entered the queue.
    pub(crate) queued: OnceLock<Instant>,
    rows: OnceLock<Rows>,
    progress: Mutex<Progress>,
    unscored: AtomicUsize,
    closed: AtomicBool,
}

struct Progress {
    timeline: Timeline,
    logits: Vec<f32>,
    reply: Option<oneshot::Sender<Reply>>,
    started: bool,
}

impl Pending {
    pub(crate) fn new(
        texts: Texts,
        truncation: Truncation,
        deadline: Option<Instant>,
        timeline: Timeline,
        reservation: Reservation,
        reply: oneshot::Sender<Reply>,
    ) -> Arc<Self> {
        let pairs = texts.len();
        let progress =
            Progress { timeline, logits: vec![f32::NAN; pairs], reply: Some(reply), started: false };
        Arc::new(Self {
            texts: Arc::new(texts),
            truncation,
            deadline,
            reservation,
            queued: OnceLock::new(),
            rows: OnceLock::new(),
            progress: Mutex::new(progress),
            unscored: AtomicUsize::new(pairs),
            closed: AtomicBool::new(false),
        })
    }

    /// The tokenised pairs, once the tokenizer pool is done.
    pub(crate) fn rows(&self) -> &Rows {
        self.rows.get().expect("a request enters the queue with its rows")
    }

    /// Stores the tokenised pairs and ends the tokenise stage.
    pub(crate) fn tokenised(&self, rows: Rows) {
        let now = Instant::now();
        self.progress().timeline.end_at(Stage::Tokenise, now);
        self.queued.set(now).expect("a request is tokenised once");
        self.rows.set(rows).expect("a request is tokenised once");
    }

    /// Ends the queue stage when the first of its rows goes to a worker.
    pub(crate) fn started(&self, now: Instant) {
        let mut progress = self.progress();
        if !progress.started {
            progress.started = true;
            progress.timeline.end_at(Stage::Queue, now);
        }
    }

    /// Stores logits of some rows; the last of them answers the request.
    pub(crate) fn scored(&self, logits: &[(usize, f32)], now: Instant) {
        let mut progress = self.progress();
        for &(row, logit) in logits {
            progress.logits[row] = logit;
        }
        if self.unscored.fetch_sub(logits.len(), Ordering::Relaxed) == logits.len() {
            progress.timeline.end_at(Stage::Compute, now);
            let scored = Scored {
                logits: std::mem::take(&mut progress.logits),
                tokens: self.rows().tokens(),
                texts: Arc::clone(&self.texts),
                timeline: progress.timeline,
            };
            self.answer(progress.reply.take(), Ok(scored));
        }
    }

    /// Answers with an error, unless it was answered before.
    pub(crate) fn fail(&self, error: EngineError) {
        let reply = self.progress().reply.take();
        self.answer(reply, Err(error));
    }

    /// Whether nobody waits for the answer any more: it was given, or the caller went away.
    pub(crate) fn is_closed(&self) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return true;
        }
        let closed = self.progress().reply.as_ref().is_none_or(oneshot::Sender::is_closed);
        if closed {
            self.closed.store(true, Ordering::Relaxed);
        }
        closed
    }

    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn answer(&self, reply: Option<oneshot::Sender<Reply>>, answer: Reply) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(reply) = reply {
            // Before the answer is out: its receiver may ask again at once, and must find the room it gave back.
            self.reservation.correct(0);
            // A caller that went away left its receiver behind; there is nobody to tell.
            let _ = reply.send(answer);
        }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
