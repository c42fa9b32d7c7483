//! `cargo xtask setup torch`: a libtorch for crates/backend-torch, one that is there already or that of a virtual
//! environment made here, and the word to cargo where it is: `target/torch/cargo.toml`, which `.cargo/config.toml` includes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
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
    let note = note();
    let noted = fs::read_to_string(&note).unwrap_or_default();
    let found = match named()? {
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
    let words = note_for(&folder);
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

/// Whether LIBTORCH comes from `.cargo/config.toml`, as it does under cargo unless a person set it: the folder that says
/// that there is no libtorch, or what an earlier run noted. Cargo passes it to the programs that it runs, and believes what
/// it inherits more than its configuration, so a cargo started from here must not inherit what is about to change.
pub(crate) fn is_configured() -> bool {
    static IS_CONFIGURED: LazyLock<bool> = LazyLock::new(|| {
        let noted = fs::read_to_string(note()).unwrap_or_default();
        env::var_os("LIBTORCH").is_some_and(|folder| is_from_configuration(Path::new(&folder), &noted))
    });
    *IS_CONFIGURED
}

fn is_from_configuration(folder: &Path, noted: &str) -> bool {
    folder.ends_with("crates/backend-torch/absent") || noted == note_for(folder)
}

/// The libtorch that LIBTORCH names, if there is one. That a person named none is an error; what an earlier run noted may
/// have gone since.
fn named() -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) else { return Ok(None) };
    if is_libtorch(&folder) {
        // A relative path would mean another folder to every build script.
        let folder = root().join(folder).canonicalize().context("the folder of LIBTORCH")?;
        return Ok(Some(folder));
    }
    ensure!(is_configured(), "LIBTORCH is {}, where there is no libtorch {VERSION}", folder.display());
    Ok(None)
}

/// Where cargo is told of the libtorch that was found.
fn note() -> PathBuf {
    root().join("target/torch/cargo.toml")
}

fn note_for(libtorch: &Path) -> String {
    format!("[env]\nLIBTORCH = {{ value = {:?}, relative = false }}\n", libtorch.display().to_string())
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
    fn what_cargo_was_told_is_not_taken_for_a_persons_word() {
        let libtorch = Path::new("/opt/libtorch");
        assert!(is_from_configuration(&root().join("crates/backend-torch/absent"), ""));
        assert!(is_from_configuration(libtorch, &note_for(libtorch)));
        assert!(!is_from_configuration(libtorch, &note_for(Path::new("/opt/libtorch/other"))));
        assert!(!is_from_configuration(libtorch, ""));
    }

    #[test]
    fn the_build_script_asks_for_the_same_release() {
        let script = fs::read_to_string(root().join("crates/backend-torch/build.rs")).unwrap();
        assert!(script.contains(&format!("const VERSION: &str = \"{VERSION}\";")));
    }
}
