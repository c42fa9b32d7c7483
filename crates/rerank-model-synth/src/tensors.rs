//! The tensors of a checkpoint: names as Hugging Face writes them, shapes, and the distribution of each kind.

use std::borrow::Cow;

use half::f16;
use safetensors::{Dtype, SafeTensorError, View};

use crate::{Architecture, Precision, Stream, Synth};

/// What a tensor is for; decides how its values are distributed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Word embeddings lead, positions and types add to them: the layer norm that follows removes the common scale.
    Word,
    Position,
    TokenType,
    /// Layer norm gain and shift: near the identity, as training leaves them.
    NormGain,
    NormShift,
    /// Query and key. With unit inputs their products over one head, divided by sqrt(head width), have a standard
    /// deviation of about 2: of 128 tokens, 19 matter in the first layer and 50 in the sixth (perplexity).
    Attend,
    /// Value, attention output, and everything that only has to keep the size of what passes through. More gain on
    /// attention's output was tried: tokens grow alike, and the sixth layer attends to all of them evenly.
    Keep,
    /// Feed-forward output: GELU leaves about a third of the variance.
    Down,
    /// The logit: rows differ by several units.
    Logit,
    Bias,
}

impl Kind {
    /// Values are `centre + spread * u` with u uniform in [-1, 1). A uniform of half-width a has a standard deviation
    /// of a / sqrt(3); `gain(g)` is the half-width for which a matrix scales unit inputs to standard deviation g.
    fn centre_and_spread(self, fan_in: usize) -> (f32, f32) {
        let gain = |g: f64| (g * (3.0 / fan_in as f64).sqrt()) as f32;
        match self {
            Self::Position => (0.0, 0.015_625),
            Self::TokenType => (0.0, 0.007_812_5),
            Self::NormGain => (1.0, 0.125),
            Self::Word | Self::NormShift | Self::Bias => (0.0, 0.0625),
            Self::Keep => (0.0, gain(1.0)),
            Self::Attend | Self::Down => (0.0, gain(1.5)),
            Self::Logit => (0.0, gain(8.0)),
        }
    }
}

/// One tensor, generated when the container asks for its bytes, so that only one is in memory twice.
struct Tensor {
    stream: Stream,
    shape: Vec<usize>,
    kind: Kind,
    precision: Precision,
}

impl Tensor {
    fn values(&self) -> impl Iterator<Item = f32> {
        let (centre, spread) = self.kind.centre_and_spread(*self.shape.last().unwrap_or(&1));
        let stream = self.stream;
        (0..self.shape.iter().product::<usize>() as u64).map(move |i| centre + spread * stream.uniform(i))
    }
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        match self.precision {
            Precision::F32 => self.values().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
            Precision::F16 => {
                self.values().for_each(|v| bytes.extend_from_slice(&f16::from_f32(v).to_le_bytes()));
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// The whole `model.safetensors` of `spec`.
pub(crate) fn serialize(spec: &Synth) -> Result<Vec<u8>, SafeTensorError> {
    let tensors = describe(spec).into_iter().map(|(name, shape, kind)| {
        let stream = Stream::new(spec.seed, &name);
        (name, Tensor { stream, shape, kind, precision: spec.precision })
    });
    safetensors::serialize(tensors, Some([("format".to_owned(), "pt".to_owned())].into()))
}

fn describe(spec: &Synth) -> Vec<(String, Vec<usize>, Kind)> {
    let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
    let mut out = Vec::with_capacity(16 * spec.layers + 9);
    let body = match spec.architecture {
        Architecture::Bert => "bert",
        Architecture::Roberta | Architecture::XlmRoberta => "roberta",
    };
    let mut push = |name: String, shape: &[usize], kind| out.push((name, shape.to_vec(), kind));

    let embeddings = format!("{body}.embeddings");
    push(format!("{embeddings}.word_embeddings.weight"), &[spec.vocab_size, hidden], Kind::Word);
    push(
        format!("{embeddings}.position_embeddings.weight"),
        &[spec.max_position_embeddings, hidden],
        Kind::Position,
    );
    push(
        format!("{embeddings}.token_type_embeddings.weight"),
        &[spec.type_vocab_size, hidden],
        Kind::TokenType,
    );
    push(format!("{embeddings}.LayerNorm.weight"), &[hidden], Kind::NormGain);
    push(format!("{embeddings}.LayerNorm.bias"), &[hidden], Kind::NormShift);

    let mut linear = |name: String, out_in: [usize; 2], kind| {
        push(format!("{name}.bias"), &out_in[..1], Kind::Bias);
        push(format!("{name}.weight"), &out_in, kind);
    };
    for layer in 0..spec.layers {
        let layer = format!("{body}.encoder.layer.{layer}");
        linear(format!("{layer}.attention.self.query"), [hidden, hidden], Kind::Attend);
        linear(format!("{layer}.attention.self.key"), [hidden, hidden], Kind::Attend);
        linear(format!("{layer}.attention.self.value"), [hidden, hidden], Kind::Keep);
        linear(format!("{layer}.attention.output.dense"), [hidden, hidden], Kind::Keep);
        linear(format!("{layer}.intermediate.dense"), [inner, hidden], Kind::Keep);
        linear(format!("{layer}.output.dense"), [hidden, inner], Kind::Down);
    }
    match spec.architecture {
        Architecture::Bert => {
            linear("bert.pooler.dense".to_owned(), [hidden, hidden], Kind::Keep);
            linear("classifier".to_owned(), [1, hidden], Kind::Logit);
        }
        Architecture::Roberta | Architecture::XlmRoberta => {
            linear("classifier.dense".to_owned(), [hidden, hidden], Kind::Keep);
            linear("classifier.out_proj".to_owned(), [1, hidden], Kind::Logit);
        }
    }
    for layer in 0..spec.layers {
        for norm in ["attention.output", "output"] {
            let norm = format!("{body}.encoder.layer.{layer}.{norm}.LayerNorm");
            push(format!("{norm}.weight"), &[hidden], Kind::NormGain);
            push(format!("{norm}.bias"), &[hidden], Kind::NormShift);
        }
    }
    out
}
