//! Who may come in: a budget of tokens, taken all or nothing at the door and given back when the answer is out.
//!
//! Before tokenising, a request is charged an upper bound (a token covers at least a byte, a row is at most the model's
//! length); after it, what it really has. So the decision falls once, before any work, and the queue is never charged for
//! tokens that do not exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget, shared by all requests.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    taken: AtomicUsize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: AtomicUsize::new(0) })
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes `tokens` or nothing. More than the whole budget counts as the whole: a large request is let in when it is
    /// alone, and its true size decides later.
    pub(crate) fn admit(self: &Arc<Self>, tokens: usize) -> Option<Reservation> {
        let tokens = tokens.min(self.limit);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken.checked_add(tokens).filter(|&sum| sum <= self.limit)
            })
            .ok()
            .map(|_| Reservation { admission: Arc::clone(self), tokens: AtomicUsize::new(tokens) })
    }
}

/// Tokens taken from the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    admission: Arc<Admission>,
    tokens: AtomicUsize,
}

impl Reservation {
    /// The whole budget.
    pub(crate) fn limit(&self) -> usize {
        self.admission.limit
    }

    /// Corrects the charge to what the request really has, which may exceed the bound by a tokenizer's whim; it was
    /// admitted, so it stays.
    pub(crate) fn correct(&self, tokens: usize) {
        let before = self.tokens.swap(tokens, Ordering::Relaxed);
        self.admission.taken.fetch_add(tokens, Ordering::Relaxed);
        self.admission.taken.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.admission.taken.fetch_sub(*self.tokens.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Admission;

    #[test]
    fn all_or_nothing_and_everything_comes_back() {
        let admission = Admission::new(100);
        let first = admission.admit(60).unwrap();
        assert!(admission.admit(41).is_none());
        assert_eq!(admission.taken(), 60, "a refusal takes nothing");
        first.correct(20);
        let second = admission.admit(80).unwrap();
        assert!(admission.admit(1).is_none());
        drop((first, second));
        assert_eq!(admission.taken(), 0);
    }

    #[test]
    fn a_request_larger_than_the_budget_is_let_in_alone() {
        let admission = Admission::new(100);
        let small = admission.admit(1).unwrap();
        assert!(admission.admit(1_000).is_none());
        drop(small);
        assert!(admission.admit(1_000).is_some());
    }
}
