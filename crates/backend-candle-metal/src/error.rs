//! candle's errors, sorted by what the caller does next.

use candle_core::Error;
use rerank_core::{BackendError, BatchShape, Fault};

/// Messages of the drivers that mean more than a failed call. CUDA and cuBLAS print the constant's name, Metal prints
/// the constant or, for a buffer that it did not give, what it was to be.
const FAULTS: &[(&str, Fault)] = &[
    ("CUDA_ERROR_OUT_OF_MEMORY", Fault::OutOfMemory),
    ("CUBLAS_STATUS_ALLOC_FAILED", Fault::OutOfMemory),
    ("kIOGPUCommandBufferCallbackErrorOutOfMemory", Fault::OutOfMemory),
    ("Insufficient Memory", Fault::OutOfMemory),
    ("Failed to create metal resource: Buffer", Fault::OutOfMemory),
    // Sticky errors: the CUDA driver answers every later call in this context with the same one.
    ("CUDA_ERROR_ASSERT", Fault::DeviceLost),
    ("CUDA_ERROR_CONTAINED", Fault::DeviceLost),
    ("CUDA_ERROR_CONTEXT_IS_DESTROYED", Fault::DeviceLost),
    ("CUDA_ERROR_DEINITIALIZED", Fault::DeviceLost),
    ("CUDA_ERROR_DEVICE_UNAVAILABLE", Fault::DeviceLost),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", Fault::DeviceLost),
    ("CUDA_ERROR_EXTERNAL_DEVICE", Fault::DeviceLost),
    ("CUDA_ERROR_HARDWARE_STACK_ERROR", Fault::DeviceLost),
    ("CUDA_ERROR_ILLEGAL_ADDRESS", Fault::DeviceLost),
    ("CUDA_ERROR_ILLEGAL_INSTRUCTION", Fault::DeviceLost),
    ("CUDA_ERROR_INVALID_ADDRESS_SPACE", Fault::DeviceLost),
    ("CUDA_ERROR_INVALID_CONTEXT", Fault::DeviceLost),
    ("CUDA_ERROR_INVALID_PC", Fault::DeviceLost),
    ("CUDA_ERROR_LAUNCH_FAILED", Fault::DeviceLost),
    ("CUDA_ERROR_LAUNCH_TIMEOUT", Fault::DeviceLost),
    ("CUDA_ERROR_MISALIGNED_ADDRESS", Fault::DeviceLost),
    ("CUDA_ERROR_MPS_CLIENT_TERMINATED", Fault::DeviceLost),
    ("CUDA_ERROR_MPS_RPC_FAILURE", Fault::DeviceLost),
    ("CUDA_ERROR_NO_DEVICE", Fault::DeviceLost),
    ("CUDA_ERROR_NVLINK_UNCORRECTABLE", Fault::DeviceLost),
    ("CUDA_ERROR_TENSOR_MEMORY_LEAK", Fault::DeviceLost),
    ("CUDA_ERROR_UNKNOWN", Fault::DeviceLost),
    ("CUBLAS_STATUS_EXECUTION_FAILED", Fault::DeviceLost),
    ("CUBLAS_STATUS_INTERNAL_ERROR", Fault::DeviceLost),
    ("CUBLAS_STATUS_MAPPING_ERROR", Fault::DeviceLost),
    ("CUBLAS_STATUS_NOT_INITIALIZED", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorHang", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorImpactingInteractivity", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorInnocentVictim", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorPageFault", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorSubmissionsIgnored", Fault::DeviceLost),
    ("kIOGPUCommandBufferCallbackErrorTimeout", Fault::DeviceLost),
];

/// Sorts an error of a forward pass over a batch of this shape.
pub(crate) fn scoring(error: Error, shape: BatchShape) -> BackendError {
    let message = error.to_string();
    Fault::find(FAULTS, &message).scoring(shape, first_line(&message), error)
}

/// Sorts an error of loading: whatever it was, the model is not on the device.
pub(crate) fn loading(error: Error) -> BackendError {
    let message = error.to_string();
    Fault::find(FAULTS, &message).loading(first_line(&message), error)
}

/// candle appends a backtrace after the message where `RUST_BACKTRACE` is set.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use candle_core::Error;
    use rerank_core::{BackendError, BatchShape, Fault};

    use super::{FAULTS, loading, scoring};

    const SHAPE: BatchShape = BatchShape { rows: 32, max_len: 128, tokens: 4096 };

    /// Messages as the drivers print them, through the variants that candle wraps them in.
    fn cuda(message: &str) -> Error {
        Error::Cuda(message.to_owned().into())
    }

    #[test]
    fn memory_runs_out_by_each_driver() {
        for error in [
            cuda(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#),
            cuda("CublasError(CUBLAS_STATUS_ALLOC_FAILED)"),
            Error::wrap(
                "Command buffer had following error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            ),
            Error::wrap("Failed to create metal resource: Buffer"),
            cuda(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#).context("layer 3"),
        ] {
            let text = error.to_string();
            assert!(
                matches!(scoring(error, SHAPE), BackendError::OutOfMemory { shape } if shape == SHAPE),
                "{text}"
            );
        }
    }

    #[test]
    fn broken_contexts_lose_the_device() {
        for error in [
            cuda(r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")"#),
            cuda("CublasError(CUBLAS_STATUS_EXECUTION_FAILED)"),
            Error::wrap(
                "Command buffer had following error: Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
            ),
        ] {
            let text = error.to_string();
            assert!(matches!(scoring(error, SHAPE), BackendError::DeviceLost { .. }), "{text}");
        }
    }

    #[test]
    fn anything_else_fails_the_batch_only() {
        for error in [
            cuda(r#"DriverError(CUDA_ERROR_INVALID_VALUE, "invalid argument")"#),
            Error::Msg("shape mismatch".to_owned()),
            Error::UnwrapNone,
        ] {
            assert!(matches!(scoring(error, SHAPE), BackendError::Inference { .. }));
        }
    }

    #[test]
    fn loading_names_the_remedy_for_full_memory() {
        let error = loading(cuda(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#));
        assert!(error.to_string().contains("smaller dtype"), "{error}");
        assert!(matches!(error, BackendError::Load { .. }));
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
        assert_eq!(Fault::find(FAULTS, "CUDA_ERROR_NOT_FOUND"), Fault::Call);
    }
}
