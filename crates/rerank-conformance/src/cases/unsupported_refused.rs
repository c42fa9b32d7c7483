//! A dtype or a device that the probe did not declare is refused as unsupported, never replaced.

use rerank_core::{BackendError, DType, Device, LoadSpec};

use crate::golden::GoldenModel;
use crate::subject::{Failure, Subject, ensure};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    let spec = subject.spec(GoldenModel::RerankTiny.model());
    for dtype in DType::ALL {
        if !subject.found.dtypes.contains(&dtype) {
            let what = format!("{dtype} on {}", spec.device);
            refused(subject, &LoadSpec { dtype, ..spec.clone() }, &what, &dtype.to_string())?;
        }
    }
    let found = subject.factory.probe().map_err(|unavailable| unavailable.reason)?;
    for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(4095), Device::Metal] {
        if found.iter().all(|found| found.device != device) {
            let what = device.to_string();
            refused(
                subject,
                &LoadSpec { device, ..spec.clone() },
                &what,
                what.split(':').next().unwrap_or(&what),
            )?;
        }
    }
    Ok(())
}

/// The message must name what was asked for, or nobody will know what to change.
fn refused(subject: &Subject, spec: &LoadSpec, what: &str, named: &str) -> Result<(), Failure> {
    match subject.factory.load(spec) {
        Ok(backend) => {
            let info = backend.info();
            Err(format!("asked for {what}, it loaded {} on {}", info.dtype, info.device).into())
        }
        Err(BackendError::Unsupported { what: message }) => {
            ensure!(
                message.to_lowercase().contains(named),
                "asked for {what}, it is refused without naming that: {message}"
            );
            Ok(())
        }
        Err(other) => Err(format!("asked for {what}, it is not `Unsupported` but: {other}").into()),
    }
}
