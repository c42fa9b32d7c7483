//! Which backend, device and dtype a server runs. Pure: wishes and factories in, a choice or a lesson out.
//!
//! What is named is loaded or refused, never replaced. `auto` is a word that the user types: it takes the first backend
//! that can run here and keeps the reason of every one it passed over.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rerank_core::{BackendFactory, DType, Device, DeviceInfo, unknown_option};

/// What the user typed: `auto`, or the thing itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<T> {
    /// The server chooses, and says what it chose.
    Auto,
    /// This or nothing.
    Named(T),
}

impl<T: FromStr> FromStr for Wish<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

/// A backend as users name it; whether it exists is only known against a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendName {
    typed: String,
    name: String,
    /// The device that an alias stands for.
    device: Option<Device>,
}

impl BackendName {
    /// A backend by its short name.
    pub(crate) fn of(name: &str) -> Self {
        Self { typed: name.to_owned(), name: name.to_owned(), device: None }
    }
}

impl FromStr for BackendName {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, device) = match text {
            "pytorch" => ("torch", None),
            "mps" => ("candle", Some(Device::Metal)),
            other => (other, None),
        };
        Ok(Self { typed: text.to_owned(), name: name.to_owned(), device })
    }
}

/// What to run, as wished.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The backend.
    pub backend: Wish<BackendName>,
    /// The device.
    pub device: Wish<Device>,
    /// The dtype.
    pub dtype: Wish<DType>,
    /// What only some backends take: the others do not fit.
    pub options: BTreeMap<String, String>,
}

/// What to run, decided.
#[derive(Clone)]
pub struct Selection {
    /// The backend.
    pub factory: &'static dyn BackendFactory,
    /// The device.
    pub device: Device,
    /// The device's product name.
    pub device_name: String,
    /// The dtype.
    pub dtype: DType,
    /// What `auto` passed over, in order.
    pub rejected: Vec<Rejection>,
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} in {}, passed over {:?}",
            self.factory.name(),
            self.device,
            self.dtype,
            self.rejected
        )
    }
}

/// A backend that `auto` did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its short name.
    pub backend: &'static str,
    /// Why not.
    pub reason: String,
}

/// Nothing fits the wishes.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The backend exists and is not compiled in.
    #[error("backend `{name}` is not in this build (has: {has}); rebuild with `--features {name}`")]
    NotCompiled {
        /// Its short name.
        name: String,
        /// What the build has.
        has: String,
    },
    /// No backend has this name.
    #[error("there is no backend `{typed}` in this version (this build has: {has}; known: {known})")]
    Unknown {
        /// What was typed.
        typed: String,
        /// What the build has.
        has: String,
        /// What other builds can have.
        known: String,
    },
    /// An alias names a device, and so does `--device`.
    #[error(
        "`--backend {alias}` means device `{implied}`, but `--device {named}` was given; drop one of them"
    )]
    Contradiction {
        /// The alias typed.
        alias: String,
        /// Its device.
        implied: Device,
        /// The other device.
        named: Device,
    },
    /// The named backend cannot do it here.
    #[error("backend `{name}` cannot be used: {reason}")]
    Unusable {
        /// Its short name.
        name: &'static str,
        /// Why not, and what would help.
        reason: String,
    },
    /// `auto` found none.
    #[error("no backend can be used:{}", list(.0))]
    NoneUsable(Vec<Rejection>),
    /// The build has no backend at all.
    #[error("this build has no backend; rebuild with one of these features: {known}")]
    NoneCompiled {
        /// What other builds can have.
        known: String,
    },
}

fn list(rejections: &[Rejection]) -> String {
    let lines = rejections.iter().map(|rejection| format!("\n  {}: {}", rejection.backend, rejection.reason));
    lines.collect::<Vec<_>>().concat()
}

/// Backends that `auto` never takes: a server that makes scores up must have been asked for by name.
const BY_NAME_ONLY: &[&str] = &["mock"];

