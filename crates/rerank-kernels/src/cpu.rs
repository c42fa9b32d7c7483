//! What this processor can do, and what of it may be used.
#![cfg_attr(
    all(target_os = "linux", target_arch = "x86_64"),
    expect(unsafe_code, reason = "the kernel has to be asked for the tile registers by a system call")
)]

use std::fmt;

/// An instruction set that a kernel is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// 256-bit vectors with fused multiply-add, and `maddubs` on integers.
    Avx2,
    /// Dot products of bytes in 256-bit vectors.
    AvxVnni,
    /// 512-bit vectors: AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// Dot products of bytes in 512-bit vectors.
    Avx512Vnni,
    /// Dot products of bf16 in 512-bit vectors.
    Avx512Bf16,
    /// Products of tiles of bytes.
    AmxInt8,
    /// Products of tiles of bf16.
    AmxBf16,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
    /// Dot products of bytes in them.
    NeonDot,
}

impl Feature {
    /// Every feature, each after those that it needs.
    pub const ALL: [Self; 9] = [
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Avx512Bf16,
        Self::AmxInt8,
        Self::AmxBf16,
        Self::Neon,
        Self::NeonDot,
    ];

    /// Its name in [`FEATURES_VARIABLE`] and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::AmxInt8 => "amx-int8",
            Self::AmxBf16 => "amx-bf16",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dot",
        }
    }

    /// The features that a kernel for this one also uses.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Avx2 | Self::Neon => &[],
            Self::AvxVnni | Self::Avx512 => &[Self::Avx2],
            Self::NeonDot => &[Self::Neon],
            Self::Avx512Vnni | Self::Avx512Bf16 | Self::AmxInt8 | Self::AmxBf16 => {
                &[Self::Avx2, Self::Avx512]
            }
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The environment variable that narrows the choice: names of [`Feature`]s with commas between them, or `portable`.
pub const FEATURES_VARIABLE: &str = "RERANK_CPU_FEATURES";

/// A set of features that this processor is known to have.
///
/// There is no way to make one that claims more, so a kernel that is given one may rely on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cpu(u16);

/// [`FEATURES_VARIABLE`] asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeaturesError {
    /// No feature has this name.
    #[error("{FEATURES_VARIABLE}: there is no `{name}`; known: portable, {}", names(u16::MAX))]
    Unknown {
        /// What was written.
        name: String,
    },
    /// `portable` stands beside a feature.
    #[error(
        "{FEATURES_VARIABLE}: `portable` means no feature at all and stands alone; in `{wanted}` it does not"
    )]
    Mixed {
        /// What was written.
        wanted: String,
    },
    /// The feature exists, but not here.
    #[error("{FEATURES_VARIABLE}: this processor has no `{name}`; it has {has}")]
    Absent {
        /// What was asked for.
        name: &'static str,
        /// What there is.
        has: Cpu,
    },
}

impl Cpu {
    /// No feature at all: every kernel is its portable form, the oracle that the others are tested against.
    pub const PORTABLE: Self = Self(0);

    /// Everything that this processor and its operating system offer.
    pub fn detect() -> Self {
        let found = Feature::ALL.into_iter().filter(|&feature| detected(feature));
        Self(found.fold(0, |bits, feature| bits | feature.bit()))
    }

    /// What [`FEATURES_VARIABLE`] leaves of it: all, if it is unset or empty.
    pub fn from_env() -> Result<Self, FeaturesError> {
        match std::env::var_os(FEATURES_VARIABLE) {
            Some(wanted) if !wanted.is_empty() => Self::detect().only(&wanted.to_string_lossy()),
            _ => Ok(Self::detect()),
        }
    }

    /// The named features and those that they need, all of which must be there; or none, as `portable`.
    pub fn only(self, wanted: &str) -> Result<Self, FeaturesError> {
        let mut bits = 0;
        let names: Vec<&str> = wanted.split(',').map(str::trim).collect();
        if names == ["portable"] {
            return Ok(Self::PORTABLE);
        }
        for name in names {
            if name == "portable" {
                return Err(FeaturesError::Mixed { wanted: wanted.to_owned() });
            }
            let feature = Feature::ALL.into_iter().find(|feature| feature.name() == name);
            let feature = feature.ok_or_else(|| FeaturesError::Unknown { name: name.to_owned() })?;
            for &feature in feature.needs().iter().chain([&feature]) {
                if !self.has(feature) {
                    return Err(FeaturesError::Absent { name: feature.name(), has: self });
                }
                bits |= feature.bit();
            }
        }
        Ok(Self(bits))
    }

