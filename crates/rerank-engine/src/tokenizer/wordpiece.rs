//! WordPiece for BERT's plain ASCII words, several times faster than the general tokenizer and equal to it.
//!
//! The general one carries offsets, original text and alignments through every step, which a reranker never reads. Most
//! words of most texts need none of it: lower-case them, split off punctuation, look them up. A word with anything else in
//! it (other scripts, accents, control characters, a literal special token) goes to the general tokenizer by itself, which
//! is exact because BERT's normaliser works character by character and always splits at white space.
//!
//! Algorithm: greedy longest match first, as in *Google's Neural Machine Translation System* (2016), section 4.1, and
//! BERT's tokenizer. `cargo bench -p rerank-engine --bench tokenise` measures it.

use rustc_hash::FxHashMap;
use serde::Deserialize;

/// A lookup table for ASCII words, built from a `tokenizer.json` of BERT's kind.
pub(super) struct AsciiWordPiece {
    /// Pieces that start a word.
    starts: FxHashMap<Box<[u8]>, u32>,
    /// Pieces that continue one, without their prefix.
    continuations: FxHashMap<Box<[u8]>, u32>,
    longest_piece: usize,
    longest_word: usize,
    unknown: u32,
    lowercase: bool,
    /// Literal special tokens: no white space in them, matched anywhere in a word.
    specials: Vec<Box<[u8]>>,
}

#[derive(Deserialize)]
struct File {
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Part>,
    pre_tokenizer: Option<Part>,
    model: Model,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the file format's flags")]
struct AddedToken {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    lowercase: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    max_input_chars_per_word: Option<usize>,
    #[serde(default)]
    vocab: serde_json::Value,
}

impl AsciiWordPiece {
    /// The table, if the file describes BERT's own pipeline and nothing else; `None` leaves every text to the general
    /// tokenizer.
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(json).ok()?;
        let normalizer = file.normalizer.filter(|part| part.kind == "BertNormalizer")?;
        file.pre_tokenizer.filter(|part| part.kind == "BertPreTokenizer")?;
        let model = file.model;
        if model.kind.as_deref() != Some("WordPiece") {
            return None;
        }
        let plain = |token: &AddedToken| {
            let flagged = token.single_word || token.lstrip || token.rstrip || token.normalized;
            let content = token.content.as_bytes();
            !flagged && !content.is_empty() && content.iter().all(u8::is_ascii_graphic)
        };
        if !file.added_tokens.iter().all(plain) {
            return None;
        }
        let prefix = model.continuing_subword_prefix?;
        let (mut starts, mut continuations) = (FxHashMap::default(), FxHashMap::default());
        let mut longest_piece = 0;
        for (piece, id) in model.vocab.as_object()? {
            let id = u32::try_from(id.as_u64()?).ok()?;
            longest_piece = longest_piece.max(piece.len());
            if let Some(rest) = piece.strip_prefix(&prefix) {
                continuations.insert(rest.as_bytes().into(), id);
            }
            starts.insert(piece.as_bytes().into(), id);
        }
        Some(Self {
            unknown: *starts.get(model.unk_token?.as_bytes())?,
            starts,
            continuations,
            longest_piece,
            longest_word: model.max_input_chars_per_word?,
            lowercase: normalizer.lowercase,
            specials: file.added_tokens.into_iter().map(|token| token.content.into_bytes().into()).collect(),
        })
    }

    /// Appends the ids of `text` to `ids`; words that are not plain go to `general`, which appends theirs.
    pub(super) fn encode<E>(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
        mut general: impl FnMut(&str, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lowered = Vec::new();
        for word in text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
            if self.is_plain(word.as_bytes()) {
                lowered.clear();
                lowered.extend_from_slice(word.as_bytes());
                if self.lowercase {
                    lowered.make_ascii_lowercase();
                }
                self.plain(&lowered, ids);
            } else {
                general(word, ids)?;
            }
        }
        Ok(())
    }

    fn is_plain(&self, word: &[u8]) -> bool {
        word.iter().all(u8::is_ascii_graphic) && !self.specials.iter().any(|special| contains(word, special))
    }

    /// A word of printable ASCII, lower-cased where the model wants it: each punctuation mark is a word of its own.
    fn plain(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut rest = word;
        while !rest.is_empty() {
            let letters = rest.iter().position(u8::is_ascii_punctuation).unwrap_or(rest.len());
            let (head, tail) = rest.split_at(letters.max(1));
            self.pieces(head, ids);
            rest = tail;
        }
    }

