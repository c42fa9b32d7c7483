//! `--torch-module`: exports that fit are run, all others are refused with the reason. The modules are traced here, by
//! libtorch itself, so that no binary file has to be committed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend_torch::{FACTORY, MODULE_OPTION};
use rerank_core::{Backend, BackendError, BackendFactory as _, DType, Device, LoadSpec, Model, TokenBatch};
use tch::{CModule, Kind, Tensor};

/// Inputs in the order in which they are passed.
type Body = fn(&Tensor, &Tensor, &Tensor) -> Tensor;

/// A hundredth of the sum of a row's ids, padding left out, and its count of second-segment tokens.
fn fitting(ids: &Tensor, mask: &Tensor, types: &Tensor) -> Tensor {
    ((ids * mask).sum_dim_intlist(1, false, Kind::Float) / 100.0)
        + (types * mask).sum_dim_intlist(1, false, Kind::Float)
}

struct Fixture {
    folder: tempfile::TempDir,
    model: Arc<Model>,
}

impl Fixture {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rerank-model-tiny/model");
        let model = Arc::new(Model::open(&folder, "tiny").unwrap());
        Self { folder: tempfile::tempdir().unwrap(), model }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Traces a module whose `forward` has the first `inputs` of the three inputs.
    fn traced(&self, inputs: usize, body: Body) -> PathBuf {
        let example = [3, 1, 0].map(|value| Tensor::full([2, 3], value, (Kind::Int64, tch::Device::Cpu)));
        let mut closure = |given: &[Tensor]| {
            let given: Vec<&Tensor> = given.iter().chain(&example[given.len()..]).collect();
            vec![body(given[0], given[1], given[2])]
        };
        let module =
            CModule::create_by_tracing("Export", "forward", &example[..inputs], &mut closure).unwrap();
        let file = self.file("module.pt");
        module.save(&file).unwrap();
        file
    }

    fn load(&self, file: &Path, dtype: DType) -> Result<Box<dyn Backend>, BackendError> {
        let options = BTreeMap::from([(MODULE_OPTION.to_owned(), file.display().to_string())]);
        FACTORY.load(&LoadSpec {
            max_length: self.model.config.max_length(),
            model: self.model.clone(),
            device: Device::Cpu,
            dtype,
            threads: None,
            options,
        })
    }

    fn refusal(&self, file: &Path, dtype: DType) -> String {
        let error = self.load(file, dtype).err().expect("it does not fit");
        assert!(matches!(error, BackendError::Load { .. } | BackendError::Unsupported { .. }));
        let message = error.to_string();
        assert!(message.contains(&file.display().to_string()), "which file? {message}");
        assert!(!message.contains('\n'), "one sentence: {message}");
        message
    }
}

#[test]
fn a_module_that_fits_scores_in_row_order() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, fitting);
    let mut backend = fixture.load(&file, DType::F32).unwrap();
    assert_eq!(backend.info().details["module"], file.display().to_string());
    let mut batch = TokenBatch::builder(fixture.model.config.row_limits(16));
    batch.push(&[100, 200], &[0, 1]).unwrap();
    batch.push(&[5, 6, 7, 8, 9], &[0, 0, 1, 1, 1]).unwrap();
    assert_eq!(backend.score(&batch.finish().unwrap()).unwrap(), [4.0, 3.35]);
}

#[test]
fn a_column_of_logits_fits_too() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, |ids, mask, types| fitting(ids, mask, types).unsqueeze(1));
    fixture.load(&file, DType::F32).unwrap();
}

#[test]
fn other_inputs_are_refused() {
    let fixture = Fixture::new();
    let message = fixture.refusal(&fixture.traced(2, fitting), DType::F32);
    assert!(message.contains("input_ids, attention_mask, token_type_ids"), "{message}");
}

#[test]
fn inputs_in_another_order_are_refused() {
    let fixture = Fixture::new();
    // Attention in small: where the mask says that nothing is real, everything counts alike.
    let file = fixture.traced(3, |ids, _types, mask| {
        let weights = ((mask - 1) * 10_000).softmax(1, Kind::Float);
        (weights * ids).sum_dim_intlist(1, false, Kind::Float)
    });
    let message = fixture.refusal(&file, DType::F32);
    assert!(message.contains("another order"), "{message}");
}

/// Within what 16 bits may round, but between calls of one shape nothing rounds.
#[test]
fn padding_that_counts_a_little_is_refused_in_bf16() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, |ids, _, _| (ids.min_dim(1, false).0 * 0.5 - 10.0).to_kind(Kind::BFloat16));
    let message = fixture.refusal(&file, DType::BF16);
    assert!(message.contains("beside padding of token 0"), "{message}");
}

#[test]
fn padding_that_counts_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, |ids, _, _| ids.ones_like().sum_dim_intlist(1, false, Kind::Float));
    assert!(fixture.refusal(&file, DType::F32).contains("does not mask padding"));
}

#[test]
fn more_than_one_logit_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, |ids, mask, types| {
        let logit = fitting(ids, mask, types);
        Tensor::stack(&[&logit, &logit], 1)
    });
    assert!(fixture.refusal(&file, DType::F32).contains("one logit a row"));
}

#[test]
fn another_dtype_than_asked_for_is_refused() {
    let fixture = Fixture::new();
    let file = fixture.traced(3, |ids, mask, types| fitting(ids, mask, types).to_kind(Kind::BFloat16));
    fixture.load(&file, DType::BF16).unwrap();
    let message = fixture.refusal(&file, DType::F32);
    assert!(message.contains("computes in bf16"), "{message}");
    let message = fixture.refusal(&fixture.traced(3, fitting), DType::Int8);
    assert!(message.contains("--dtype int8"), "{message}");
}

#[test]
fn other_files_are_refused_with_the_remedy() {
    let fixture = Fixture::new();
    let absent = fixture.refusal(&fixture.file("absent.pt"), DType::F32);
    assert!(absent.contains("No such file"), "{absent}");
    let file = fixture.file("other.pt");
    std::fs::write(&file, "no archive").unwrap();
    assert!(fixture.refusal(&file, DType::F32).contains("no TorchScript"));
    let file = fixture.file("model.pt2");
    assert!(fixture.refusal(&file, DType::F32).contains("torch.jit.trace"));
}
