//! `--torch-module FILE`: an exported model in the place of the one that would be built from the checkpoint.

use std::path::{Path, PathBuf};

use rerank_core::{BackendError, DType, LoadSpec, TokenBatch};
use tch::{CModule, Device, Kind, TchError, Tensor};

use crate::model::{Inputs, dtype_of, logits};
use crate::{device, error};

/// The one of [`rerank_core::LoadSpec::options`] that this backend has: the file of a TorchScript module.
///
/// Its `forward` takes `input_ids`, `attention_mask` and `token_type_ids`, in this order, each int64 `[rows, len]`, and
/// returns logits, `[rows]` or `[rows, 1]`. It brings its own weights; configuration and tokenizer are the model's.
pub const MODULE_OPTION: &str = "torch-module";

/// What a row's logit may differ by with the padding beside it, relative to its size where that is above one: kernels round
/// otherwise for another shape.
const PADDING_TOLERANCE: [(DType, f32); 3] = [(DType::F32, 1e-3), (DType::F16, 1e-1), (DType::BF16, 5e-1)];

const CAUSES: &str = "it does not mask padding, takes its inputs in another order than (input_ids, attention_mask, \
                      token_type_ids), or is quantised";

/// A TorchScript module that was seen to take what the server sends.
pub(crate) struct ScriptModule {
    module: CModule,
    file: PathBuf,
    device: Device,
    pad_token_id: u32,
}

impl ScriptModule {
    /// Loads the file and refuses a module whose inputs, output or dtype do not fit.
    pub(crate) fn load(file: &Path, spec: &LoadSpec) -> Result<Self, BackendError> {
        let shown = file.display();
        if file.extension().is_some_and(|extension| extension == "pt2" || extension == "so") {
            return Err(BackendError::unsupported(format!(
                "module {shown}: tch has no loader for AOTInductor and torch.export files; export it as TorchScript \
                 (torch.jit.trace, then torch.jit.save)"
            )));
        }
        let device = device::handle(spec.device);
        let mut module = CModule::load_on_device(file, device).map_err(|error| {
            let message = error::text(&error);
            let what =
                format!("module {shown} is no TorchScript (torch.jit.save): {}", error::brief(&message));
            BackendError::load_from(what, error)
        })?;
        // A module that was exported in training mode would drop out.
        module.f_set_eval().map_err(error::loading)?;
        let module =
            Self { module, file: file.to_owned(), device, pad_token_id: spec.model.config.pad_token_id };
        module.check(spec)?;
        Ok(module)
    }

    /// Where it was loaded from.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// One logit per row.
    pub(crate) fn forward(&self, batch: &TokenBatch) -> Result<Vec<f32>, TchError> {
        logits(&self.output(batch, self.pad_token_id)?.f_reshape([-1])?)
    }

    /// What the module returns, as it returns it.
    fn output(&self, batch: &TokenBatch, padding: u32) -> Result<Tensor, TchError> {
        let inputs = Inputs::upload(&batch.pad(batch.max_len(), padding), self.device)?;
        self.module.forward_ts(&[&inputs.ids, &inputs.attention_mask()?, &inputs.type_ids])
    }

