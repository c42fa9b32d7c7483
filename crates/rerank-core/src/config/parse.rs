//! `config.json` as Hugging Face writes it, with its defaults, checked into a [`ModelConfig`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Activation, Architecture, ModelConfig};
use crate::BackendError;

/// The fields that decide what is computed. Others (dropout, initialiser) concern training.
#[derive(Deserialize)]
struct RawConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_activation")]
    hidden_act: String,
    pad_token_id: Option<u32>,
    position_embedding_type: Option<String>,
    num_labels: Option<usize>,
    id2label: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}
fn default_positions() -> usize {
    512
}
fn default_eps() -> f64 {
    1e-12
}
fn default_activation() -> String {
    "gelu".to_owned()
}

pub(super) fn parse(json: &[u8]) -> Result<ModelConfig, BackendError> {
    // Two steps, so that a configuration of a foreign family, which may lack our fields, is named as such.
    let value: serde_json::Value = serde_json::from_slice(json)
        .map_err(|error| BackendError::load_from("config.json is not valid JSON", error))?;
    let architecture = architecture(&value)?;
    let raw: RawConfig = serde_json::from_value(value)
        .map_err(|error| BackendError::load_from("config.json is not a model configuration", error))?;

    let labels = raw.id2label.as_ref().map(BTreeMap::len).or(raw.num_labels).unwrap_or_else(two);
    if labels != 1 {
        return Err(BackendError::unsupported(format!(
            "a model with {labels} labels: a reranker has exactly one (`id2label` with one entry)"
        )));
    }
    if let Some(kind) = raw.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
        return Err(BackendError::unsupported(format!(
            "position_embedding_type `{kind}`: supported is `absolute`"
        )));
    }
    if raw.is_decoder {
        return Err(BackendError::unsupported("is_decoder = true: supported are encoders"));
    }
    let config = ModelConfig {
        architecture,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        vocab_size: raw.vocab_size,
        type_vocab_size: raw.type_vocab_size,
        max_position_embeddings: raw.max_position_embeddings,
        layer_norm_eps: raw.layer_norm_eps,
        activation: activation(&raw.hidden_act)?,
        pad_token_id: raw.pad_token_id.unwrap_or(match architecture {
            Architecture::Bert => 0,
            Architecture::Roberta | Architecture::XlmRoberta => 1,
        }),
    };
    check_sizes(&config)?;
    Ok(config)
}

fn architecture(value: &serde_json::Value) -> Result<Architecture, BackendError> {
    let RawArchitectures { architectures, model_type } = RawArchitectures::deserialize(value)
        .map_err(|error| BackendError::load_from("config.json is not a model configuration", error))?;
    let supported = || Architecture::ALL.map(Architecture::name).join(", ");
    let Some(name) = architectures.first() else {
        let kind = model_type.map_or_else(String::new, |kind| format!(" (model_type `{kind}`)"));
        return Err(BackendError::unsupported(format!(
            "config.json names no architecture{kind}: supported are {}",
            supported()
        )));
    };
    Architecture::ALL.into_iter().find(|architecture| architecture.name() == name).ok_or_else(|| {
        BackendError::unsupported(format!("architecture `{name}`: supported are {}", supported()))
    })
}

#[derive(Deserialize)]
struct RawArchitectures {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
}

fn activation(name: &str) -> Result<Activation, BackendError> {
    match name {
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        other => Err(BackendError::unsupported(format!(
            "hidden_act `{other}`: supported are gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu, swish"
        ))),
    }
}

fn check_sizes(config: &ModelConfig) -> Result<(), BackendError> {
    let sizes = [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_hidden_layers", config.layers),
        ("num_attention_heads", config.heads),
        ("vocab_size", config.vocab_size),
        ("type_vocab_size", config.type_vocab_size),
        ("max_position_embeddings", config.max_position_embeddings),
    ];
    if let Some((name, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
        return Err(BackendError::load(format!("config.json: {name} is 0")));
    }
    if !config.hidden_size.is_multiple_of(config.heads) {
        return Err(BackendError::load(format!(
            "config.json: hidden_size {} is not a multiple of num_attention_heads {}",
            config.hidden_size, config.heads
        )));
    }
    if !(config.layer_norm_eps.is_finite() && config.layer_norm_eps >= 0.0) {
        return Err(BackendError::load(format!("config.json: layer_norm_eps is {}", config.layer_norm_eps)));
    }
    if config.pad_token_id as usize >= config.vocab_size {
        return Err(BackendError::load(format!(
            "config.json: pad_token_id {} is outside of the vocabulary of {}",
            config.pad_token_id, config.vocab_size
        )));
    }
    let reserved = config.pad_token_id as usize + 1;
    if config.architecture != Architecture::Bert && config.max_position_embeddings <= reserved {
        return Err(BackendError::load(format!(
            "config.json: max_position_embeddings {} leaves no position after the {reserved} reserved for padding",
            config.max_position_embeddings
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: &str = r#"{"architectures": ["BertForSequenceClassification"], "hidden_size": 384,
        "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12, "vocab_size": 30522,
        "type_vocab_size": 2, "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "id2label": {"0": "LABEL_0"}}"#;

    fn with(from: &str, to: &str) -> Result<ModelConfig, BackendError> {
        assert!(MINILM.contains(from), "the test edits what is there");
        parse(MINILM.replace(from, to).as_bytes())
    }

    #[test]
    fn padding_outside_of_the_vocabulary_is_refused() {
        let error =
            with(r#""type_vocab_size": 2"#, r#""pad_token_id": 30522, "type_vocab_size": 2"#).unwrap_err();
        assert!(error.to_string().contains("pad_token_id 30522"), "{error}");
    }

    #[test]
    fn the_reference_model_is_understood() {
        let config = parse(MINILM.as_bytes()).unwrap();
        assert_eq!((config.layers, config.hidden_size, config.head_dim()), (6, 384, 32));
        assert_eq!((config.max_length(), config.pad_token_id), (512, 0));
    }

    #[test]
    fn roberta_loses_the_positions_reserved_for_padding() {
        let roberta = MINILM
            .replace("BertFor", "RobertaFor")
            .replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 514");
        let config = parse(roberta.as_bytes()).unwrap();
        assert_eq!((config.max_length(), config.pad_token_id), (512, 1));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_with_what_is() {
        for (from, to, wanted) in [
            (
                "BertForSequenceClassification",
                "GPT2LMHeadModel",
                "supported are BertForSequenceClassification, Roberta",
            ),
            ("\"BertForSequenceClassification\"", "", "names no architecture"),
            ("{\"0\": \"LABEL_0\"}", "{\"0\": \"a\", \"1\": \"b\"}", "2 labels"),
            ("\"id2label\": {\"0\": \"LABEL_0\"}", "\"num_labels\": 3", "3 labels"),
            ("\"gelu\"", "\"mish\"", "hidden_act `mish`"),
            (
                "\"type_vocab_size\"",
                "\"position_embedding_type\": \"relative_key\", \"type_vocab_size\"",
                "relative_key",
            ),
        ] {
            let error = with(from, to).unwrap_err();
            assert!(matches!(error, BackendError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn damaged_configurations_are_load_errors() {
        for (from, to) in [
            ("384", "385"),
            ("\"num_attention_heads\": 12", "\"num_attention_heads\": 0"),
            ("\"hidden_size\"", "\"hidden\""),
            ("1e-12", "-1.0"),
            ("{\"arch", "[\"arch"),
        ] {
            let error = with(from, to).unwrap_err();
            assert!(matches!(error, BackendError::Load { .. }), "{from} -> {to}: {error}");
        }
    }
}
