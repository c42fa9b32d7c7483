//! Finds libtorch and lets this crate's tests and benches find it when they run; `rerank-server`'s build script does the
//! same for the server, from what this one hands on as
//! `DEP_RERANK_TORCH_LINK_ARGUMENTS`.
//!
//! torch-sys, which compiles against libtorch, looks in the same places, and mostly speaks first where there is none: what
//! it then says is in `absent/build-version`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// The release that tch 0.26 is generated from: its operators are looked up by their signatures.
const VERSION: &str = "2.13.0";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    match libtorch() {
        Ok((folder, version)) => {
            let shown = folder.display();
            println!("cargo::rerun-if-changed={shown}");
            println!("cargo::rustc-env=RERANK_LIBTORCH={version}");
            let arguments = link_arguments(&folder);
            println!("cargo::metadata=LINK_ARGUMENTS={}", arguments.join(";"));
            for argument in arguments {
                println!("cargo::rustc-link-arg={argument}");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!(
                "cargo::error=backend-torch needs libtorch {VERSION}: {why}; run `cargo xtask setup torch`, or set \
                 LIBTORCH to the folder of one (its `lib` holds libtorch_cpu)"
            );
            ExitCode::FAILURE
        }
    }
}

/// What a program needs beyond torch-sys's own: the folder where it finds libtorch when it runs and, since nothing in it
/// refers to CUDA's half of libtorch, which announces itself when it is loaded, the order to load it all the same.
fn link_arguments(folder: &Path) -> Vec<String> {
    let mut arguments = vec![format!("-Wl,-rpath,{}", folder.display())];
    if folder.join("libtorch_cuda.so").exists() {
        arguments.push(format!("-L{}", folder.display()));
        arguments.extend(
            ["-Wl,--push-state,--no-as-needed", "-ltorch_cuda", "-Wl,--pop-state"].map(str::to_owned),
        );
    }
    arguments
}

/// The folder of libtorch's libraries, without links in its path, since libtorch finds CUDA's libraries from where it lies; and
/// the version that its headers name.
fn libtorch() -> Result<(PathBuf, String), String> {
    let root = if variable("LIBTORCH_USE_PYTORCH").is_some() {
        ask_python()?
    } else if let Some(folder) = variable("LIBTORCH") {
        PathBuf::from(folder)
    } else if PathBuf::from("/usr/lib/libtorch.so").exists() {
        PathBuf::from("/usr")
    } else {
        return Err("LIBTORCH is not set".to_owned());
    };
    let header = variable("LIBTORCH_INCLUDE").map_or_else(|| root.clone(), PathBuf::from);
    let header = header.join("include/torch/headeronly/version.h");
    let version = fs::read_to_string(&header)
        .map(|text| version_in(&text))
        .map_err(|error| format!("{}: {error}", header.display()));
    let bypassed = variable("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
    let version = match version {
        Ok(version) if version == VERSION || bypassed => version,
        Ok(version) => return Err(format!("the one in {} is {version}", root.display())),
        Err(_) if bypassed => "of unknown version".to_owned(),
        Err(why) => return Err(why),
    };
    let lib = variable("LIBTORCH_LIB").map_or(root, PathBuf::from).join("lib");
    let library = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "libtorch_cpu.dylib",
        Ok("windows") => return Err("nobody has built this crate on Windows".to_owned()),
        _ => "libtorch_cpu.so",
    };
    if !lib.join(library).exists() {
        return Err(format!("there is no {}", lib.join(library).display()));
    }
    let lib = lib.canonicalize().map_err(|error| format!("{}: {error}", lib.display()))?;
    Ok((lib, version))
}

/// The three numbers that libtorch's `version.h` defines.
fn version_in(header: &str) -> String {
    let number = |part: &str| {
        let name = format!("#define TORCH_VERSION_{part} ");
        header.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("?").trim().to_owned()
    };
    ["MAJOR", "MINOR", "PATCH"].map(number).join(".")
}

/// The folder of the `torch` package that `python3` imports.
fn ask_python() -> Result<PathBuf, String> {
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import os, torch; print(os.path.dirname(torch.__file__))";
    let output = Command::new(python).args(["-c", script]).output();
    let output = output.map_err(|error| format!("LIBTORCH_USE_PYTORCH is set, but `{python}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("LIBTORCH_USE_PYTORCH is set, but `{python}` cannot import torch"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok()
}
