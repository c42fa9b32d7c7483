//! The `cuda` feature, checked where there is no CUDA.
//!
//! candle compiles its kernels in a build script, which takes NVIDIA's compiler and eight minutes. For the types of our
//! own code neither is needed: a stub answers for the compiler and writes empty kernels. What only a real compiler can
//! tell, `--kernels` asks it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{DENY_WARNINGS, clippy, folder, write_if_changed};
use crate::process;

/// Hopper: the newest architecture that the project measures on.
const COMPUTE_CAPABILITY: &str = "90";

/// NVIDIA's compiler and the headers it needs, as its Python packages have them; all of one release.
const PACKAGES: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-nvvm==13.0.*",
];

/// Stands in for the compiler: tells a version, and writes an empty file wherever it is asked for output.
const STUB: &str = r#"#!/bin/sh
# Not a compiler. It lets build scripts that call one finish, so that Rust code around them can be type-checked.
case " $* " in *" --version "*)
    echo "nvcc: a stub that compiles nothing"
    # Readers count lines: the release is on the fourth.
    echo
    echo
    echo "Cuda compilation tools, release 13.0, V13.0.0"
    exit 0
esac
while [ $# -gt 0 ]; do
    case "$1" in
        -o) : > "$2"; shift ;;
        --output-directory) directory="$2"; shift ;;
        *.cu) sources="$sources $1" ;;
    esac
    shift
done
for source in $sources; do
    [ -z "$directory" ] || : > "$directory/$(basename "$source" .cu).ptx"
done
"#;

pub(super) fn check_types() -> Result<()> {
    let toolkit = folder("cuda")?.join("stub");
    std::fs::create_dir_all(toolkit.join("bin"))?;
    let nvcc = toolkit.join("bin/nvcc");
    write_if_changed(&nvcc, STUB)?;
    make_executable(&nvcc)?;
    process::run(&mut command(&folder("types")?, &toolkit)?)?;
    eprintln!(
        "`cuda` type-checks; nvcc was a stub and compiled no kernel: `cargo xtask check cuda --kernels` does"
    );
    Ok(())
}

pub(super) fn check_kernels() -> Result<()> {
    let folder = folder("cuda-kernels")?;
    let environment = folder.join("venv");
    if !environment.join("bin/pip").exists() {
        process::run(process::command("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let mut install = process::command(environment.join("bin/pip"));
    process::run(install.args(["install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    let toolkit = toolkit(&environment)?;
    process::run(&mut command(&folder.join("target"), &toolkit)?)?;
    eprintln!(
        "`cuda` compiles, kernels included, for compute capability {COMPUTE_CAPABILITY}; nothing was run"
    );
    Ok(())
}

/// Where the wheels put the toolkit: `lib/python3.*/site-packages/nvidia/cu13`.
fn toolkit(environment: &Path) -> Result<std::path::PathBuf> {
    for entry in std::fs::read_dir(environment.join("lib"))? {
        let toolkit = entry?.path().join("site-packages/nvidia/cu13");
        if toolkit.join("bin/nvcc").exists() {
            return Ok(toolkit);
        }
    }
    bail!("the packages left no nvcc below {}: remove that folder and try again", environment.display())
}

/// The check itself, in an environment in which build scripts find this toolkit and no other.
fn command(target_directory: &Path, toolkit: &Path) -> Result<Command> {
    let mut path = vec![toolkit.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path: OsString = std::env::join_paths(path).context("PATH cannot be extended")?;
    let mut command = clippy("cuda", target_directory);
    command
        .args(DENY_WARNINGS)
        .env("PATH", path)
        .env("NVCC", toolkit.join("bin/nvcc"))
        .env("CUDA_HOME", toolkit)
        .env("CUDA_COMPUTE_CAP", COMPUTE_CAPABILITY);
    for other in ["CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
        command.env_remove(other);
    }
    Ok(command)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    bail!("the stub compiler is a shell script: run this check on Linux")
}
