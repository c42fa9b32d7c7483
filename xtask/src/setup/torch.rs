//! `cargo xtask setup torch`: a libtorch for crates/backend-torch, one that is there already or that of a virtual
//! environment made here, and the word to cargo where it is: `target/torch/cargo.toml`, which `.cargo/config.toml` includes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, command, root};

/// The release that tch's version in the root manifest is generated from.
pub(crate) const VERSION: &str = "2.13.0";

/// Prints the folder of the `torch` package and its version, without the seconds that importing it takes.
const WHERE: &str = "import importlib.metadata, importlib.util, os; \
    print(os.path.dirname(importlib.util.find_spec('torch').origin)); print(importlib.metadata.version('torch'))";

/// Finds or installs libtorch and notes where it is.
pub(super) fn run(dry_run: bool) -> Result<()> {
    let note = root().join("target/torch/cargo.toml");
    let noted = fs::read_to_string(&note).unwrap_or_default();
    let found = match named(&noted)? {
        Some(folder) => Some(folder),
        None => package(Path::new("python3")),
    };
    let folder = match found {
        Some(folder) => folder,
        None if dry_run => {
            println!("would install torch=={VERSION} into {}", environment_folder().display());
            return Ok(());
        }
        None => {
            let python = environment()?;
            package(&python).with_context(|| format!("{} has no torch {VERSION}", python.display()))?
        }
    };
    println!("libtorch {VERSION} in {}", folder.display());
    let words =
        format!("[env]\nLIBTORCH = {{ value = {:?}, relative = false }}\n", folder.display().to_string());
    if dry_run || words == noted {
        return Ok(());
    }
    fs::create_dir_all(root().join("target/torch")).context("cannot create target/torch")?;
    fs::write(&note, words).with_context(|| format!("cannot write {}", note.display()))
}

/// A Python that has PyTorch, in a virtual environment of the project's own, made once. `bench forward` adds to it what
/// its yardstick needs besides.
pub(crate) fn environment() -> Result<PathBuf> {
    let folder = environment_folder();
    let python = folder.join("bin/python");
    if package(&python).is_some() {
        return Ok(python);
    }
    process::run(command("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("Python 3.11 or newer with its venv module is needed (Debian: python3-venv)")?;
    let mut install = command(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    process::run(install.arg(format!("torch=={VERSION}"))).context(
        "PyPI has PyTorch for Linux and for Macs with Apple's processors; elsewhere set LIBTORCH to a libtorch",
    )?;
    Ok(python)
}

fn environment_folder() -> PathBuf {
    root().join("target/torch/environment")
}

/// The libtorch that LIBTORCH names. Under cargo it is always set: by a person, by the note of an earlier run, which is
/// void if what it names has gone, or to the folder that says that there is none.
fn named(noted: &str) -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else { return Ok(None) };
    if is_libtorch(&folder) {
        return Ok(Some(folder));
    }
    let is_ours =
        folder.ends_with("crates/backend-torch/absent") || noted.contains(&*folder.to_string_lossy());
    ensure!(is_ours, "LIBTORCH is {}, where there is no libtorch {VERSION}", folder.display());
    Ok(None)
}

/// Whether a folder holds the headers of the right version, as both a Python package and an archive of libtorch do.
fn is_libtorch(folder: &Path) -> bool {
    let header = fs::read_to_string(folder.join("include/torch/headeronly/version.h")).unwrap_or_default();
    version_in(&header).as_deref() == Some(VERSION)
}

fn version_in(header: &str) -> Option<String> {
    let number = |part| {
        let name = format!("#define TORCH_VERSION_{part} ");
        header.lines().find_map(|line| line.strip_prefix(&name)).map(str::trim)
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

/// The `torch` package of a Python, if it has the right version.
fn package(python: &Path) -> Option<PathBuf> {
    let output = Command::new(python).args(["-c", WHERE]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (folder, version) = text.trim().split_once('\n')?;
    let matches = version.split('+').next() == Some(VERSION) && is_libtorch(Path::new(folder));
    matches.then(|| folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_header() {
        let header =
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n";
        assert_eq!(version_in(header).as_deref(), Some("2.13.0"));
        assert_eq!(version_in("#define TORCH_VERSION_MAJOR 2"), None);
    }

    #[test]
    fn the_build_script_asks_for_the_same_release() {
        let script = fs::read_to_string(root().join("crates/backend-torch/build.rs")).unwrap();
        assert!(script.contains(&format!("const VERSION: &str = \"{VERSION}\";")));
    }
}
