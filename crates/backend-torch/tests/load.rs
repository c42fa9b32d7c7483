//! What a loaded backend says of itself: threads of each worker, dtype and products.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use backend_torch::FACTORY;
use rerank_core::{BackendFactory as _, DType, Device, LoadSpec, Model};

fn spec(dtype: DType, threads: usize) -> LoadSpec {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rerank-model-tiny/model");
    let model = Arc::new(Model::open(&folder, "tiny").unwrap());
    LoadSpec {
        max_length: model.config.max_length(),
        model,
        device: Device::Cpu,
        dtype,
        threads: NonZeroUsize::new(threads),
        options: BTreeMap::new(),
    }
}

#[test]
fn every_worker_computes_with_the_threads_that_it_was_given() {
    // More than most machines would choose for each of three workers.
    let asked = 5;
    let load = move || {
        let told = FACTORY.load(&spec(DType::F32, asked)).unwrap().info().threads;
        // What libtorch would use for a call from this thread.
        (told, tch::get_num_threads())
    };
    let workers = [(); 3].map(|()| std::thread::spawn(load));
    for worker in workers {
        assert_eq!(worker.join().unwrap(), (asked, 5));
    }
}

#[test]
fn threads_are_for_the_cpu() {
    let spec = LoadSpec { device: Device::Cuda(0), ..spec(DType::F16, 4) };
    let error = FACTORY.load(&spec).err().unwrap().to_string();
    assert!(error.contains("cuda:0"), "{error}");
}

#[test]
fn int8_says_which_layer_it_uses() {
    let backend = FACTORY.load(&spec(DType::Int8, 1)).unwrap();
    let details = &backend.info().details;
    assert_eq!(details["products"], "quantized::linear_dynamic");
}
