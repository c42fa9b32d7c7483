//! From a checkpoint to a plan: which matrices go together, in which precision, for which kernel.

use rayon::prelude::*;
use rerank_core::{BackendError, DType, Dense, Model, Norm};
use rerank_kernels::{Activation, Cpu, Embedding, Feature, LayerNorm, Linear, Precision, TILE_STEP, Table};

use crate::plan::{Grain, Op, Plan, Sizes, Step};

/// Compiles `model` for `cpu`. Layers are packed in parallel on the current thread pool.
pub(crate) fn compile(model: &Model, dtype: DType, cpu: Cpu) -> Result<Plan, BackendError> {
    let compiler = Compiler { model, dtype, cpu, epsilon: model.config.layer_norm_eps as f32 };
    let (embed, layers) = rayon::join(
        || compiler.embed(),
        || {
            let layers = (0..model.config.layers).into_par_iter();
            layers.map(|index| compiler.layer(index)).collect::<Result<Vec<_>, _>>()
        },
    );
    let mut body = vec![embed?];
    let mut tail = Vec::new();
    for layer in layers? {
        body.extend(layer.body);
        tail.extend(layer.tail);
    }
    tail.push(compiler.classify()?);
    let config = &model.config;
    let sizes =
        Sizes { hidden: config.hidden_size, intermediate: config.intermediate_size, heads: config.heads };
    Ok(Plan { body, tail, sizes, grain: grain(dtype, cpu), cpu })
}

/// Measured with 32 rows of 128 tokens: on AVX2, tiles between 48 and 512 rows make no difference. Tile registers take 32
/// rows at a time.
fn grain(dtype: DType, cpu: Cpu) -> Grain {
    let tiles = match dtype {
        DType::BF16 => cpu.has(Feature::AmxBf16),
        DType::Int8 => cpu.has(Feature::AmxInt8),
        DType::F32 | DType::F16 => false,
    };
    let (tile, step) = if tiles { (128, 32) } else { (8 * TILE_STEP, TILE_STEP) };
    Grain { span: 128, tile, step }
}

/// A layer's steps: for all tokens, and for first tokens only.
struct Layer {
    body: Vec<Step>,
    tail: Vec<Step>,
}

/// What a matrix is for, which decides how far it may be rounded.
#[derive(Clone, Copy)]
enum Role<'a> {
    /// Its inputs come from this norm.
    AfterNorm(&'a Norm),
    /// Its inputs are attention's context or the feed-forward's inside.
    Inside,
    /// The classification head: a thousandth of the work.
    Head,
}

struct Compiler<'a> {
    model: &'a Model,
    dtype: DType,
    cpu: Cpu,
    epsilon: f32,
}

impl Compiler<'_> {
    fn embed(&self) -> Result<Step, BackendError> {
        let weights = self.model.embeddings()?;
        let word = match self.dtype {
            DType::F32 => Table::F32(weights.word),
            DType::F16 | DType::BF16 | DType::Int8 => Table::narrow(&weights.word),
        };
        let embedding = Embedding {
            word,
            position: weights.position,
            token_type: weights.token_type,
            norm: LayerNorm::new(weights.norm, self.epsilon),
        };
        Ok(step("embeddings + norm", Op::Embed(Box::new(embedding))))
    }

    fn layer(&self, index: usize) -> Result<Layer, BackendError> {
        let config = &self.model.config;
        let weights = self.model.layer(index)?;
        let before = match index.checked_sub(1) {
            Some(previous) => self.model.norm(&format!("encoder.layers.{previous}.mlp.norm"))?,
            None => self.model.norm("embeddings.norm")?,
        };
        let name = |part: &str| format!("encoder.layers.{index}.{part}");
        let projected = Role::AfterNorm(&before);
        let identity = Activation::Identity;
        let up = self.linear(
            &weights.up,
            Activation::FeedForward(config.activation),
            Role::AfterNorm(&weights.attention_norm),
        );
        let norm = |norm: &Norm| LayerNorm::new(norm.clone(), self.epsilon);
        let finish = vec![
            step(
                name("attention.output + residual + norm"),
                Op::Output(
                    self.linear(&weights.output, identity, Role::Inside),
                    norm(&weights.attention_norm),
                ),
            ),
            step(name(&format!("mlp.up + {}", config.activation)), Op::Up(up)),
            step(
                name("mlp.down + residual + norm"),
                Op::Down(self.linear(&weights.down, identity, Role::Inside), norm(&weights.mlp_norm)),
            ),
        ];
        if index + 1 < config.layers {
            let project = self.linear(&weights.query_key_value, identity, projected);
            let mut body = vec![
                step(name("attention.{query,key,value}"), Op::Project(project)),
                step(name("attention"), Op::Attend),
            ];
            body.extend(finish);
            return Ok(Layer { body, tail: Vec::new() });
        }
        let (query, key_value) = weights.query_key_value.split(config.hidden_size);
        let body = vec![
            step(name("attention.{key,value}"), Op::Project(self.linear(&key_value, identity, projected))),
            step(
                name("attention.query + attention of first tokens"),
                Op::AttendFirst(self.linear(&query, identity, projected)),
            ),
        ];
        Ok(Layer { body, tail: finish })
    }

    fn classify(&self) -> Result<Step, BackendError> {
        let weights = self.model.head()?;
        let dense = self.linear(&weights.dense, Activation::Tanh, Role::Head);
        let out = self.linear(&weights.out, Activation::Identity, Role::Head);
        Ok(step("head.dense + tanh, head.out", Op::Classify(dense, out)))
    }

    fn linear(&self, dense: &Dense, activation: Activation, role: Role<'_>) -> Linear {
        // Inputs out of a norm have its shift for a mean and its scale for a deviation.
        let energy: Option<Vec<f32>> = match role {
            Role::AfterNorm(norm) => {
                Some(norm.weight.iter().zip(&norm.bias).map(|(w, b)| w * w + b * b).collect())
            }
            Role::Inside | Role::Head => None,
        };
        let precision = match (self.dtype, role) {
            (DType::F32 | DType::F16, _) | (_, Role::Head) => Precision::F32,
            // Measured in PyTorch on a trained six-layer model, logits between -12 and 7: bf16 in all matrices moves
            // them by up to 0.08, of which query, key, value and up alone make 0.06. With those in three terms and the
            // others in one, logits of the fixtures' two-layer models were still up to 0.038 away.
            (DType::BF16, Role::AfterNorm(_)) => Precision::Bf16x3,
            (DType::BF16, Role::Inside) => Precision::Bf16x2,
            (DType::Int8, _) => Precision::Int8 { energy: energy.as_deref() },
        };
        Linear::new(dense, activation, precision, self.cpu)
    }
}

fn step(name: impl Into<String>, op: Op) -> Step {
    Step { name: name.into(), op }
}