    fn pieces(&self, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() > self.longest_word {
            ids.push(self.unknown);
            return;
        }
        let first = ids.len();
        let mut start = 0;
        while start < word.len() {
            let table = if start == 0 { &self.starts } else { &self.continuations };
            let end = word.len().min(start + self.longest_piece);
            let found = (start + 1..=end).rev().find_map(|end| Some((end, *table.get(&word[start..end])?)));
            let Some((end, id)) = found else {
                // One unknown piece makes the whole word unknown.
                ids.truncate(first);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            start = end;
        }
    }
}

fn contains(word: &[u8], special: &[u8]) -> bool {
    word.len() >= special.len() && word.windows(special.len()).any(|window| window == special)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use tokenizers::Tokenizer;

    use super::AsciiWordPiece;

    fn general(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    fn fast(table: &AsciiWordPiece, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let general = |word: &str, ids: &mut Vec<u32>| {
            ids.extend(general(tokenizer, word));
            Ok::<(), Infallible>(())
        };
        table.encode(text, &mut ids, general).unwrap();
        ids
    }

    fn both() -> (AsciiWordPiece, Tokenizer) {
        let json = rerank_model_tiny::tokenizer();
        let mut tokenizer = Tokenizer::from_bytes(json).unwrap();
        tokenizer.with_truncation(None).unwrap();
        (AsciiWordPiece::of(json).expect("the built-in tokenizer is BERT's"), tokenizer)
    }

    #[test]
    fn equals_the_general_tokenizer_on_real_text() {
        let (table, tokenizer) = both();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benchmarks/data/workload.jsonl");
        for line in std::fs::read_to_string(path).unwrap().lines().step_by(4) {
            let request: serde_json::Value = serde_json::from_str(line).unwrap();
            for document in request["documents"].as_array().unwrap() {
                let text = document.as_str().unwrap();
                assert_eq!(fast(&table, &tokenizer, text), general(&tokenizer, text), "{text}");
            }
        }
    }

    #[test]
    fn equals_the_general_tokenizer_on_every_character_between_letters() {
        let (table, tokenizer) = both();
        for code in (0..0x3100).chain(0x4e00..0x4e10).chain(0xfe00..0x1_0000).chain(0x1f600..0x1f610) {
            let Some(character) = char::from_u32(code) else { continue };
            let text = format!("ab{character}cd {character} x{character}");
            assert_eq!(fast(&table, &tokenizer, &text), general(&tokenizer, &text), "U+{code:04X}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn equals_the_general_tokenizer_on_any_text(
            text in "([ -~]{0,12}|[a-zA-Z]{1,30}|\\[SEP\\]|\\[MASK\\]|##ing|[\u{0}-\u{ff}]{0,6}|\\PC{0,6}|[ \t\r\n\u{b}\u{c}]{1,3}){0,12}",
        ) {
            TABLES.with(|(table, tokenizer)| {
                prop_assert_eq!(fast(table, tokenizer, &text), general(tokenizer, &text));
                Ok(())
            })?;
        }

        #[test]
        fn long_words_are_unknown_from_the_same_length_on(length in 90usize..110) {
            TABLES.with(|(table, tokenizer)| {
                let text = "a".repeat(length);
                prop_assert_eq!(fast(table, tokenizer, &text), general(tokenizer, &text));
                Ok(())
            })?;
        }
    }

    thread_local! {
        static TABLES: (AsciiWordPiece, Tokenizer) = both();
    }

    #[test]
    fn other_pipelines_are_left_to_the_general_tokenizer() {
        let file: serde_json::Value = serde_json::from_slice(rerank_model_tiny::tokenizer()).unwrap();
        let edited = |pointer: &str, value: serde_json::Value| {
            let mut file = file.clone();
            *file.pointer_mut(pointer).expect("the test edits what is there") = value;
            AsciiWordPiece::of(&serde_json::to_vec(&file).unwrap())
        };
        assert!(edited("/pre_tokenizer/type", "Whitespace".into()).is_none());
        assert!(edited("/normalizer/type", "Lowercase".into()).is_none());
        assert!(edited("/model/type", "WordLevel".into()).is_none());
        assert!(edited("/added_tokens/0/normalized", true.into()).is_none());
        assert!(edited("/added_tokens/0/content", "a b".into()).is_none());
        assert!(edited("/normalizer/clean_text", true.into()).is_some(), "an edit that changes nothing");
    }
}