/// Decides. `known` are the names of all backends of this version, compiled in or not.
pub fn select(
    wishes: &Wishes,
    compiled: &[&'static dyn BackendFactory],
    known: &[&str],
) -> Result<Selection, SelectError> {
    if compiled.is_empty() {
        return Err(SelectError::NoneCompiled { known: known.join(", ") });
    }
    match &wishes.backend {
        Wish::Named(name) => named(name, wishes, compiled, known),
        Wish::Auto => automatic(wishes, compiled),
    }
}

fn named(
    name: &BackendName,
    wishes: &Wishes,
    compiled: &[&'static dyn BackendFactory],
    known: &[&str],
) -> Result<Selection, SelectError> {
    let Some(&factory) = compiled.iter().find(|factory| factory.name() == name.name) else {
        let has = compiled.iter().map(|factory| factory.name()).collect::<Vec<_>>().join(", ");
        return Err(if known.contains(&name.name.as_str()) {
            SelectError::NotCompiled { name: name.name.clone(), has }
        } else {
            SelectError::Unknown { typed: name.typed.clone(), has, known: known.join(", ") }
        });
    };
    let device = match (name.device, wishes.device) {
        (Some(implied), Wish::Named(named)) if implied != named => {
            return Err(SelectError::Contradiction { alias: name.typed.clone(), implied, named });
        }
        (Some(implied), _) => Wish::Named(implied),
        (None, device) => device,
    };
    let (found, dtype) = fit(factory, device, wishes)
        .map_err(|reason| SelectError::Unusable { name: factory.name(), reason })?;
    Ok(Selection { factory, device: found.device, device_name: found.name, dtype, rejected: Vec::new() })
}

fn automatic(wishes: &Wishes, compiled: &[&'static dyn BackendFactory]) -> Result<Selection, SelectError> {
    let fits: Vec<_> = compiled
        .iter()
        .map(|&factory| {
            let backend = factory.name();
            if BY_NAME_ONLY.contains(&backend) {
                return Err(format!("only taken when named: `--backend {backend}`"));
            }
            fit(factory, wishes.device, wishes)
        })
        .collect();
    // A GPU beats any kernel for the CPU; among equals the registry's order decides.
    let on_gpu = |fit: &Result<(DeviceInfo, DType), String>| {
        fit.as_ref().is_ok_and(|(found, _)| found.device != Device::Cpu)
    };
    let chosen = fits.iter().position(on_gpu).or_else(|| fits.iter().position(Result::is_ok));
    let passed_over = fits[..chosen.unwrap_or(fits.len())].iter().zip(compiled);
    let rejected = passed_over.map(|(fit, factory)| {
        let reason = match fit {
            Ok((found, _)) => format!("it runs on `{}`, and there is a GPU", found.device),
            Err(reason) => reason.clone(),
        };
        Rejection { backend: factory.name(), reason }
    });
    let rejected: Vec<Rejection> = rejected.collect();
    match chosen.and_then(|index| Some((compiled[index], fits[index].as_ref().ok()?))) {
        Some((factory, (found, dtype))) => Ok(Selection {
            factory,
            device: found.device,
            device_name: found.name.clone(),
            dtype: *dtype,
            rejected,
        }),
        None => Err(SelectError::NoneUsable(rejected)),
    }
}

/// The backend's best device and dtype within the wishes, or why there is none.
fn fit(
    factory: &dyn BackendFactory,
    device: Wish<Device>,
    &Wishes { dtype, ref options, .. }: &Wishes,
) -> Result<(DeviceInfo, DType), String> {
    if let Some(reason) = unknown_option(options, factory) {
        return Err(reason);
    }
    let devices = factory.probe().map_err(|unavailable| unavailable.reason)?;
    let candidates: Vec<&DeviceInfo> = match device {
        Wish::Auto => devices.iter().collect(),
        Wish::Named(wanted) => devices.iter().filter(|info| info.device == wanted).collect(),
    };
    if candidates.is_empty() {
        let Wish::Named(wanted) = device else { return Err("it found no device".to_owned()) };
        let has = join(devices.iter().map(|info| info.device));
        return Err(format!(
            "it has no device `{wanted}` here (has: {has}){}",
            remedy(factory.name(), wanted)
        ));
    }
    let found = candidates.iter().find_map(|info| match dtype {
        Wish::Auto => info.dtypes.first().map(|&best| (*info, best)),
        Wish::Named(wanted) => info.dtypes.contains(&wanted).then_some((*info, wanted)),
    });
    match (found, dtype) {
        (Some((info, dtype)), _) => Ok((info.clone(), dtype)),
        (None, Wish::Auto) => Err("its devices offer no dtype".to_owned()),
        (None, Wish::Named(wanted)) => {
            let can = candidates.iter().map(|info| format!("{} on `{}`", join(&info.dtypes), info.device));
            Err(format!("it cannot compute in `{wanted}` (can: {})", join(can)))
        }
    }
}

/// What makes a device appear: it may be the build's features that lack, not the machine. libtorch's devices are those
/// of the libtorch at hand.
fn remedy(backend: &str, device: Device) -> &'static str {
    match device {
        _ if backend == "torch" => "",
        Device::Cuda(_) if !cfg!(feature = "cuda") => "; this build is without the feature `cuda`",
        Device::Metal if !cfg!(feature = "metal") => "; this build is without the feature `metal`",
        _ => "",
    }
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rerank_core::{Backend, BackendError, LoadSpec, Unavailable};

    use super::*;

    struct Fake {
        name: &'static str,
        probe: Result<&'static [(Device, &'static [DType])], &'static str>,
    }

    impl BackendFactory for Fake {
        fn name(&self) -> &'static str {
            self.name
        }

        fn probe(&self) -> Result<Vec<DeviceInfo>, Unavailable> {
            let devices = self.probe.map_err(Unavailable::new)?;
            let info = |&(device, dtypes): &(Device, &[DType])| DeviceInfo {
                device,
                name: "fake".into(),
                dtypes: dtypes.to_vec(),
            };
            Ok(devices.iter().map(info).collect())
        }

        fn load(&self, _: &LoadSpec) -> Result<Box<dyn Backend>, BackendError> {
            unreachable!("selecting loads nothing")
        }
    }

    static MLX: Fake = Fake { name: "mlx", probe: Err("needs an Apple GPU") };
    static CANDLE: Fake = Fake {
        name: "candle",
        probe: Ok(&[(Device::Cuda(0), &[DType::F16, DType::F32]), (Device::Cpu, &[DType::F32, DType::BF16])]),
    };
    static COMPILED: Fake = Fake { name: "compiled", probe: Ok(&[(Device::Cpu, &[DType::F32])]) };
    static MOCK: Fake = Fake { name: "mock", probe: Ok(&[(Device::Cpu, &[DType::F32])]) };
    const KNOWN: &[&str] = &["mlx", "candle", "torch", "mock"];

    fn choose(backend: &str, device: &str, dtype: &str, compiled: &[&'static dyn BackendFactory]) -> String {
        let wishes = Wishes {
            backend: backend.parse().unwrap(),
            device: device.parse().unwrap(),
            dtype: dtype.parse().unwrap(),
            options: BTreeMap::new(),
        };
        match select(&wishes, compiled, KNOWN) {
            Ok(selection) => format!("{selection:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn auto_takes_the_first_that_runs_and_keeps_the_reasons() {
        insta::assert_snapshot!(choose("auto", "auto", "auto", &[&MLX, &CANDLE]), @r#"candle on cuda:0 in f16, passed over [Rejection { backend: "mlx", reason: "needs an Apple GPU" }]"#);
        insta::assert_snapshot!(choose("auto", "cpu", "auto", &[&CANDLE]), @"candle on cpu in f32, passed over []");
        insta::assert_snapshot!(choose("auto", "auto", "auto", &[&COMPILED, &CANDLE]), @r#"candle on cuda:0 in f16, passed over [Rejection { backend: "compiled", reason: "it runs on `cpu`, and there is a GPU" }]"#);
        insta::assert_snapshot!(choose("auto", "cpu", "auto", &[&COMPILED, &CANDLE]), @"compiled on cpu in f32, passed over []");
        insta::assert_snapshot!(choose("auto", "auto", "bf16", &[&CANDLE]), @"candle on cpu in bf16, passed over []");
    }

    #[test]
    fn auto_never_makes_scores_up() {
        insta::assert_snapshot!(choose("auto", "auto", "auto", &[&MLX, &MOCK]), @r"
        no backend can be used:
          mlx: needs an Apple GPU
          mock: only taken when named: `--backend mock`
        ");
        insta::assert_snapshot!(choose("mock", "auto", "auto", &[&MLX, &MOCK]), @"mock on cpu in f32, passed over []");
    }

    #[test]
    fn what_is_named_is_loaded_or_refused() {
        insta::assert_snapshot!(choose("torch", "auto", "auto", &[&CANDLE]), @"backend `torch` is not in this build (has: candle); rebuild with `--features torch`");
        insta::assert_snapshot!(choose("onnx", "auto", "auto", &[&CANDLE]), @"there is no backend `onnx` in this version (this build has: candle; known: mlx, candle, torch, mock)");
        insta::assert_snapshot!(choose("mlx", "auto", "auto", &[&MLX]), @"backend `mlx` cannot be used: needs an Apple GPU");
        insta::assert_snapshot!(choose("candle", "cuda:1", "auto", &[&CANDLE]), @"backend `candle` cannot be used: it has no device `cuda:1` here (has: cuda:0, cpu); this build is without the feature `cuda`");
        insta::assert_snapshot!(choose("candle", "cpu", "f16", &[&CANDLE]), @"backend `candle` cannot be used: it cannot compute in `f16` (can: f32, bf16 on `cpu`)");
        insta::assert_snapshot!(choose("candle", "auto", "int8", &[&CANDLE]), @"backend `candle` cannot be used: it cannot compute in `int8` (can: f16, f32 on `cuda:0`, f32, bf16 on `cpu`)");
    }

    #[test]
    fn an_option_that_a_backend_does_not_take_rules_it_out() {
        let options = BTreeMap::from([("module".to_owned(), "x".to_owned())]);
        let wishes = Wishes { backend: Wish::Auto, device: Wish::Auto, dtype: Wish::Auto, options };
        let named = Wishes { backend: Wish::Named(BackendName::of("candle")), ..wishes.clone() };
        let refused = |wishes| select(wishes, &[&CANDLE], KNOWN).unwrap_err().to_string();
        insta::assert_snapshot!(refused(&named), @"backend `candle` cannot be used: it takes no option `module`");
        insta::assert_snapshot!(refused(&wishes), @r"
        no backend can be used:
          candle: it takes no option `module`
        ");
    }

    #[test]
    fn aliases_mean_what_users_know_them_for() {
        insta::assert_snapshot!(choose("pytorch", "auto", "auto", &[&CANDLE]), @"backend `torch` is not in this build (has: candle); rebuild with `--features torch`");
        insta::assert_snapshot!(choose("mps", "auto", "auto", &[&CANDLE]), @"backend `candle` cannot be used: it has no device `metal` here (has: cuda:0, cpu); this build is without the feature `metal`");
        insta::assert_snapshot!(choose("mps", "cpu", "auto", &[&CANDLE]), @"`--backend mps` means device `metal`, but `--device cpu` was given; drop one of them");
    }

    #[test]
    fn a_build_without_backends_says_so() {
        insta::assert_snapshot!(choose("auto", "auto", "auto", &[]), @"this build has no backend; rebuild with one of these features: mlx, candle, torch, mock");
    }
}
