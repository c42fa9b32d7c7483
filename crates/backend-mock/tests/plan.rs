//! Every fault of a plan happens when it is due, and only then.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_mock::{MockFactory, Plan};
use rerank_core::{
    Backend, BackendError, BackendFactory, DType, Device, LoadSpec, Model, PositionScheme, RowLimits,
    TokenBatch,
};

const LIMITS: RowLimits =
    RowLimits { max_length: 64, vocab_size: 100, type_vocab_size: 2, positions: PositionScheme::FromZero };

fn load(plan: Plan) -> Box<dyn Backend> {
    let config = serde_json::json!({
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_act": "gelu",
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 100, "type_vocab_size": 2, "max_position_embeddings": 64, "layer_norm_eps": 1e-12,
        "pad_token_id": 0, "id2label": {"0": "LABEL_0"}
    });
    // A safetensors file without tensors: eight bytes of header length and an empty header.
    let weights = [&8_u64.to_le_bytes()[..], b"{}      "].concat();
    let model = Model::from_bytes("none", config.to_string().as_bytes(), weights)
        .expect("an empty checkpoint is a checkpoint");
    let spec = LoadSpec {
        model: Arc::new(model),
        device: Device::Cpu,
        dtype: DType::F32,
        threads: None,
        options: BTreeMap::new(),
        max_length: LIMITS.max_length,
    };
    MockFactory::with_plan(plan).load(&spec).expect("the plan loads")
}

fn batch(rows: usize) -> TokenBatch {
    TokenBatch::filler(LIMITS, rows, 8).expect("filler keeps to its limits")
}

const SECOND: Option<NonZeroU64> = NonZeroU64::new(2);

#[test]
fn without_a_plan_it_answers_every_row() {
    let mut backend = load(Plan::NONE);
    backend.warm_up(&batch(4)).unwrap();
    let logits = backend.score(&batch(4)).unwrap();
    assert_eq!(logits.len(), 4);
    assert!(logits.iter().all(|logit| logit.is_finite()));
}

#[test]
fn faults_come_every_nth_batch_whatever_was_warmed_up() {
    let mut backend = load(Plan { fail_every: SECOND, ..Plan::NONE });
    for _ in 0..3 {
        backend.warm_up(&batch(1)).unwrap();
        assert!(backend.score(&batch(1)).is_ok());
        assert!(matches!(backend.score(&batch(1)), Err(BackendError::Inference { .. })));
    }
}

#[test]
fn every_kind_of_fault_can_be_planned() {
    let mut lost = load(Plan { lose_device_every: SECOND, ..Plan::NONE });
    lost.score(&batch(1)).unwrap();
    assert!(matches!(lost.score(&batch(1)), Err(BackendError::DeviceLost { .. })));

    let mut nan = load(Plan { nan_every: SECOND, ..Plan::NONE });
    nan.score(&batch(3)).unwrap();
    let logits = nan.score(&batch(3)).unwrap();
    assert!(logits[2].is_nan() && logits[1].is_finite());

    let mut short = load(Plan { short_every: SECOND, ..Plan::NONE });
    short.score(&batch(3)).unwrap();
    assert_eq!(short.score(&batch(3)).unwrap().len(), 2);

    let mut panicking = load(Plan { panic_every: SECOND, ..Plan::NONE });
    panicking.score(&batch(1)).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| panicking.score(&batch(1)))).is_err());

    let mut small = load(Plan { oom_above: NonZeroUsize::new(2), ..Plan::NONE });
    assert!(matches!(small.score(&batch(3)), Err(BackendError::OutOfMemory { shape }) if shape.rows == 3));
    assert_eq!(small.score(&batch(2)).unwrap().len(), 2);
}

#[test]
fn slowness_is_at_least_what_was_planned() {
    let plan =
        Plan { batch_delay: Duration::from_millis(3), token_delay: Duration::from_micros(100), ..Plan::NONE };
    let mut backend = load(plan);
    let start = Instant::now();
    backend.score(&batch(4)).unwrap();
    assert!(start.elapsed() >= Duration::from_micros(3000 + 32 * 100));
    assert_eq!(backend.info().details["plan"], "delay_us=3000,token_ns=100000");
}