    /// Calls it with rows that tell apart what fits from what only seems to.
    fn check(&self, spec: &LoadSpec) -> Result<(), BackendError> {
        let longest = spec.max_length.min(spec.model.config.max_length());
        let (short, long) = (longest.min(4), longest.min(11));
        let padding = self.pad_token_id;
        let another = u32::from(padding == 0);
        let alone = self.probe(spec, &[short], padding)?;
        let together = self.probe(spec, &[short, long], padding)?;
        let otherwise = self.probe(spec, &[short, long], another)?;
        // Its position table may be shorter than the model's.
        drop(self.probe(spec, &[longest], padding)?);
        let dtype = self.dtype(&alone)?;
        if dtype != spec.dtype {
            return Err(self.unfit(&format!(
                "it computes in {dtype}, and --dtype {} was asked for: leave that out or ask for {dtype}",
                spec.dtype
            )));
        }
        let first = |output: &Tensor| -> Result<f32, BackendError> {
            Ok(logits(&output.f_reshape([-1]).map_err(error::loading)?).map_err(error::loading)?[0])
        };
        // All type ids are zero here: a module that takes them for the mask attends to nothing, or to everything.
        let (alone, together, otherwise) = (first(&alone)?, first(&together)?, first(&otherwise)?);
        // False for NaN, which is to be refused.
        let agree = |a: f32, b: f32, usual: f32| (a - b).abs() <= usual * a.abs().max(1.0);
        // Between calls of one shape nothing rounds otherwise, in any dtype.
        if !agree(together, otherwise, 1e-3) {
            return Err(self.unfit(&format!(
                "a row has logit {together} beside padding of token {}, and {otherwise} beside another: {CAUSES}",
                self.pad_token_id
            )));
        }
        let usual =
            PADDING_TOLERANCE.iter().find(|(kind, _)| *kind == dtype).map_or(0.0, |(_, usual)| *usual);
        if !agree(alone, together, usual) {
            return Err(self.unfit(&format!(
                "a row has logit {alone} by itself and {together} beside a longer one: {CAUSES}"
            )));
        }
        Ok(())
    }

    /// Runs rows of these lengths through it, filled up with `padding`: it must return a number for each.
    fn probe(&self, spec: &LoadSpec, lens: &[usize], padding: u32) -> Result<Tensor, BackendError> {
        let config = &spec.model.config;
        let mut batch = TokenBatch::builder(config.row_limits(spec.max_length));
        for &len in lens {
            let words = (config.vocab_size - 1).max(1);
            let ids: Vec<u32> = (0..len).map(|at| ((7 + 31 * at) % words) as u32).collect();
            let ids: Vec<u32> = ids.into_iter().map(|id| id + u32::from(id >= config.pad_token_id)).collect();
            batch.push(&ids, &vec![0; len])?;
        }
        let batch = batch.finish()?;
        let (rows, len) = (batch.rows(), batch.max_len());
        let output = self.output(&batch, padding).map_err(|error| {
            let message = error::text(&error);
            let what = self.misfit(&format!(
                "called with (input_ids, attention_mask, token_type_ids), each int64 [{rows}, {len}], it fails: {}",
                error::brief(&message)
            ));
            BackendError::load_from(what, error)
        })?;
        let size = output.size();
        if size != [rows as i64] && size != [rows as i64, 1] {
            return Err(self.unfit(&format!(
                "for {rows} rows it returns {size:?}, where one logit a row is wanted: [{rows}] or [{rows}, 1]"
            )));
        }
        Ok(output)
    }

    /// What it computes in: the kind of all its parameters; of one that was frozen and has none left, that of its logits.
    fn dtype(&self, output: &Tensor) -> Result<DType, BackendError> {
        let floating = |kind: &Kind| matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double);
        let parameters = self.module.named_parameters().map_err(error::loading)?;
        let mut kinds: Vec<Kind> =
            parameters.iter().map(|(_, tensor)| tensor.kind()).filter(floating).collect();
        if kinds.is_empty() {
            kinds.push(output.kind());
        }
        if let Some(other) = kinds.iter().find(|kind| **kind != kinds[0]) {
            return Err(self.unfit(&format!("it has parameters of kind {:?} and {other:?}", kinds[0])));
        }
        dtype_of(kinds[0]).ok_or_else(|| self.unfit(&format!("it computes in {:?}", kinds[0])))
    }

    fn unfit(&self, why: &str) -> BackendError {
        BackendError::load(self.misfit(why))
    }

    fn misfit(&self, why: &str) -> String {
        format!("module {} does not fit: {why}", self.file.display())
    }
}
