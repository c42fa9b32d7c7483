//! The machine and the software at the time of measuring.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context as _, Result};
use rerank_report::Environment;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::process::{command, root};

/// Instruction sets that the backends' kernels look for.
const CPU_FEATURES: [&str; 20] = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
];

/// Libraries that do the work, by their names in Cargo.lock.
const LIBRARIES: [&str; 12] = [
    "axum",
    "candle-core",
    "candle-nn",
    "gemm",
    "half",
    "hdrhistogram",
    "mlx-rs",
    "safetensors",
    "tch",
    "tokenizers",
    "tokio",
    "tonic",
];

/// Variables that steer threads and kernels.
const VARIABLES: [&str; 10] = [
    "RUSTFLAGS",
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "MALLOC_ARENA_MAX",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
];

/// Looks at everything once, before the first server starts.
pub(super) fn environment(name: Option<&str>, build: &str) -> Result<Environment> {
    let refresh = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh).context("the system tells nothing of itself")?;
    let cpu =
        system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty());
    let usable_cores = std::thread::available_parallelism()?.get();
    let machine = name.map_or_else(
        || format!("{}-{usable_cores}c", slug(cpu.as_deref().unwrap_or(std::env::consts::ARCH))),
        str::to_owned,
    );
    let text = |value: Option<String>| value.unwrap_or_else(|| "n/a".to_owned());
    Ok(Environment {
        machine,
        cpu,
        physical_cores: System::physical_core_count().ok(),
        usable_cores,
        cpu_features: cpu_features(),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|governor| governor.trim().to_owned()),
        memory_mib: Some(system.total_memory() >> 20).filter(|mib| *mib > 0),
        gpus: gpus(),
        os: format!(
            "{}, kernel {}",
            text(System::long_os_version().ok()),
            text(System::kernel_version().ok())
        ),
        load_average: System::load_average().ok().map(|load| load.one),
        // Programs may have been brought to a machine that has no compiler.
        rustc: text(quietly(command("rustc").arg("--version")).map(|version| version.trim().to_owned())),
        build: build.to_owned(),
        commit: git(&["rev-parse", "HEAD"]).map(|commit| commit.trim().to_owned()),
        dirty: git(&["status", "--porcelain"]).map(|changes| !changes.trim().is_empty()),
        libraries: libraries()?,
        variables: VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect(),
    })
}

/// Lower-case letters, digits and single dashes: `intel-xeon-platinum-8481c-cpu-2-70ghz`.
fn slug(name: &str) -> String {
    let plain = name.replace("(R)", "").replace("(TM)", "").to_lowercase();
    let words: Vec<&str> =
        plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn cpu_features() -> Vec<String> {
    // Linux names them `flags` on x86 and `Features` on Arm. macOS lists none of its own.
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let found: BTreeSet<&str> = line.map(|line| line.split_whitespace().collect()).unwrap_or_default();
    CPU_FEATURES.iter().filter(|name| found.contains(**name)).map(|name| (*name).to_owned()).collect()
}

/// GPUs from the tool that comes with their driver; none where there is no such tool.
fn gpus() -> Vec<String> {
    if cfg!(target_os = "macos") {
        let told = quietly(Command::new("system_profiler").arg("SPDisplaysDataType")).unwrap_or_default();
        let chips = told.lines().filter_map(|line| line.trim().strip_prefix("Chipset Model:"));
        return chips.map(|chip| format!("{}, Metal", chip.trim())).collect();
    }
    let query =
        ["--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit", "--format=csv,noheader"];
    let told = quietly(Command::new("nvidia-smi").args(query)).unwrap_or_default();
    told.lines().map(|line| format!("{} (driver, memory, clock, power limit)", line.trim())).collect()
}

fn git(arguments: &[&str]) -> Option<String> {
    quietly(command("git").args(arguments))
}

/// The output of a program that may well be missing.
fn quietly(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn libraries() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: toml::Table = text.parse().context("Cargo.lock is no TOML")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock lists no package")?;
    let field = |package: &toml::Value, name: &str| {
        package.get(name).and_then(toml::Value::as_str).map(str::to_owned)
    };
    let versions =
        packages.iter().filter_map(|package| Some((field(package, "name")?, field(package, "version")?)));
    let mut libraries = BTreeMap::<String, String>::new();
    for (name, version) in versions.filter(|(name, _)| LIBRARIES.contains(&name.as_str())) {
        let known = libraries.entry(name).or_default();
        *known = if known.is_empty() { version } else { format!("{known} and {version}") };
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_names_that_folders_can_have() {
        assert_eq!(slug("Intel(R) Xeon(R) CPU @ 2.20GHz"), "intel-xeon-cpu-2-20ghz");
        assert_eq!(slug("Apple M3 Max"), "apple-m3-max");
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let environment = environment(Some("desk"), "profile bench").unwrap();
        assert_eq!(environment.machine, "desk");
        assert!(environment.rustc.starts_with("rustc "));
        assert!(environment.libraries.contains_key("tokenizers"), "{:?}", environment.libraries);
        assert!(environment.memory_mib > Some(256));
    }
}
