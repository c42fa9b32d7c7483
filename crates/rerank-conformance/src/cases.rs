//! One file for each property; each exports `check`.

pub(crate) mod batch_invariance;
pub(crate) mod batch_sizes;
#[cfg(test)]
mod catches;
pub(crate) mod garbage_weights;
pub(crate) mod golden_logits;
pub(crate) mod longest_row;
pub(crate) mod one_token_document;
pub(crate) mod permutation;
pub(crate) mod repeatability;
pub(crate) mod row_order;
pub(crate) mod unsupported_refused;
pub(crate) mod warm_up;
