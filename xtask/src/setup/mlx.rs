//! `cargo xtask setup mlx`: MLX for x86-64 Linux under `target/mlx/`, and a file that lets cargo find it there.
//!
//! mlx-sys, under mlx-rs, has a build script for macOS alone: it fetches MLX's source from GitHub and builds it with
//! Apple's tools. MLX itself also runs on Linux, on its CPU device, and there is a wheel with a shared library. What is
//! missing between the two is made here: mlx-c, whose source mlx-sys carries, and Rust bindings to it. Cargo is then told
//! not to run the build script but to link to this. The module can go when mlx-sys builds on Linux;
//! docs/mlx-on-linux.md has the whole story.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::process::{self, cargo, command, root};

/// From `PyPI`: the library with its headers, what builds mlx-c, and what bindgen reads C headers with. mlx-sys 0.7.0 is
/// for this MLX. Debian's clang 14 does not know `_Float16` on x86.
const PACKAGES: [&str; 4] = ["mlx-cpu==0.32.2", "cmake==4.4.5", "ninja==1.13.2", "libclang==18.1.1"];

/// What mlx-sys's build script uses.
const BINDGEN: &str = "bindgen-cli@0.72.1 --no-default-features --features runtime";

/// Read before every source of mlx-c. On x86 it leaves out the functions for 16-bit numbers, which mlx-rs calls; and it
/// uses `std::format`, which GCC has from 13 on, in two files, with plain `{}` and nothing else.
const PRELUDE: &str = r#"#pragma once
#include "mlx/types/half_types.h"
#define HAS_FLOAT16
#define HAS_BFLOAT16
using mlx::core::bfloat16_t;
using mlx::core::float16_t;

#include <version>
#if __has_include(<format>)
#include <format>
#endif
#ifndef __cpp_lib_format
#include <sstream>
#include <string>
#include <string_view>
namespace std {
template <typename... Values>
string format(string_view text, const Values&... values) {
  ostringstream out;
  auto put = [&](const auto& value) {
    auto at = text.find("{}");
    out << text.substr(0, at) << value;
    text.remove_prefix(at + 2);
  };
  (put(values), ...);
  out << text;
  return out.str();
}
} // namespace std
#endif
"#;

/// What the bindings are made from: the same functions, in C.
const HEADERS: &str = r#"#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef _Float16 float16_t;
typedef unsigned short bfloat16_t;
#include "mlx/c/mlx.h"
"#;

