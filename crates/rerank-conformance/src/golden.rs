//! The models that golden logits exist for, and those logits.

use std::sync::{Arc, OnceLock};

use rerank_core::Model;
use rerank_model_synth::Synth;
use serde::Deserialize;

/// A model whose logits PyTorch has computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoldenModel {
    /// The trained default model: BERT, 3 layers, on real text.
    RerankTiny,
    /// BERT, 2 layers of the MiniLM shape, seeded weights.
    MinilmL2,
    /// RoBERTa, 2 small layers, seeded weights.
    RobertaSmall,
    /// XLM-RoBERTa, 2 small layers, seeded weights.
    XlmRobertaSmall,
}

/// One row and its reference logit.
#[derive(Debug)]
pub(crate) struct GoldenRow {
    pub(crate) ids: Vec<u32>,
    pub(crate) type_ids: Vec<u32>,
    pub(crate) logit: f32,
}

/// A fixture file.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) weights_sha256: String,
    pub(crate) rows: Vec<GoldenRow>,
}

impl GoldenModel {
    /// Its name: of the fixture file, and of the preset if it is synthetic.
    pub fn name(self) -> &'static str {
        match self {
            Self::RerankTiny => "rerank-tiny",
            Self::MinilmL2 => "minilm-l2",
            Self::RobertaSmall => "roberta-small",
            Self::XlmRobertaSmall => "xlm-roberta-small",
        }
    }

    /// The model, opened once a process.
    pub fn model(self) -> Arc<Model> {
        static MODELS: [OnceLock<Arc<Model>>; 4] = [const { OnceLock::new() }; 4];
        let open = || match self {
            Self::RerankTiny => Model::from_bytes(
                rerank_model_tiny::NAME,
                rerank_model_tiny::config(),
                rerank_model_tiny::weights(),
            )
            .expect("the embedded model is complete"),
            Self::MinilmL2 | Self::RobertaSmall | Self::XlmRobertaSmall => synthetic(self.name()),
        };
        MODELS[self as usize].get_or_init(|| Arc::new(open())).clone()
    }

    /// Its rows and logits.
    pub(crate) fn golden(self) -> Golden {
        let json = match self {
            Self::RerankTiny => include_str!("../fixtures/golden/rerank-tiny.json"),
            Self::MinilmL2 => include_str!("../fixtures/golden/minilm-l2.json"),
            Self::RobertaSmall => include_str!("../fixtures/golden/roberta-small.json"),
            Self::XlmRobertaSmall => include_str!("../fixtures/golden/xlm-roberta-small.json"),
        };
        let file: File = serde_json::from_str(json).expect("fixtures have the schema of fixtures/README.md");
        let rows = file.rows.into_iter().map(|row| GoldenRow {
            type_ids: (0..row.ids.len()).map(|index| u32::from(index >= row.types_turn_at)).collect(),
            ids: row.ids,
            logit: row.logit,
        });
        Golden { weights_sha256: file.weights_sha256, rows: rows.collect() }
    }
}

/// A synthetic preset as a model.
pub(crate) fn synthetic(preset: &str) -> Model {
    let checkpoint = Synth::preset(preset)
        .and_then(|synth| synth.generate())
        .expect("presets have shapes that can be generated");
    Model::from_bytes(format!("synthetic/{preset}"), &checkpoint.config, checkpoint.weights)
        .expect("generated checkpoints are complete")
}

#[derive(Deserialize)]
struct File {
    weights_sha256: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    types_turn_at: usize,
    logit: f32,
}
