//! What a backend will do for a batch, step by step: for people who want to see it.

use serde::{Deserialize, Serialize};

/// The steps of one forward pass, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionPlan {
    /// In the order in which they run.
    pub steps: Vec<PlanStep>,
    /// Bytes of all weights as the backend holds them, embedding tables included.
    pub weight_bytes: u64,
    /// Bytes that the same weights take in f32.
    pub f32_bytes: u64,
    /// Bytes of the buffers that a thread of the backend needs for what it works on. One that waits for others may have begun
    /// more than one thing.
    pub scratch_bytes_per_thread: u64,
}

/// One fused step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What it computes: `encoder.layers.0.mlp.up + gelu`.
    pub name: String,
    /// The kernel chosen: `int8 avx512-vnni`.
    pub kernel: String,
    /// Shape of what goes in, and of what comes out.
    pub shape: String,
    /// Bytes of the weights that it reads.
    pub weight_bytes: u64,
    /// Floating-point operations, a multiply-add as two; integer ones where the kernel is an integer one.
    pub flops: u64,
}

impl ExecutionPlan {
    /// Operations of all steps.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|step| step.flops).sum()
    }
}
