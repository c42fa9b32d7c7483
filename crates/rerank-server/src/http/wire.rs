//! The JSON of rerank requests and answers, in the two shapes that clients speak: Text Embeddings Inference's (`texts`,
//! answered with a bare array) and Cohere's and Jina's (`documents`, answered with an object). Fields that we do not
//! know are ignored, since clients of either family send more than a reranker needs.

use std::fmt;

use rerank_engine::{Direction, Ranked, Scored, Strategy, Truncation};
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::service::check_top_n;

/// A request's body, either shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RerankBody {
    query: Option<String>,
    texts: Option<Vec<String>>,
    documents: Option<Vec<Document>>,
    top_n: Option<u32>,
    top_k: Option<u32>,
    return_text: Option<bool>,
    return_documents: Option<bool>,
    raw_scores: Option<bool>,
    truncate: Option<bool>,
    truncation_direction: Option<DirectionField>,
    truncation_strategy: Option<StrategyField>,
    max_tokens_per_doc: Option<u32>,
}

/// Which client family asked, and so how the answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `texts`: a bare array.
    Texts,
    /// `documents`: an object.
    Documents,
}

/// A request's body, checked.
#[derive(Debug)]
pub(super) struct RerankCall {
    pub(super) query: String,
    pub(super) documents: Vec<String>,
    pub(super) truncation: Truncation,
    pub(super) answer: AnswerForm,
}

/// What the sender wants to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerForm {
    pub(super) shape: Shape,
    top_n: Option<usize>,
    texts: bool,
    raw: bool,
}

impl RerankBody {
    /// Settles which shape it is and refuses what contradicts itself or could not be honoured.
    pub(super) fn check(self, max_length: usize) -> Result<RerankCall, ApiError> {
        let invalid = |what: &str| Err(ApiError::Invalid(what.to_owned()));
        let Some(query) = self.query else { return invalid("`query` is missing") };
        let (shape, documents) = match (self.texts, self.documents) {
            (Some(texts), None) => (Shape::Texts, texts),
            (None, Some(documents)) => {
                (Shape::Documents, documents.into_iter().map(|Document(text)| text).collect())
            }
            (Some(_), Some(_)) => return invalid("both `texts` and `documents` are given: send one of them"),
            (None, None) => return invalid("`documents` (or `texts`) is missing: there is nothing to rank"),
        };
        let top_n = match (self.top_n, self.top_k) {
            (Some(n), Some(k)) if n != k => return invalid("`top_n` and `top_k` differ: send one of them"),
            (n, k) => check_top_n(n.or(k).map(|n| n as usize))?,
        };
        if let Some(wanted) = self.max_tokens_per_doc.filter(|&wanted| (wanted as usize) < max_length) {
            return Err(ApiError::Invalid(format!(
                "`max_tokens_per_doc` {wanted} is below the server's {max_length} tokens a pair and cannot be honoured: leave it \
                 out, or start the server with --max-length"
            )));
        }
        let texts = self.return_text.or(self.return_documents).unwrap_or(false);
        let answer = AnswerForm { shape, top_n, texts, raw: self.raw_scores.unwrap_or(false) };
        let strategy = match (self.truncate, self.truncation_strategy) {
            (Some(false), _) => Strategy::Refuse,
            (_, strategy) => strategy.map_or(Strategy::LongestFirst, |StrategyField(strategy)| strategy),
        };
        let direction =
            self.truncation_direction.map_or(Direction::Right, |DirectionField(direction)| direction);
        Ok(RerankCall { query, documents, truncation: Truncation { strategy, direction }, answer })
    }
}

/// A document: a string, or an object whose `text` counts.
#[derive(Debug)]
pub(super) struct Document(pub(super) String);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object with `text`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Document, E> {
        Ok(Document(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "text" {
                text = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        text.map(Document).ok_or_else(|| de::Error::missing_field("text"))
    }
}

#[derive(Debug)]
struct DirectionField(Direction);

impl<'de> Deserialize<'de> for DirectionField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_lowercase().as_str() {
            "right" => Ok(Self(Direction::Right)),
            "left" => Ok(Self(Direction::Left)),
            _ => Err(de::Error::unknown_variant(&text, &["Right", "Left"])),
        }
    }
}

#[derive(Debug)]
struct StrategyField(Strategy);

impl<'de> Deserialize<'de> for StrategyField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "longest_first" => Ok(Self(Strategy::LongestFirst)),
            "only_second" => Ok(Self(Strategy::OnlySecond)),
            _ => Err(de::Error::unknown_variant(&text, &["longest_first", "only_second"])),
        }
    }
}

/// One place of Text Embeddings Inference's array.
#[derive(Serialize)]
struct TextsPlace<'a> {
    index: usize,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Cohere's and Jina's object.
#[derive(Serialize)]
struct DocumentsAnswer<'a> {
    id: &'a str,
    model: &'a str,
    results: Vec<DocumentsPlace<'a>>,
    usage: Usage,
    meta: Meta,
}

#[derive(Serialize)]
struct DocumentsPlace<'a> {
    index: usize,
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText<'a>>,
}

