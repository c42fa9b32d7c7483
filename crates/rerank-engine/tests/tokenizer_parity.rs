//! Token ids must be those of PyTorch transformers, on the texts that tokenizers disagree about. The expectations and
//! the script that made them lie in `crates/rerank-conformance`; its `fixtures/README.md` describes the fields.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rerank_core::ModelConfig;
use rerank_engine::{Direction, EngineError, PairTokenizer, Rows, Strategy, Truncation};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Fixture {
    texts: Vec<Text>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Text {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Case {
    tokenizer: String,
    query: String,
    document: String,
    max_length: usize,
    strategy: String,
    direction: String,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Short { types_turn_at: usize, ids: Vec<u32> },
    Long { types_turn_at: usize, length: usize, head: Vec<u32>, tail: Vec<u32>, sha256: String },
    Refused { error: String },
}

fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie side by side")
}

fn read(path: &str) -> Vec<u8> {
    let path = crates().join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixture() -> Fixture {
    serde_json::from_slice(&read("rerank-conformance/fixtures/tokenizers/cases.json"))
        .expect("cases have the schema of fixtures/README.md")
}

/// A model of the kind that the tokenizer belongs to; only its limits matter here.
fn config(tokenizer: &str) -> ModelConfig {
    let (architecture, positions, types, pad) = match tokenizer {
        "rerank-tiny" => ("BertForSequenceClassification", 512, 2, 0),
        "roberta" => ("RobertaForSequenceClassification", 514, 1, 1),
        "xlm-roberta" => ("XLMRobertaForSequenceClassification", 514, 1, 1),
        other => panic!("no model for tokenizer {other}"),
    };
    let model_type = match tokenizer {
        "rerank-tiny" => "bert",
        other => other,
    };
    let json = serde_json::json!({
        "architectures": [architecture], "model_type": model_type, "hidden_act": "gelu",
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 30522, "type_vocab_size": types, "max_position_embeddings": positions,
        "layer_norm_eps": 1e-5, "pad_token_id": pad, "id2label": {"0": "LABEL_0"}
    });
    ModelConfig::from_json(json.to_string().as_bytes()).expect("the configuration is complete")
}

fn check(name: &str, json: &[u8]) {
    let fixture = fixture();
    let texts: BTreeMap<&str, &str> =
        fixture.texts.iter().map(|text| (text.name.as_str(), text.text.as_str())).collect();
    let cases: Vec<&Case> = fixture.cases.iter().filter(|case| case.tokenizer == name).collect();
    assert!(cases.len() > 100, "{name} has {} cases only", cases.len());

    let config = config(name);
    let mut failures = Vec::new();
    for max_length in cases.iter().map(|case| case.max_length).collect::<BTreeSet<_>>() {
        let tokenizer =
            PairTokenizer::from_bytes(json, &config, Some(max_length)).expect("the tokenizer fits");
        for case in cases.iter().filter(|case| case.max_length == max_length) {
            if let Err(difference) = compare(&tokenizer, case, &texts) {
                let Case { query, document, strategy, direction, .. } = case;
                failures
                    .push(format!("{query} | {document}, {max_length} {strategy} {direction}: {difference}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn compare(tokenizer: &PairTokenizer, case: &Case, texts: &BTreeMap<&str, &str>) -> Result<(), String> {
    let truncation = Truncation {
        strategy: match case.strategy.as_str() {
            "longest_first" => Strategy::LongestFirst,
            "only_second" => Strategy::OnlySecond,
            other => panic!("unknown strategy {other}"),
        },
        direction: match case.direction.as_str() {
            "right" => Direction::Right,
            "left" => Direction::Left,
            other => panic!("unknown direction {other}"),
        },
    };
    let query = tokenizer.encode(texts[case.query.as_str()]).map_err(|error| error.to_string())?;
    let document = tokenizer.encode(texts[case.document.as_str()]).map_err(|error| error.to_string())?;
    let mut rows = Rows::default();
    let made = tokenizer.pair(&query, &document, truncation, 0, &mut rows);

    let (types_turn_at, length) = match &case.expected {
        Expected::Refused { error } => {
            return match made {
                Err(EngineError::TooLong { .. }) => Ok(()),
                Err(other) => Err(format!("refused with `{other}`, transformers says {error}")),
                Ok(()) => Err(format!("made {} tokens, transformers says {error}", rows.tokens())),
            };
        }
        Expected::Short { types_turn_at, ids } => {
            made.map_err(|error| error.to_string())?;
            if rows.ids(0) != ids {
                return Err(format!("ids {:?}, expected {ids:?}", rows.ids(0)));
            }
            (*types_turn_at, ids.len())
        }
        Expected::Long { types_turn_at, length, head, tail, sha256 } => {
            made.map_err(|error| error.to_string())?;
            let ids = rows.ids(0);
            if ids.len() != *length || !ids.starts_with(head) || !ids.ends_with(tail) {
                let (start, end) = (&ids[..8.min(ids.len())], &ids[ids.len().saturating_sub(8)..]);
                return Err(format!(
                    "{} ids {start:?}..{end:?}, expected {length} of {head:?}..{tail:?}",
                    ids.len()
                ));
            }
            let mut hasher = Sha256::new();
            for id in ids {
                hasher.update(id.to_le_bytes());
            }
            let found = hex(&hasher.finalize());
            if found != *sha256 {
                return Err("ids differ between head and tail".to_owned());
            }
            (*types_turn_at, *length)
        }
    };
    let types: Vec<u32> = (0..length).map(|index| u32::from(index >= types_turn_at)).collect();
    if rows.type_ids(0) != types {
        return Err(format!("type ids {:?}, expected to turn at {types_turn_at}", rows.type_ids(0)));
    }
    Ok(())
}

#[test]
fn bert_wordpiece_matches_transformers() {
    check("rerank-tiny", &read("rerank-model-tiny/model/tokenizer.json"));
}

#[test]
fn xlm_roberta_unigram_matches_transformers() {
    check("xlm-roberta", &read("rerank-conformance/fixtures/tokenizers/xlm-roberta.json"));
}

#[test]
fn roberta_byte_level_bpe_matches_transformers() {
    check("roberta", &read("rerank-conformance/fixtures/tokenizers/roberta.json"));
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
