//! Where a backend runs, as users name it on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One compute device. Written `cpu`, `cuda`, `cuda:1` or `metal`; `mps` is accepted for `metal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// The NVIDIA GPU with this index, as CUDA counts them.
    Cuda(u32),
    /// The Apple GPU.
    Metal,
}

/// The text names no device.
#[derive(Debug, thiserror::Error)]
#[error("unknown device `{0}`: expected `cpu`, `cuda`, `cuda:<n>` or `metal`")]
pub struct ParseDeviceError(String);

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" | "mps" => Ok(Self::Metal),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| ParseDeviceError(text.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = ParseDeviceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn names_round_trip_and_aliases_are_understood() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::Metal] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        assert_eq!("mps".parse::<Device>().unwrap(), Device::Metal);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("expected `cpu`"), "{error}");
        }
    }
}
