//! MLX's errors, sorted by what the caller does next.
//!
//! MLX throws in C++, mlx-c catches at each call and mlx-rs hands the text on: only the text tells what happened. Two
//! faults never become an exception that can be caught: memory that the CPU has none of, for which `memory` asks before,
//! and what Metal says of a command buffer after it was committed, which MLX throws in the driver's callback.

use std::collections::TryReserveError;

use mlx_rs::error::{AsSliceError, Exception};
use rerank_core::{BackendError, BatchShape, Fault};

/// Parts of messages that mean more than a failed call: of MLX's allocators, of C++, of Metal.
const FAULTS: &[(&str, Fault)] = &[
    ("Unable to allocate", Fault::OutOfMemory),
    ("greater than the maximum allowed buffer size", Fault::OutOfMemory),
    ("[metal::malloc] Resource limit", Fault::OutOfMemory),
    ("bad_alloc", Fault::OutOfMemory),
    ("kIOGPUCommandBufferCallbackErrorOutOfMemory", Fault::OutOfMemory),
    ("Insufficient Memory", Fault::OutOfMemory),
    ("kIOGPUCommandBufferCallbackErrorHang", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorImpactingInteractivity", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorInnocentVictim", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorPageFault", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorSubmissionsIgnored", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorTimeout", Fault::DeviceLost),
];

/// An error of a forward pass, wherever mlx-rs noticed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum MlxError {
    /// Building or running the graph.
    #[error("{}", .0.what())]
    Graph(#[from] Exception),
    /// Memory that the system has none of, so that MLX was not called.
    #[error("no memory for the batch: {0}")]
    Room(#[from] TryReserveError),
    /// Reading the logits, which is where the graph is waited for.
    #[error(transparent)]
    Logits(#[from] AsSliceError),
}

impl MlxError {
    fn fault(&self) -> Fault {
        match self {
            Self::Room(_) => Fault::OutOfMemory,
            Self::Graph(_) | Self::Logits(_) => Fault::find(FAULTS, &self.to_string()),
        }
    }
}

/// Sorts an error of a forward pass over a batch of this shape.
pub(super) fn scoring(error: MlxError, shape: BatchShape) -> BackendError {
    let fault = error.fault();
    if fault == Fault::OutOfMemory {
        // What MLX keeps for later is what the halves need now; where that fails too, they say so themselves.
        let _ = mlx_rs::memory::clear_cache();
    }
    fault.scoring(shape, error.to_string(), error)
}

/// Sorts an error of loading: whatever it was, the model is not on the device.
pub(super) fn loading(error: impl Into<MlxError>) -> BackendError {
    let error = error.into();
    error.fault().loading(error.to_string(), error)
}

#[cfg(test)]
mod tests {
    use mlx_rs::Array;
    use mlx_rs::error::Exception;
    use rerank_core::{BackendError, BatchShape, Fault};

    use super::{FAULTS, loading, scoring};
    use crate::runtime::memory::room_for;

    const SHAPE: BatchShape = BatchShape { rows: 32, max_len: 128, tokens: 4096 };

    /// As MLX's Metal allocator says it.
    #[test]
    fn memory_that_is_not_there_is_out_of_memory() {
        let errors = [
            Exception::custom("[malloc] Unable to allocate 68719476736 bytes.").into(),
            Exception::custom(
                "[metal::malloc] Attempting to allocate 68719476736 bytes which is greater than the maximum allowed \
                 buffer size of 22613000192 bytes.",
            )
            .into(),
            room_for(1 << 60).unwrap_err().into(),
        ];
        for error in errors {
            let text = format!("{error}");
            assert!(
                matches!(scoring(error, SHAPE), BackendError::OutOfMemory { shape } if shape == SHAPE),
                "{text}"
            );
        }
    }

    #[test]
    fn what_metal_drops_loses_the_device() {
        let error = Exception::custom(
            "[METAL] Command buffer execution failed: Caused GPU Timeout Error \
             (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        );
        assert!(matches!(scoring(error.into(), SHAPE), BackendError::DeviceLost { .. }));
    }

    #[test]
    fn anything_else_fails_the_batch_only() {
        let (two, three) = (Array::from_slice(&[1.0_f32; 2], &[2]), Array::from_slice(&[1.0_f32; 3], &[3]));
        let error = two.add(three).unwrap_err();
        assert!(matches!(scoring(error.into(), SHAPE), BackendError::Inference { .. }));
    }

    #[test]
    fn loading_names_the_remedy_for_full_memory() {
        let allocator = Exception::custom("[malloc] Unable to allocate 17 bytes.");
        for error in [loading(allocator), loading(room_for(1 << 60).unwrap_err())] {
            assert!(error.to_string().contains("smaller dtype"), "{error}");
            assert!(matches!(error, BackendError::Load { .. }));
        }
        let other = loading(Exception::custom("[matmul] shapes do not match"));
        assert!(other.to_string().contains("shapes do not match"), "{other}");
    }

    #[test]
    fn no_message_hides_another() {
        for (index, (text, expected)) in FAULTS.iter().enumerate() {
            assert_eq!(
                Fault::find(FAULTS, text),
                *expected,
                "entry {index}, `{text}`, is hidden by an earlier one"
            );
        }
        assert_eq!(Fault::find(FAULTS, "[matmul] shapes do not match"), Fault::Call);
    }
}
