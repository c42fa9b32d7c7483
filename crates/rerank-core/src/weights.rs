//! A checkpoint's tensors under canonical names, read from safetensors without copying them.
//!
//! | canonical name | holds |
//! |---|---|
//! | `embeddings.{word,position,token_type}.weight` | embedding tables, `[entries, hidden]` |
//! | `embeddings.norm.{weight,bias}` | layer norm after the embedding sum |
//! | `encoder.layers.N.attention.{query,key,value,output}.{weight,bias}` | `[hidden, hidden]`, `[hidden]` |
//! | `encoder.layers.N.attention.norm.{weight,bias}` | layer norm after attention's residual |
//! | `encoder.layers.N.mlp.up.{weight,bias}` | `[intermediate, hidden]`, `[intermediate]` |
//! | `encoder.layers.N.mlp.down.{weight,bias}` | `[hidden, intermediate]`, `[hidden]` |
//! | `encoder.layers.N.mlp.norm.{weight,bias}` | layer norm after the feed-forward's residual |
//! | `head.dense.{weight,bias}` | first token's dense layer before tanh |
//! | `head.out.{weight,bias}` | `[1, hidden]`, `[1]`: the logit |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::{BackendError, DType};

mod map;
mod names;

/// The tensors of one checkpoint: one safetensors file or several, mapped from disk or held as bytes.
pub struct Weights {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Tensor>,
    sha256: OnceLock<String>,
}

struct Tensor {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

enum Shard {
    Mapped(map::MappedFile),
    Held(Cow<'static, [u8]>),
}

impl Deref for Shard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file,
            Self::Held(bytes) => bytes,
        }
    }
}

impl Weights {
    /// Maps `model.safetensors`, or every shard that `model.safetensors.index.json` names, in `dir`.
    pub fn open(dir: &Path) -> Result<Self, BackendError> {
        let single = dir.join("model.safetensors");
        let paths = if single.exists() { vec![single] } else { shard_paths(dir)? };
        let shards = paths
            .into_iter()
            .map(|path| {
                let file = map::MappedFile::open(&path).map_err(|error| {
                    BackendError::load_from(format!("cannot open {}", path.display()), error)
                })?;
                Ok((path.display().to_string(), Shard::Mapped(file)))
            })
            .collect::<Result<Vec<_>, BackendError>>()?;
        Self::index(shards)
    }

    /// Takes the contents of one safetensors file.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, BackendError> {
        Self::index(vec![("the weights".to_owned(), Shard::Held(bytes.into()))])
    }

    fn index(shards: Vec<(String, Shard)>) -> Result<Self, BackendError> {
        let mut headers = Vec::with_capacity(shards.len());
        for (origin, shard) in &shards {
            headers.push(SafeTensors::read_metadata(shard).map_err(|error| {
                BackendError::load_from(format!("{origin}: not a complete safetensors file"), error)
            })?);
        }
        let separate_head =
            headers.iter().any(|(_, metadata)| metadata.info("classifier.dense.weight").is_some());
        let mut tensors = BTreeMap::new();
        for (shard, (header, metadata)) in headers.iter().enumerate() {
            // The data begins after the header and the eight bytes that hold its length.
            let data = header + 8;
            for (name, info) in metadata.tensors() {
                let Some(canonical) = names::canonical(&name, separate_head) else { continue };
                let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
                let tensor = Tensor { shard, dtype: info.dtype, shape: info.shape.clone(), bytes };
                if tensors.insert(canonical.clone(), tensor).is_some() {
                    return Err(BackendError::load(format!(
                        "{}: a second tensor claims to be `{canonical}`",
                        shards[shard].0
                    )));
                }
            }
        }
        let shards = shards.into_iter().map(|(_, shard)| shard).collect();
        Ok(Self { shards, tensors, sha256: OnceLock::new() })
    }

    /// The tensor of this canonical name as f32, row-major.
    ///
    /// A missing tensor, another shape than `shape`, a dtype that is not f32, f16 or bf16, and values that are not
    /// finite are [`BackendError::Load`] and name the tensor.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BackendError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| BackendError::load(format!("tensor `{name}` is missing from the checkpoint")))?;
        if tensor.shape != shape {
            return Err(BackendError::load(format!(
                "tensor `{name}` has shape {:?}, config.json asks for {shape:?}",
                tensor.shape
            )));
        }
        let bytes = &self.shards[tensor.shard][tensor.bytes.clone()];
        let values: Vec<f32> = match tensor.dtype {
            Dtype::F32 => words(bytes, f32::from_le_bytes).collect(),
            Dtype::F16 => widen(&words(bytes, f16::from_le_bytes).collect::<Vec<_>>()),
            Dtype::BF16 => widen(&words(bytes, bf16::from_le_bytes).collect::<Vec<_>>()),
            other => {
                return Err(BackendError::load(format!(
                    "tensor `{name}` is {other:?}: supported are F32, F16 and BF16"
                )));
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                Err(BackendError::load(format!("tensor `{name}` holds {} at element {at}", values[at])))
            }
            None => Ok(values),
        }
    }

    /// The dtype that the checkpoint stores its token embeddings in, or `None` where that is none of ours.
    pub fn dtype(&self) -> Option<DType> {
        match self.tensors.get("embeddings.word.weight")?.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }

    /// Size of all files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// SHA-256 of the files' contents in order, in hex: for one file, what `sha256sum` prints. Computed on first use.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            for shard in &self.shards {
                hasher.update(&**shard);
            }
            hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
                hex
            })
        })
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("files", &self.shards.len())
            .field("tensors", &self.tensors.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// Little-endian words of `N` bytes; safetensors promises no alignment.
fn words<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |&word| from(word))
}

fn widen<T>(narrow: &[T]) -> Vec<f32>
where
    [T]: HalfFloatSliceExt,
{
    let mut wide = vec![0.0; narrow.len()];
    narrow.convert_to_f32_slice(&mut wide);
    wide
}

/// The files that a sharded checkpoint's index names, sorted.
fn shard_paths(dir: &Path) -> Result<Vec<PathBuf>, BackendError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let path = dir.join("model.safetensors.index.json");
    let json = std::fs::read(&path).map_err(|error| {
        BackendError::load_from(
            format!("{} holds neither model.safetensors nor model.safetensors.index.json", dir.display()),
            error,
        )
    })?;
    let index: Index = serde_json::from_slice(&json).map_err(|error| {
        BackendError::load_from(format!("{} is not a shard index", path.display()), error)
    })?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort_unstable();
    files.dedup();
    if let Some(file) =
        files.iter().find(|file| Path::new(file).components().count() != 1 || file.contains(".."))
    {
        return Err(BackendError::load(format!("{}: `{file}` is not a plain file name", path.display())));
    }
    Ok(files.into_iter().map(|file| dir.join(file)).collect())
}
