//! Each case must fail for a backend with the defect that it is there to catch, and pass for the same one without.

use std::cell::Cell;
use std::collections::BTreeMap;

use rerank_core::{
    Backend, BackendError, BackendFactory, BackendInfo, DType, Device, DeviceInfo, Layout, LoadSpec,
    ModelConfig, ShapePolicy, TokenBatch, Unavailable, Weights,
};

use crate::Case;
use crate::GoldenModel;
use crate::subject::Subject;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    SwapsRows,
    SortsRows,
    LeaksPadding,
    ForgetsLastRow,
    IgnoresDocument,
    DropsRowsAbove(usize),
    Drifts,
    TakesAnyDType,
    TakesAnyDevice,
    WarmUpSticks,
    ReadsNoWeights,
    AnswersNan,
}

/// Scores by shared words, with one defect.
struct Factory(Defect);

struct Lexical {
    defect: Defect,
    info: BackendInfo,
    calls: Cell<u32>,
    warmed: bool,
}

impl BackendFactory for Factory {
    fn name(&self) -> &'static str {
        "lexical"
    }

    fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
        Ok(vec![DeviceInfo { device: Device::Cpu, name: "test".to_owned(), dtypes: vec![DType::F32] }])
    }

    fn load(&self, spec: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
        if spec.dtype != DType::F32 && self.0 != Defect::TakesAnyDType {
            return Err(BackendError::unsupported(format!("{}: it computes in f32", spec.dtype)));
        }
        if spec.device != Device::Cpu && self.0 != Defect::TakesAnyDevice {
            return Err(BackendError::unsupported(format!("{}: it runs on cpu", spec.device)));
        }
        if self.0 != Defect::ReadsNoWeights {
            read_all(&spec.model.config, &spec.model.weights)?;
        }
        let info = BackendInfo {
            backend: self.name().to_owned(),
            device: spec.device,
            device_name: "test".to_owned(),
            dtype: spec.dtype,
            threads: 1,
            layout: Layout::Packed,
            shapes: ShapePolicy::Dynamic,
            max_length: spec.max_length,
            max_rows: None,
            details: BTreeMap::new(),
        };
        Ok(Box::new(Lexical { defect: self.0, info, calls: Cell::new(0), warmed: false }))
    }
}

impl Backend for Lexical {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn score(&mut self, batch: &TokenBatch) -> Result<Vec<f32>, BackendError> {
        self.calls.set(self.calls.get() + 1);
        let mut logits: Vec<f32> = (0..batch.rows()).map(|row| self.logit(batch, row)).collect();
        match self.defect {
            Defect::SwapsRows if logits.len() > 1 => logits.swap(0, 1),
            Defect::SortsRows => logits.sort_by(f32::total_cmp),
            Defect::ForgetsLastRow if logits.len() > 1 => drop(logits.pop()),
            Defect::DropsRowsAbove(most) if logits.len() > most => logits[most..].fill(0.0),
            _ => {}
        }
        Ok(logits)
    }

    fn warm_up(&mut self, _filler: &TokenBatch) -> Result<(), BackendError> {
        self.warmed = true;
        Ok(())
    }
}

impl Lexical {
    fn logit(&self, batch: &TokenBatch, row: usize) -> f32 {
        let ids = &batch.ids()[batch.row(row)];
        let separator = ids[ids.len() - 1];
        let end = ids.iter().position(|&id| id == separator).unwrap_or(0).max(1);
        let query = &ids[1.min(end)..end];
        let document = if self.defect == Defect::IgnoresDocument { &[] } else { &ids[end..] };
        let shared = query.iter().filter(|id| document.contains(id)).count();
        let hash = ids.iter().fold(0_u32, |hash, id| (hash ^ id).wrapping_mul(0x0100_0193));
        let varied = if self.defect == Defect::IgnoresDocument { 0.0 } else { (hash >> 20) as f32 / 4096.0 };
        let base = shared as f32 / query.len().max(1) as f32 + varied * 0.1;
        match self.defect {
            Defect::LeaksPadding => base + (batch.max_len() - ids.len()) as f32 * 1e-3,
            Defect::Drifts => base + self.calls.get() as f32 * 1e-6,
            Defect::WarmUpSticks if self.warmed => base + 0.5,
            Defect::AnswersNan if row == 3 => f32::NAN,
            _ => base,
        }
    }
}