/// Whether there is an MLX for this machine.
pub(crate) const EXISTS: bool =
    cfg!(any(target_os = "macos", all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")));

/// Sets MLX up, unless it is there as this file would make it.
pub(crate) fn run(dry_run: bool) -> Result<()> {
    if cfg!(target_os = "macos") {
        println!(
            "MLX: nothing to set up, mlx-sys builds it (Xcode's command line tools and cmake are needed)"
        );
        return Ok(());
    }
    if !EXISTS {
        bail!(
            "MLX can be set up on x86-64 Linux with glibc alone: its CPU build is on PyPI for nothing else"
        );
    }
    let mlx = root().join("target/mlx");
    let source = mlx_c()?;
    // A folder that was moved, another mlx-sys, and any change of this file start anew.
    let wanted = format!("{}\n{}\n{}", mlx.display(), source.display(), include_str!("mlx.rs"));
    let stamp = mlx.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        println!("MLX in {}", mlx.display());
        return Ok(());
    }
    let commands = commands(&mlx, &source)?;
    if dry_run {
        for command in &commands {
            println!("would run: {}", process::shown(command));
        }
        return Ok(());
    }
    if mlx.exists() {
        fs::remove_dir_all(&mlx).with_context(|| format!("cannot remove {}", mlx.display()))?;
    }
    fs::create_dir_all(mlx.join("bindings"))?;
    fs::write(mlx.join("prelude.h"), PRELUDE)?;
    fs::write(mlx.join("headers.h"), HEADERS)?;
    for mut command in commands {
        process::run(&mut command).context(
            "MLX needs Python 3.11 or newer with its venv module and a C++20 compiler (Debian: python3-venv, g++)",
        )?;
    }
    fs::write(mlx.join("config.toml"), configuration(&mlx))?;
    fs::remove_dir_all(mlx.join("tools"))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// mlx-c's source, inside mlx-sys in cargo's registry.
fn mlx_c() -> Result<PathBuf> {
    let metadata = MetadataCommand::new().current_dir(root()).exec().context("cargo metadata")?;
    let mlx_sys = metadata.packages.iter().find(|package| *package.name == "mlx-sys");
    let manifest = &mlx_sys.context("no package of the workspace depends on mlx-sys")?.manifest_path;
    Ok(manifest.with_file_name("src/mlx-c").into())
}

/// In the order in which they run.
fn commands(mlx: &Path, source: &Path) -> Result<Vec<Command>> {
    let packages = mlx.join("packages");
    let (environment, tools, build) = (mlx.join("python"), mlx.join("tools"), mlx.join("lib"));

    let mut python = command("python3");
    python.args(["-m", "venv"]).arg(&environment);
    let mut install = command(environment.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    install.arg(&packages).args(PACKAGES);

    let mut bindgen = cargo(&format!("install --locked --debug {BINDGEN}"));
    bindgen.arg("--root").arg(&tools).env("CARGO_TARGET_DIR", tools.join("build"));
    bindgen.env("CARGO_PROFILE_DEV_DEBUG", "0");

    let cmake = packages.join("cmake/data/bin/cmake");
    let mut configure = command(&cmake);
    configure.arg("-S").arg(source).arg("-B").arg(&build);
    configure.args(["-G", "Ninja", "-Wno-author", "--log-level=WARNING"]);
    configure.args(["-DMLX_C_USE_SYSTEM_MLX=ON", "-DBUILD_SHARED_LIBS=ON", "-DMLX_C_BUILD_EXAMPLES=OFF"]);
    configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", packages.join("bin/ninja").display()));
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", packages.join("mlx").display()));
    // Thin functions around MLX's: more optimisation would slow their build alone. CMake tries the flags before it has
    // read where MLX's headers are.
    let headers = packages.join("mlx/include");
    let flags =
        format!("-O1 -std=c++20 -I{} -include {}", headers.display(), mlx.join("prelude.h").display());
    configure.arg(format!("-DCMAKE_CXX_FLAGS={flags}"));
    let mut compile = command(&cmake);
    compile.arg("--build").arg(&build);

    // libclang comes without the headers that belong to a compiler.
    let own_headers = process::read(command("cc").arg("-print-file-name=include"))?;
    let mut bind = command(tools.join("bin/bindgen"));
    bind.arg(mlx.join("headers.h")).arg("--output").arg(mlx.join("bindings/bindings.rs"));
    bind.args(["--with-derive-default", "--no-layout-tests", "--rust-target", "1.73"]);
    bind.args(["--blocklist-function", "malloc", "--blocklist-function", "realloc", "--"]);
    bind.arg("-I").arg(source).arg("-isystem").arg(own_headers.trim());
    bind.env("LIBCLANG_PATH", packages.join("clang/native"));

    Ok(vec![python, install, bindgen, configure, compile, bind])
}

/// What `.cargo/config.toml` includes: the override of mlx-sys's build script, and for backend-mlx's the place that
/// programs look for the libraries in. Paths are absolute, since cargo compiles mlx-sys in the registry's folder.
fn configuration(mlx: &Path) -> String {
    let text = |path: PathBuf| toml::Value::from(path.display().to_string());
    let (lib, bindings) = (text(mlx.join("lib")), text(mlx.join("bindings")));
    format!(
        r#"# Written by `cargo xtask setup mlx`.
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-search = [{lib}]
rustc-link-lib = ["mlxc"]
rustc-env = {{ OUT_DIR = {bindings} }}

[env]
RERANK_MLX_LIBRARIES = {lib}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_cargo_is_toml_that_names_the_folders() {
        let table: toml::Table = configuration(Path::new("/a b/target/mlx")).parse().unwrap();
        let mlx = &table["target"]["x86_64-unknown-linux-gnu"]["mlx"];
        assert_eq!(mlx["rustc-link-search"][0].as_str(), Some("/a b/target/mlx/lib"));
        assert_eq!(mlx["rustc-env"]["OUT_DIR"].as_str(), Some("/a b/target/mlx/bindings"));
        assert_eq!(table["env"]["RERANK_MLX_LIBRARIES"].as_str(), Some("/a b/target/mlx/lib"));
    }
}
