//! From the name of a model to its files: the built-in one, a folder, or a checkpoint of the Hugging Face hub. This
//! module is the only place in the workspace that downloads.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rerank_core::{BackendError, Model};

mod cache;
mod hub;
mod transfer;

pub use hub::{Hub, HubError, HubRef};

/// A model as users name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// The small model inside the binary.
    Builtin,
    /// A folder on this machine.
    Dir(PathBuf),
    /// A checkpoint of the hub.
    Hub(HubRef),
}

/// The text names no model.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a folder, nor a hub id (ORG/NAME[@REVISION]), nor `builtin`")]
pub struct ParseModelRefError(String);

impl FromStr for ModelRef {
    type Err = ParseModelRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "builtin" {
            return Ok(Self::Builtin);
        }
        // What can only be a path is one even where it does not exist: its error should speak of a folder.
        if text.starts_with(['.', '/', '~']) || text.contains('\\') || Path::new(text).is_dir() {
            return Ok(Self::Dir(PathBuf::from(text)));
        }
        HubRef::parse(text).map(Self::Hub).ok_or_else(|| ParseModelRefError(text.to_owned()))
    }
}

/// A model ready to be loaded.
#[derive(Debug)]
pub struct OpenModel {
    /// Configuration and weights.
    pub model: Model,
    /// The contents of `tokenizer.json`.
    pub tokenizer: Cow<'static, [u8]>,
}

/// Why a model's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The binary holds no model.
    #[error(
        "this build has no built-in model; name one with --model, or rebuild with `--features embedded-model`"
    )]
    NoBuiltin,
    /// The folder is none.
    #[error("model folder `{}` does not exist", .0.display())]
    NoFolder(PathBuf),
    /// The fast tokenizer is missing.
    #[error(
        "{} has no readable tokenizer.json; `AutoTokenizer.from_pretrained(...).save_pretrained(...)` of Python's \
         transformers writes one",
        .dir.display()
    )]
    NoTokenizer {
        /// The model's folder.
        dir: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The files are there and no model that this server knows.
    #[error(transparent)]
    Model(#[from] BackendError),
}

/// Opens a model, downloading it first where that is needed. Blocks.
pub fn open(reference: &ModelRef, hub: &Hub) -> Result<OpenModel, StoreError> {
    match reference {
        ModelRef::Builtin => builtin(),
        ModelRef::Dir(dir) if !dir.is_dir() => Err(StoreError::NoFolder(dir.clone())),
        ModelRef::Dir(dir) => open_dir(dir, folder_name(dir)),
        ModelRef::Hub(reference) => open_dir(&hub.fetch(reference)?, reference.to_string()),
    }
}

#[cfg(feature = "embedded-model")]
fn builtin() -> Result<OpenModel, StoreError> {
    let model = Model::from_bytes("builtin", rerank_model_tiny::config(), rerank_model_tiny::weights())?;
    Ok(OpenModel { model, tokenizer: Cow::Borrowed(rerank_model_tiny::tokenizer()) })
}

#[cfg(not(feature = "embedded-model"))]
fn builtin() -> Result<OpenModel, StoreError> {
    Err(StoreError::NoBuiltin)
}

fn open_dir(dir: &Path, name: String) -> Result<OpenModel, StoreError> {
    let tokenizer = std::fs::read(dir.join("tokenizer.json"))
        .map_err(|source| StoreError::NoTokenizer { dir: dir.to_owned(), source })?;
    Ok(OpenModel { model: Model::open(dir, name)?, tokenizer: Cow::Owned(tokenizer) })
}

/// The folder's own name, also for `.` and paths that end in a slash.
fn folder_name(dir: &Path) -> String {
    let absolute = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    absolute.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let parse = |text: &str| text.parse::<ModelRef>().map_err(|error| error.to_string());
        assert_eq!(parse("builtin"), Ok(ModelRef::Builtin));
        assert_eq!(parse("./model"), Ok(ModelRef::Dir("./model".into())));
        assert_eq!(parse("/no/such/model"), Ok(ModelRef::Dir("/no/such/model".into())));
        assert_eq!(parse("src"), Ok(ModelRef::Dir("src".into())), "a folder that exists is meant");
        let Ok(ModelRef::Hub(reference)) = parse("BAAI/bge-reranker-base@refs/pr/3") else {
            panic!("not a hub id")
        };
        assert_eq!((reference.id(), reference.revision()), ("BAAI/bge-reranker-base", "refs/pr/3"));
        for text in
            ["", "a/b/c", "a b", "org/", "@main", "org/name@", "org/name@../up", "org/..", "https://x.y/z"]
        {
            assert!(parse(text).unwrap_err().contains("ORG/NAME[@REVISION]"), "{text}");
        }
    }

    #[test]
    fn a_folder_without_a_tokenizer_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::from_env(|_| None, true);
        let error = open(&ModelRef::Dir(dir.path().to_owned()), &hub).unwrap_err().to_string();
        assert!(error.contains("save_pretrained"), "{error}");
        let error = open(&ModelRef::Dir(dir.path().join("none")), &hub).unwrap_err().to_string();
        assert!(error.ends_with("does not exist"), "{error}");
    }
}
