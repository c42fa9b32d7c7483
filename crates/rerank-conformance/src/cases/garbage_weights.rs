//! Damaged weights are refused at load, and the error says which tensor: a model that loads must be the model.

use std::sync::Arc;

use rerank_core::{BackendError, Model};
use rerank_model_synth::{Architecture, Checkpoint, Synth};
use serde_json::Value;

use crate::subject::{Failure, Subject, ensure};

pub(crate) fn check(subject: &Subject) -> Result<(), Failure> {
    for architecture in [Architecture::Bert, Architecture::XlmRoberta] {
        let good = small(architecture);
        subject.load(Arc::new(Model::from_bytes("small", &good.config, good.weights.clone())?))?;

        let half = good.weights[..good.weights.len() / 2].to_vec();
        refused(subject, &good, half, "half of the file", "")?;
        for tensor in Tensor::all(&good.weights) {
            let name = &tensor.name;
            let canonical = tensor.canonical();
            refused(subject, &good, tensor.poisoned(&good.weights), &format!("NaN in {name}"), canonical)?;
            refused(subject, &good, tensor.renamed(&good.weights), &format!("no {name}"), canonical)?;
            refused(
                subject,
                &good,
                tensor.reshaped(&good.weights),
                &format!("one dimension more in {name}"),
                canonical,
            )?;
        }
    }
    Ok(())
}

fn small(architecture: Architecture) -> Checkpoint {
    let preset = match architecture {
        Architecture::Bert => "minilm-l2",
        Architecture::Roberta | Architecture::XlmRoberta => "xlm-roberta-small",
    };
    let synth = Synth::preset(preset).expect("the preset exists");
    let small =
        Synth { hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2, vocab_size: 200, ..synth };
    small.generate().expect("two heads divide a width of 32")
}

fn refused(
    subject: &Subject,
    good: &Checkpoint,
    weights: Vec<u8>,
    what: &str,
    named: &str,
) -> Result<(), Failure> {
    let loaded = Model::from_bytes("garbage", &good.config, weights)
        .and_then(|model| subject.factory.load(&subject.spec(Arc::new(model))).map(drop));
    match loaded {
        Ok(()) => Err(format!("weights with {what} were loaded").into()),
        Err(BackendError::Load { what: message, .. }) => {
            ensure!(
                message.contains(named),
                "weights with {what} are refused without naming `{named}`: {message}"
            );
            Ok(())
        }
        Err(other) => Err(format!("weights with {what} are not refused as `Load` but: {other}").into()),
    }
}

/// Where one tensor lies in a safetensors file, whose header is 8 bytes of length and then JSON.
struct Tensor {
    name: String,
    entry: Value,
}

impl Tensor {
    fn all(file: &[u8]) -> Vec<Self> {
        let header: Value = serde_json::from_slice(&file[8..data_start(file)]).expect("we wrote this header");
        let tensors = header.as_object().expect("a header is an object").iter();
        tensors
            .filter(|(name, _)| *name != "__metadata__")
            .map(|(name, entry)| Self { name: name.clone(), entry: entry.clone() })
            .collect()
    }

    /// A part of the canonical name that the message must hold: `query.weight` is spelt alike on both sides, other
    /// tensors are named by what they are part of.
    fn canonical(&self) -> &'static str {
        const PARTS: [(&str, &str); 14] = [
            ("word_embeddings", "embeddings.word"),
            ("position_embeddings", "embeddings.position"),
            ("token_type_embeddings", "embeddings.token_type"),
            ("embeddings.LayerNorm", "embeddings.norm"),
            ("query", "attention.query"),
            ("key", "attention.key"),
            ("value", "attention.value"),
            ("attention.output.dense", "attention.output"),
            ("attention.output.LayerNorm", "attention.norm"),
            ("intermediate", "mlp.up"),
            ("output.dense", "mlp.down"),
            ("output.LayerNorm", "mlp.norm"),
            ("dense", "head.dense"),
            ("", "head.out"),
        ];
        let found = PARTS.iter().find(|(part, _)| self.name.contains(part));
        found.expect("the last part is in every name").1
    }

    /// Its last element is NaN.
    fn poisoned(&self, file: &[u8]) -> Vec<u8> {
        let end = self.entry["data_offsets"][1].as_u64().expect("offsets are numbers") as usize;
        let mut file = file.to_vec();
        let at = data_start(&file) + end - 4;
        file[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        file
    }

    /// It goes by another name.
    fn renamed(&self, file: &[u8]) -> Vec<u8> {
        edit_header(file, |header| {
            let tensors = header.as_object_mut().expect("a header is an object");
            tensors.remove(&self.name);
            tensors.insert("unheard.of".to_owned(), self.entry.clone());
        })
    }

    /// The same elements under a shape of one dimension more.
    fn reshaped(&self, file: &[u8]) -> Vec<u8> {
        edit_header(file, |header| {
            let shape = header[&self.name]["shape"].as_array_mut().expect("a shape is a list");
            shape.insert(0, Value::from(1));
        })
    }
}

fn data_start(file: &[u8]) -> usize {
    let (length, _) = file.split_first_chunk::<8>().expect("a file of ours has a header");
    8 + u64::from_le_bytes(*length) as usize
}

fn edit_header(file: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let start = data_start(file);
    let mut header: Value = serde_json::from_slice(&file[8..start]).expect("we wrote this header");
    edit(&mut header);
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &file[start..]].concat()
}
