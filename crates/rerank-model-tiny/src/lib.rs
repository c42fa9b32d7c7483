//! The small default model as bytes in the binary, so that a server started with no arguments ranks, and tests need
//! neither network nor files. `README.md` beside this crate is the model card.
//!
//! Data only, on purpose: nothing here parses, so whoever embeds the model pays for no dependency.
#![doc = include_str!("../README.md")]

/// The name under which the model is reported.
pub const NAME: &str = "rerank-tiny";

static CONFIG: &[u8] = include_bytes!("../model/config.json");
static TOKENIZER: &[u8] = include_bytes!("../model/tokenizer.json");
static WEIGHTS: &[u8] = include_bytes!("../model/model.safetensors");

/// `config.json`: BERT, 3 layers, 128 wide, 4 heads, one label.
pub fn config() -> &'static [u8] {
    CONFIG
}

/// `tokenizer.json`: uncased English `WordPiece`, 30,522 tokens.
pub fn tokenizer() -> &'static [u8] {
    TOKENIZER
}

/// `model.safetensors`: f16, Hugging Face tensor names.
pub fn weights() -> &'static [u8] {
    WEIGHTS
}

#[cfg(test)]
mod tests {
    /// A published crate may have 10 MB, and this one must stay publishable: the sum is an upper bound, since the
    /// registry counts the compressed archive.
    #[test]
    fn stays_publishable() {
        let bytes = super::config().len() + super::tokenizer().len() + super::weights().len();
        assert!(bytes < 10_000_000, "{bytes} bytes of model, 10,000,000 is the limit");
    }
}
