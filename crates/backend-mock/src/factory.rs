//! What runs on this machine, and how it is loaded.

use std::collections::BTreeMap;

use rerank_core::{
    Backend, BackendError, BackendFactory, BackendInfo, DType, Device, DeviceInfo, Layout, LoadSpec,
    ShapePolicy, Unavailable,
};

use crate::Plan;
use crate::model::MockBackend;

/// Loads mock backends; [`crate::FACTORY`] is the one that servers register.
#[derive(Debug)]
pub struct MockFactory {
    plan: Option<Plan>,
}

impl MockFactory {
    /// Follows the plan that the environment holds at the moment of loading.
    pub const fn from_environment() -> Self {
        Self { plan: None }
    }

    /// Follows `plan`. Every loaded backend counts its batches from one.
    pub const fn with_plan(plan: Plan) -> Self {
        Self { plan: Some(plan) }
    }
}

impl BackendFactory for MockFactory {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        let name = "no device, scores are lexical".to_owned();
        Ok(vec![DeviceInfo { device: Device::Cpu, name, dtypes: vec![DType::F32] }])
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        let devices = self.probe().map_err(|unavailable| BackendError::unsupported(unavailable.reason))?;
        let Some(found) = devices.into_iter().find(|found| found.device == spec.device) else {
            return Err(BackendError::unsupported(format!("mock on device {}: it runs on cpu", spec.device)));
        };
        if !found.dtypes.contains(&spec.dtype) {
            return Err(BackendError::unsupported(format!("mock in {}: it computes in f32", spec.dtype)));
        }
        let plan = match &self.plan {
            Some(plan) => plan.clone(),
            None => Plan::from_environment()?,
        };
        std::thread::sleep(plan.load_delay);
        let info = BackendInfo {
            backend: self.name().to_owned(),
            device: found.device,
            device_name: found.name,
            dtype: spec.dtype,
            threads: 1,
            layout: Layout::Packed,
            shapes: ShapePolicy::Dynamic,
            max_length: spec.max_length,
            max_rows: None,
            details: BTreeMap::from([
                ("plan".to_owned(), plan.to_string()),
                // Read by whoever compares logits with a model's.
                ("no_reference".to_owned(), "its scores are lexical, not a model's".to_owned()),
            ]),
        };
        Ok(Box::new(MockBackend::new(info, plan)))
    }
}
