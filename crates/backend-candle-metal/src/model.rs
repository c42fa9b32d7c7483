//! The two forms of the model: packed on the CPU in f32, padded everywhere else.

pub(crate) mod packed;
pub(crate) mod padded;
