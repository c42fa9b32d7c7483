//! A backend without a model: deterministic lexical scores, at no cost, for every test above the contract.
//!
//! It can be told to be slow, to fail, to panic, to answer nonsense or to run out of memory: in-process by a
//! [`MockFactory`] with a [`Plan`], in a running server by the environment variable `RERANK_MOCK`
//! (`RERANK_MOCK="delay_us=2000,fail_every=3"`). It is also the template that new backends are copied from, so its
//! files are those that every backend has: `factory.rs` says what runs here and loads it, `model.rs` computes.
//!
//! It scores with no weights, so its scores mean nothing: it is for tests and for measuring what surrounds a backend.

mod factory;
mod model;
mod plan;

pub use factory::MockFactory;
pub use plan::{PLAN_VARIABLE, Plan};

/// The backend, following the plan in `RERANK_MOCK`.
pub static FACTORY: MockFactory = MockFactory::from_environment();
