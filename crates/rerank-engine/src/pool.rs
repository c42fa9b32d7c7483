//! The tokenizer pool: a bounded number of threads that turn admitted texts into rows, off the caller's runtime.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::queue::Queue;
use crate::request::{Pending, Texts};
use crate::{EngineError, PairTokenizer, Rows};

/// Text that is worth handing to another thread: about 0.1 ms of tokenising, well above the cost of a wake-up.
const CHUNK_BYTES: usize = 2048;

/// Handle to the pool. The channel needs no bound of its own: admission bounds what can be in it.
pub(crate) struct TokenizerPool {
    jobs: Sender<Job>,
    threads: usize,
}

enum Job {
    /// A request as it was admitted: tokenise its query, then its documents.
    Request(Arc<Pending>),
    /// Some documents of a request whose query is tokenised.
    Chunk(Arc<Split>, usize),
    /// The thread that takes this ends.
    Stop,
}

/// A request whose documents are tokenised by several threads.
struct Split {
    pending: Arc<Pending>,
    query: Vec<u32>,
    ranges: Vec<Range<usize>>,
    done: Vec<OnceLock<Rows>>,
    undone: AtomicUsize,
}

impl TokenizerPool {
    pub(crate) fn start(threads: usize, tokenizer: &Arc<PairTokenizer>, queue: &Arc<Queue>) -> Self {
        let (jobs, inbox) = crossbeam_channel::unbounded();
        for index in 0..threads {
            let thread = PoolThread {
                threads,
                jobs: jobs.clone(),
                inbox: inbox.clone(),
                tokenizer: Arc::clone(tokenizer),
                queue: Arc::clone(queue),
            };
            std::thread::Builder::new()
                .name(format!("rerank-tokenise-{index}"))
                .spawn(move || thread.run())
                .expect("the operating system grants a few threads at start");
        }
        Self { jobs, threads }
    }

    pub(crate) fn submit(&self, pending: Arc<Pending>) {
        self.jobs
            .send(Job::Request(pending))
            .expect("the pool's threads hold the other end until it is dropped");
    }
}

impl Drop for TokenizerPool {
    fn drop(&mut self) {
        for _ in 0..self.threads {
            // Fails only when every thread is gone, and then there is none to stop.
            let _ = self.jobs.send(Job::Stop);
        }
    }
}

struct PoolThread {
    threads: usize,
    jobs: Sender<Job>,
    inbox: Receiver<Job>,
    tokenizer: Arc<PairTokenizer>,
    queue: Arc<Queue>,
}

impl PoolThread {
    fn run(&self) {
        while let Ok(job) = self.inbox.recv() {
            let pending = match &job {
                Job::Request(pending) => Arc::clone(pending),
                Job::Chunk(split, _) => Arc::clone(&split.pending),
                Job::Stop => return,
            };
            if pending.is_closed() {
                continue;
            }
            if pending.is_late(Instant::now()) {
                pending.fail(EngineError::DeadlineExceeded);
                continue;
            }
            // A text that makes the tokenizer panic costs its own request and nothing else.
            let outcome = catch_unwind(AssertUnwindSafe(|| match job {
                Job::Request(pending) => self.request(&pending),
                Job::Chunk(split, chunk) => self.chunk(&split, chunk),
                Job::Stop => Ok(()),
            }));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => pending.fail(error),
                Err(_) => pending.fail(EngineError::tokenizer("it panicked on a text of this request")),
            }
        }
    }

    fn request(&self, pending: &Arc<Pending>) -> Result<(), EngineError> {
        let texts = &pending.texts;
        let query = match &**texts {
            Texts::Rerank { query, .. } => self.tokenizer.encode(query)?,
            Texts::Pairs(_) => Vec::new(),
        };
        let ranges = split(texts, self.threads);
        if ranges.len() == 1 {
            let rows = self.rows(pending, &query, 0..texts.len())?;
            return self.finish(pending, rows);
        }
        let split = Arc::new(Split {
            pending: Arc::clone(pending),
            query,
            done: ranges.iter().map(|_| OnceLock::new()).collect(),
            undone: AtomicUsize::new(ranges.len()),
            ranges,
        });
        for chunk in 1..split.ranges.len() {
            self.jobs.send(Job::Chunk(Arc::clone(&split), chunk)).expect("this thread holds a receiver");
        }
        self.chunk(&split, 0)
    }

    fn chunk(&self, split: &Split, chunk: usize) -> Result<(), EngineError> {
        let rows = self.rows(&split.pending, &split.query, split.ranges[chunk].clone())?;
        split.done[chunk].set(rows).expect("each chunk is done by one thread");
        // AcqRel: the last thread must see what the others stored.
        if split.undone.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let mut all = Rows::with_capacity(split.pending.texts.len());
        for rows in &split.done {
            all.append(rows.get().expect("every chunk counted down after it was stored"));
        }
        self.finish(&split.pending, all)
    }

    fn rows(&self, pending: &Pending, query: &[u32], pairs: Range<usize>) -> Result<Rows, EngineError> {
        let mut rows = Rows::with_capacity(pairs.len());
        for index in pairs {
            let document = self.tokenizer.encode(pending.texts.document(index))?;
            match &*pending.texts {
                Texts::Rerank { .. } => {
                    self.tokenizer.pair(query, &document, pending.truncation, index, &mut rows)?;
                }
                Texts::Pairs(pairs) => {
                    let query = self.tokenizer.encode(&pairs[index].0)?;
                    self.tokenizer.pair(&query, &document, pending.truncation, index, &mut rows)?;
                }
            }
        }
        Ok(rows)
    }

    fn finish(&self, pending: &Arc<Pending>, rows: Rows) -> Result<(), EngineError> {
        let (tokens, limit) = (rows.tokens(), pending.reservation.limit());
        if tokens > limit {
            return Err(EngineError::TooLarge { tokens, limit });
        }
        pending.reservation.correct(tokens);
        pending.tokenised(rows);
        self.queue.push(pending);
        Ok(())
    }
}

/// Ranges of pairs with about equal amounts of text, at most one a thread, none below [`CHUNK_BYTES`].
fn split(texts: &Texts, threads: usize) -> Vec<Range<usize>> {
    let bytes: usize = (0..texts.len()).map(|index| texts.document(index).len()).sum();
    let target = (bytes / threads).max(CHUNK_BYTES);
    let mut ranges = Vec::with_capacity(threads);
    let (mut start, mut filled) = (0, 0);
    for index in 0..texts.len() {
        filled += texts.document(index).len();
        if filled >= target && index + 1 < texts.len() && ranges.len() + 1 < threads {
            ranges.push(start..index + 1);
            (start, filled) = (index + 1, 0);
        }
    }
    ranges.push(start..texts.len());
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_cover_every_pair_once(
            lens in proptest::collection::vec(0usize..9000, 1..60),
            threads in 1usize..9,
        ) {
            let documents: Vec<String> = lens.iter().map(|&len| "a".repeat(len)).collect();
            let texts = Texts::Rerank { query: "q".to_owned(), documents };
            let ranges = split(&texts, threads);
            prop_assert!(ranges.len() <= threads);
            let covered: Vec<usize> = ranges.into_iter().flatten().collect();
            prop_assert_eq!(covered, (0..lens.len()).collect::<Vec<_>>());
        }
    }
}