#[derive(Serialize)]
struct DocumentText<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Usage {
    total_tokens: usize,
}

#[derive(Serialize)]
struct Meta {
    api_version: ApiVersion,
    tokens: InputTokens,
}

#[derive(Serialize)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Serialize)]
struct InputTokens {
    input_tokens: usize,
}

/// The answer's body in the request's shape.
pub(super) fn answer(form: AnswerForm, scored: &Scored, id: &str, model: &str) -> Vec<u8> {
    let ranked = scored.ranked(form.top_n);
    let score = |place: &Ranked| if form.raw { f64::from(place.logit) } else { place.score };
    let text = |place: &Ranked| form.texts.then(|| scored.texts.document(place.index));
    let json = match form.shape {
        Shape::Texts => serde_json::to_vec(
            &ranked
                .iter()
                .map(|place| TextsPlace { index: place.index, score: score(place), text: text(place) })
                .collect::<Vec<_>>(),
        ),
        Shape::Documents => {
            let place = |place: &Ranked| DocumentsPlace {
                index: place.index,
                relevance_score: score(place),
                document: text(place).map(|text| DocumentText { text }),
            };
            serde_json::to_vec(&DocumentsAnswer {
                id,
                model,
                results: ranked.iter().map(place).collect(),
                usage: Usage { total_tokens: scored.tokens },
                meta: Meta {
                    api_version: ApiVersion { version: "2" },
                    tokens: InputTokens { input_tokens: scored.tokens },
                },
            })
        }
    };
    json.expect("numbers and strings always have a JSON form")
}

/// Reads JSON, and says on failure which field is at fault. The second pass that finds it costs only the senders of
/// bodies that are wrong.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    // serde would take an array for a structure, field by field.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::Invalid("the body is an array: an object is expected".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            located::<T>(body).unwrap_or_else(|| ApiError::Invalid(error.to_string()))
        }
        _ => ApiError::Malformed(error.to_string()),
    })
}

fn located<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Option<ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let path = error.path().to_string();
    let what = error.inner();
    Some(ApiError::Invalid(if path == "." {
        format!("the body: {what}")
    } else {
        format!("`{path}`: {what}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(json: &str) -> Result<RerankCall, ApiError> {
        parse::<RerankBody>(json.as_bytes())?.check(512)
    }

    fn refusal(json: &str) -> String {
        let error = call(json).unwrap_err();
        format!("{} {}", error.codes().http, error)
    }

    #[test]
    fn both_shapes_are_understood_and_what_clients_add_is_ignored() {
        let tei =
            call(r#"{"query": "q", "texts": ["a"], "return_text": true, "raw_scores": false, "top_n": 3}"#)
                .unwrap();
        assert_eq!((tei.answer.shape, tei.documents), (Shape::Texts, vec!["a".to_owned()]));
        let cohere = r#"{"model": "m", "query": "q", "documents": ["a", {"text": "b", "title": 1}], "rank_fields": [],
                         "max_chunks_per_doc": 10, "max_tokens_per_doc": 4096, "truncation_direction": "LEFT"}"#;
        let cohere = call(cohere).unwrap();
        assert_eq!(
            (cohere.answer.shape, cohere.documents),
            (Shape::Documents, vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(cohere.truncation.direction, Direction::Left);
    }

    #[test]
    fn refusals_name_the_field() {
        insta::assert_snapshot!(refusal("{"), @"400 the body is not JSON: EOF while parsing an object at line 1 column 1");
        insta::assert_snapshot!(refusal("[]"), @"422 the body is an array: an object is expected");
        insta::assert_snapshot!(refusal(r#"{"query": 1, "texts": []}"#), @"422 `query`: invalid type: integer `1`, expected a string at line 1 column 11");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "texts": ["a", null]}"#), @"422 `texts[1]`: invalid type: null, expected a string at line 1 column 34");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a", {"txt": "b"}]}"#), @"422 `documents[1]`: missing field `text` at line 1 column 46");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": [7]}"#), @"422 `documents[0]`: invalid type: integer `7`, expected a string or an object with `text` at line 1 column 30");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "top_n": -1}"#), @"422 `top_n`: invalid value: integer `-1`, expected u32 at line 1 column 46");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "top_n": 0}"#), @"422 top_n is 0: it must be at least 1; leave it out for all");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "top_n": 1, "top_k": 2}"#), @"422 `top_n` and `top_k` differ: send one of them");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "truncation_direction": "up"}"#), @"422 `truncation_direction`: unknown variant `up`, expected `Right` or `Left` at line 1 column 64");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "max_tokens_per_doc": 100}"#), @"422 `max_tokens_per_doc` 100 is below the server's 512 tokens a pair and cannot be honoured: leave it out, or start the server with --max-length");
        insta::assert_snapshot!(refusal(r#"{"query": "q", "documents": ["a"], "texts": ["a"]}"#), @"422 both `texts` and `documents` are given: send one of them");
        insta::assert_snapshot!(refusal(r#"{"query": "q"}"#), @"422 `documents` (or `texts`) is missing: there is nothing to rank");
        insta::assert_snapshot!(refusal(r#"{"documents": ["a"]}"#), @"422 `query` is missing");
    }
}