fn read_all(config: &ModelConfig, weights: &Weights) -> Result<(), BackendError> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let linear = |name: String, out: usize, into: usize| {
        weights.f32(&format!("{name}.weight"), &[out, into])?;
        weights.f32(&format!("{name}.bias"), &[out])
    };
    let norm = |name: String| {
        weights.f32(&format!("{name}.weight"), &[hidden])?;
        weights.f32(&format!("{name}.bias"), &[hidden])
    };
    weights.f32("embeddings.word.weight", &[config.vocab_size, hidden])?;
    weights.f32("embeddings.position.weight", &[config.max_position_embeddings, hidden])?;
    weights.f32("embeddings.token_type.weight", &[config.type_vocab_size, hidden])?;
    norm("embeddings.norm".to_owned())?;
    for layer in 0..config.layers {
        let layer = format!("encoder.layers.{layer}");
        for part in ["query", "key", "value", "output"] {
            linear(format!("{layer}.attention.{part}"), hidden, hidden)?;
        }
        norm(format!("{layer}.attention.norm"))?;
        linear(format!("{layer}.mlp.up"), inner, hidden)?;
        linear(format!("{layer}.mlp.down"), hidden, inner)?;
        norm(format!("{layer}.mlp.norm"))?;
    }
    linear("head.dense".to_owned(), hidden, hidden)?;
    linear("head.out".to_owned(), 1, hidden)?;
    Ok(())
}

fn outcome(defect: Defect, case: Case) -> Result<(), String> {
    let factory: &'static Factory = Box::leak(Box::new(Factory(defect)));
    let found = factory.probe().expect("the processor is there").remove(0);
    case.check(&Subject { factory, found, dtype: DType::F32, tolerance: 1e-4 })
        .map_err(|failure| failure.to_string())
}

const CAUGHT: &[(Case, &[Defect])] = &[
    (Case::RowOrder, &[Defect::SwapsRows, Defect::SortsRows, Defect::ForgetsLastRow, Defect::AnswersNan]),
    (Case::BatchInvariance, &[Defect::LeaksPadding, Defect::SwapsRows, Defect::ForgetsLastRow]),
    (Case::Permutation, &[Defect::SwapsRows, Defect::SortsRows, Defect::ForgetsLastRow]),
    (Case::LongestRow, &[Defect::LeaksPadding, Defect::SwapsRows, Defect::ForgetsLastRow]),
    (Case::OneTokenDocument, &[Defect::IgnoresDocument, Defect::SwapsRows, Defect::AnswersNan]),
    (Case::BatchSizes, &[Defect::DropsRowsAbove(16), Defect::DropsRowsAbove(255), Defect::ForgetsLastRow]),
    (Case::Repeatability, &[Defect::Drifts]),
    (Case::UnsupportedRefused, &[Defect::TakesAnyDType, Defect::TakesAnyDevice]),
    (Case::WarmUp, &[Defect::WarmUpSticks]),
    (Case::GarbageWeights, &[Defect::ReadsNoWeights]),
];

#[test]
fn every_case_catches_its_defects_and_nothing_else() {
    for &(case, defects) in CAUGHT {
        assert_eq!(outcome(Defect::None, case), Ok(()), "{case}");
        for &defect in defects {
            assert!(outcome(defect, case).is_err(), "{case} does not catch {defect:?}");
        }
    }
    let covered = CAUGHT.len() + Case::GOLDEN.len();
    assert_eq!(Case::all().count(), covered, "a case without a defect to catch");
}

#[test]
fn golden_logits_are_not_met_by_chance() {
    for &case in Case::GOLDEN {
        let failure = outcome(Defect::None, case).expect_err("word counts are no model");
        assert!(failure.contains("further than 1e-4 from PyTorch's"), "{failure}");
    }
}

#[test]
fn golden_rows_span_the_lengths_and_the_scores() {
    for model in [
        GoldenModel::RerankTiny,
        GoldenModel::MinilmL2,
        GoldenModel::RobertaSmall,
        GoldenModel::XlmRobertaSmall,
    ] {
        let golden = model.golden();
        let lens: Vec<usize> = golden.rows.iter().map(|row| row.ids.len()).collect();
        assert!(lens.contains(&3) && lens.contains(&model.model().config.max_length()), "{lens:?}");
        let logits: Vec<f32> = golden.rows.iter().map(|row| row.logit).collect();
        let spread =
            logits.iter().copied().fold(f32::MIN, f32::max) - logits.iter().copied().fold(f32::MAX, f32::min);
        assert!(spread > 5.0, "{}: logits span {spread} only", model.name());
    }
}