    /// Whether kernels may use it.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// Every set that differs in which kernels it selects, the portable one first: what tests go through.
    pub fn choices(self) -> Vec<Self> {
        let alone = Feature::ALL
            .into_iter()
            .filter(|&feature| self.has(feature))
            .map(|feature| self.only(feature.name()).expect("what it has, it can be narrowed to"));
        std::iter::once(Self::PORTABLE).chain(alone).collect()
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names(self.0))
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn names(bits: u16) -> String {
    let names: Vec<_> = Feature::ALL
        .iter()
        .filter(|feature| bits & feature.bit() != 0)
        .map(|feature| feature.name())
        .collect();
    if names.is_empty() { "portable".to_owned() } else { names.join(", ") }
}

#[cfg(target_arch = "x86_64")]
fn detected(feature: Feature) -> bool {
    use std::arch::is_x86_feature_detected as has;

    use pulp::x86::{V3, V4};

    match feature {
        Feature::Avx2 => V3::is_available(),
        Feature::AvxVnni => V3::is_available() && has!("avxvnni"),
        Feature::Avx512 => V4::is_available(),
        Feature::Avx512Vnni => V4::is_available() && has!("avx512vnni"),
        Feature::Avx512Bf16 => V4::is_available() && has!("avx512bf16"),
        Feature::AmxInt8 => V4::is_available() && amx(25),
        Feature::AmxBf16 => V4::is_available() && amx(22),
        Feature::Neon | Feature::NeonDot => false,
    }
}

#[cfg(target_arch = "aarch64")]
fn detected(feature: Feature) -> bool {
    use std::arch::is_aarch64_feature_detected as has;

    match feature {
        Feature::Neon => pulp::aarch64::Neon::is_available(),
        Feature::NeonDot => pulp::aarch64::Neon::is_available() && has!("dotprod"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected(_: Feature) -> bool {
    false
}

/// Whether there are tile registers whose products have this bit in EDX of CPUID leaf 7, and the process may use them.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn amx(product: u32) -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const TILES: u32 = 24;
    if __cpuid(0).eax < 7 {
        return false;
    }
    let edx = __cpuid_count(7, 0).edx;
    edx >> TILES & 1 == 1 && edx >> product & 1 == 1 && tiles_permitted()
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx(_product: u32) -> bool {
    false
}

/// Asks Linux for the tile registers, once: their state is large, so a process has to want it.
/// <https://docs.kernel.org/arch/x86/xstate.html>
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn tiles_permitted() -> bool {
    use std::sync::LazyLock;

    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: this code of arch_prctl takes a number and touches no memory of ours; kernels that do not know it
        // answer EINVAL.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    });
    *PERMITTED
}

/// The processor's product name; where the system does not tell, its architecture.
pub fn processor() -> String {
    let cpus = sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing());
    let brand = sysinfo::System::new_with_specifics(cpus)
        .ok()
        .and_then(|system| Some(system.cpus().first()?.brand().trim().to_owned()));
    brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Feature, FeaturesError};

    #[test]
    fn features_bring_what_they_need_and_nothing_else() {
        let all = Cpu(u16::MAX);
        let some = all.only("amx-int8").unwrap();
        assert!(some.has(Feature::AmxInt8) && some.has(Feature::Avx512) && some.has(Feature::Avx2));
        assert!(!some.has(Feature::Avx512Vnni) && !some.has(Feature::AmxBf16));
        assert_eq!(all.only("portable").unwrap(), Cpu::PORTABLE);
        assert_eq!(all.only(" avx2 , avx-vnni").unwrap().to_string(), "avx2, avx-vnni");
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let unknown = Cpu(u16::MAX).only("avx3").unwrap_err();
        assert_eq!(unknown, FeaturesError::Unknown { name: "avx3".to_owned() });
        assert!(unknown.to_string().contains("known: portable, avx2, avx-vnni"), "{unknown}");
        let mixed = Cpu(u16::MAX).only("portable, avx2").unwrap_err();
        assert_eq!(mixed, FeaturesError::Mixed { wanted: "portable, avx2".to_owned() });
        let absent = Cpu(Feature::Avx2.bit()).only("avx512-vnni").unwrap_err();
        assert_eq!(absent.to_string(), "RERANK_CPU_FEATURES: this processor has no `avx512`; it has avx2");
    }

    #[test]
    fn every_choice_is_a_part_of_what_there_is() {
        let here = Cpu::detect();
        let choices = here.choices();
        assert_eq!(choices[0], Cpu::PORTABLE);
        assert!(choices.iter().all(|choice| choice.0 & !here.0 == 0));
    }
}
