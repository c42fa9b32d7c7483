//! What the message of a driver or a library means for its device: their bindings hand on text and no code to match on.

use crate::{BackendError, BatchShape, BoxError};

/// What happened to a call on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the call needed did not fit.
    OutOfMemory,
    /// The context is broken: every later call fails too.
    DeviceLost,
    /// This call failed.
    Call,
}

impl Fault {
    /// The fault of the first entry whose text `message` contains; a failed call if there is none.
    pub fn find(table: &[(&str, Self)], message: &str) -> Self {
        table.iter().find(|(text, _)| message.contains(text)).map_or(Self::Call, |&(_, fault)| fault)
    }

    /// The error of a forward pass over a batch of this shape.
    pub fn scoring(
        self,
        shape: BatchShape,
        what: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> BackendError {
        match self {
            Self::OutOfMemory => BackendError::OutOfMemory { shape },
            Self::DeviceLost => BackendError::device_lost_from(what, source),
            Self::Call => BackendError::inference_from(what, source),
        }
    }

    /// The error of loading: whatever happened, the model is not on the device.
    pub fn loading(self, what: impl Into<String>, source: impl Into<BoxError>) -> BackendError {
        match self {
            Self::OutOfMemory => BackendError::load_from(
                "the weights do not fit into the device's memory: choose a smaller dtype or model",
                source,
            ),
            Self::DeviceLost | Self::Call => BackendError::load_from(what, source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;
    use crate::{BackendError, BatchShape};

    const SHAPE: BatchShape = BatchShape { rows: 32, max_len: 128, tokens: 4096 };
    const TABLE: &[(&str, Fault)] =
        &[("out of memory", Fault::OutOfMemory), ("memory access", Fault::DeviceLost)];

    #[test]
    fn messages_are_found_by_what_they_contain() {
        assert_eq!(Fault::find(TABLE, "CUDA error: out of memory (2)"), Fault::OutOfMemory);
        assert_eq!(Fault::find(TABLE, "an illegal memory access"), Fault::DeviceLost);
        assert_eq!(Fault::find(TABLE, "memory"), Fault::Call);
    }

    #[test]
    fn scoring_keeps_the_shape_or_the_message() {
        let error = |fault: Fault| fault.scoring(SHAPE, "it broke", "driver");
        assert!(matches!(error(Fault::OutOfMemory), BackendError::OutOfMemory { shape } if shape == SHAPE));
        assert!(
            matches!(error(Fault::DeviceLost), BackendError::DeviceLost { what, .. } if what == "it broke")
        );
        assert!(matches!(error(Fault::Call), BackendError::Inference { what, .. } if what == "it broke"));
    }

    #[test]
    fn loading_names_the_remedy_for_full_memory() {
        let error = |fault: Fault| fault.loading("it broke", "driver").to_string();
        assert!(error(Fault::OutOfMemory).contains("smaller dtype"));
        assert!(error(Fault::DeviceLost).contains("it broke"));
        assert!(error(Fault::Call).contains("it broke"));
    }
}
