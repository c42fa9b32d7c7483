//! libtorch's errors, sorted by what the caller does next.

use rerank_core::{BackendError, BatchShape, Fault};
use tch::TchError;

/// Messages that mean more than a failed call: of libtorch's allocators, of CUDA's runtime (`cudaGetErrorString`) and of
/// its libraries. tch hands on the text of a C++ exception, not its class.
const FAULTS: &[(&str, Fault)] = &[
    ("CUDA out of memory", Fault::OutOfMemory),
    ("CUDA error: out of memory", Fault::OutOfMemory),
    ("CUBLAS_STATUS_ALLOC_FAILED", Fault::OutOfMemory),
    ("CUDNN_STATUS_ALLOC_FAILED", Fault::OutOfMemory),
    ("MPS backend out of memory", Fault::OutOfMemory),
    ("DefaultCPUAllocator: can't allocate memory", Fault::OutOfMemory),
    ("DefaultCPUAllocator: not enough memory", Fault::OutOfMemory),
    ("std::bad_alloc", Fault::OutOfMemory),
    // Sticky errors: CUDA answers every later call of this process with the same one.
    ("an illegal memory access was encountered", Fault::DeviceLost),
    ("an illegal instruction was encountered", Fault::DeviceLost),
    ("device-side assert triggered", Fault::DeviceLost),
    ("hardware stack error", Fault::DeviceLost),
    ("invalid program counter", Fault::DeviceLost),
    ("misaligned address", Fault::DeviceLost),
    ("operation not supported on global/shared address space", Fault::DeviceLost),
    ("the launch timed out and was terminated", Fault::DeviceLost),
    ("unspecified launch failure", Fault::DeviceLost),
    ("uncorrectable ECC error encountered", Fault::DeviceLost),
    ("uncorrectable NVLink error detected", Fault::DeviceLost),
    ("busy or unavailable", Fault::DeviceLost),
    ("no CUDA-capable device is detected", Fault::DeviceLost),
    ("driver shutting down", Fault::DeviceLost),
    ("context is destroyed", Fault::DeviceLost),
    ("CUDA error: unknown error", Fault::DeviceLost),
    ("CUBLAS_STATUS_EXECUTION_FAILED", Fault::DeviceLost),
    ("CUBLAS_STATUS_INTERNAL_ERROR", Fault::DeviceLost),
    ("CUBLAS_STATUS_MAPPING_ERROR", Fault::DeviceLost),
    ("CUBLAS_STATUS_NOT_INITIALIZED", Fault::DeviceLost),
    ("CUDNN_STATUS_EXECUTION_FAILED", Fault::DeviceLost),
    ("CUDNN_STATUS_INTERNAL_ERROR", Fault::DeviceLost),
];

/// Sorts an error of a forward pass over a batch of this shape.
pub(crate) fn scoring(error: TchError, shape: BatchShape) -> BackendError {
    let message = text(&error);
    Fault::find(FAULTS, &message).scoring(shape, brief(&message), error)
}

/// Sorts an error of loading: whatever it was, the model is not on the device.
pub(crate) fn loading(error: TchError) -> BackendError {
    let message = text(&error);
    Fault::find(FAULTS, &message).loading(brief(&message), error)
}

/// What libtorch said, without tch's word for whose error it is.
pub(crate) fn text(error: &TchError) -> String {
    match error {
        TchError::Torch(message) => message.clone(),
        other => other.to_string(),
    }
}

/// The line that says what happened. libtorch appends a stack, and TorchScript puts its own above the message.
pub(crate) fn brief(message: &str) -> &str {
    let marked = message.lines().find_map(|line| line.split_once("Error: ").map(|(_, rest)| rest));
    marked.or_else(|| message.lines().find(|line| !line.trim().is_empty())).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use rerank_core::{BackendError, BatchShape, Fault};
    use tch::TchError;

    use super::{FAULTS, brief, loading, scoring};

    const SHAPE: BatchShape = BatchShape { rows: 32, max_len: 128, tokens: 4096 };

    fn torch(message: &str) -> TchError {
        TchError::Torch(message.to_owned())
    }

    #[test]
    fn memory_runs_out_on_each_device() {
        for message in [
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.2 GiB is free.",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 1 MB, max allowed: 9.1 GB).",
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
        ] {
            assert!(
                matches!(scoring(torch(message), SHAPE), BackendError::OutOfMemory { shape } if shape == SHAPE),
                "{message}"
            );
        }
    }

    #[test]
    fn broken_contexts_lose_the_device() {
        for message in [
            "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported",
            "CUDA error: device-side assert triggered",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
        ] {
            let error = scoring(torch(message), SHAPE);
            assert!(matches!(error, BackendError::DeviceLost { .. }), "{message}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn anything_else_fails_the_batch_only() {
        for error in [
            torch("CUDA error: invalid argument"),
            torch("mat1 and mat2 shapes cannot be multiplied"),
            TchError::Shape("of nothing".to_owned()),
        ] {
            assert!(matches!(scoring(error, SHAPE), BackendError::Inference { .. }));
        }
    }

    #[test]
    fn loading_names_the_remedy_for_full_memory() {
        let error = loading(torch("CUDA out of memory. Tried to allocate 2.00 GiB."));
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
    }

    #[test]
    fn the_message_is_found_between_stacks() {
        let script = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n  \
                      File \"x.py\", line 3\nRuntimeError: index out of range in self\n";
        assert_eq!(brief(script), "index out of range in self");
        assert_eq!(
            brief("shape '[2]' is invalid\nException raised from x at y.cpp:3"),
            "shape '[2]' is invalid"
        );
    }
}
