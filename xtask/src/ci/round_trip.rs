//! The promise of docs/adding-a-backend.md, kept by doing it: a copy of the tree gets a backend called `example`, which
//! must build, register and pass conformance as generated.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    new_backend,
    process::{self, cargo, root},
    tidy::{self, tree::Tree},
};

const NAME: &str = "example";

pub(crate) fn check() -> Result<String> {
    let copy = root().join("target/new-backend");
    copy_tree(&copy)?;
    set_apart(&copy.join("Cargo.toml"))?;
    let written = new_backend::generate(&copy, NAME)?;
    let Err(again) = new_backend::generate(&copy, NAME) else {
        bail!("a second `new-backend {NAME}` was not refused");
    };
    ensure!(
        again.to_string().contains("already"),
        "a second `new-backend {NAME}` failed for another reason: {again:#}"
    );
    only_the_document_is_missing(&copy)?;

    // The same target folder, because the foreign crates are compiled there; and no `--package`: with it cargo would
    // pick other features for them and compile them all again. What is wanted is picked by target instead.
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    let in_copy = |arguments: &str| {
        let mut command = cargo(arguments);
        command.current_dir(&copy).env("CARGO_TARGET_DIR", &target);
        command
    };
    process::run(&mut in_copy(&format!("check --lib --test conformance --features rerank-server/{NAME}")))?;
    let summary = process::run_and_pick(
        &mut in_copy(&format!("nextest run --test conformance --filterset package(backend-{NAME})")),
        |line| line.trim_start().starts_with("Summary ["),
    )?;
    Ok(format!("{} files written; {}", written.len(), summary.join("; ")))
}

/// Everything agrees in the generated tree, but for what only its author can write: what the backend is for.
fn only_the_document_is_missing(copy: &Path) -> Result<()> {
    let findings = tidy::check(&Tree::load(copy)?);
    let expected = format!("backend-{NAME} is not named");
    let (asked, others): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.what == expected);
    ensure!(asked.len() == 1, "tidy did not ask for backend-{NAME} in {}", tidy::tree::ARCHITECTURE);
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    ensure!(others.is_empty(), "tidy finds more in the generated tree:\n{}", others.join("\n"));
    Ok(())
}

/// Makes `copy` hold what git would commit, uncommitted changes included. Files that are the same keep their time, so
/// that a second run compiles only what changed.
fn copy_tree(copy: &Path) -> Result<()> {
    let listed = process::read(process::command("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let wanted: BTreeSet<PathBuf> = listed
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    ensure!(!wanted.is_empty(), "git lists no file of {}", root().display());
    remove_others(copy, Path::new(""), &wanted)?;
    for path in &wanted {
        let (from, to) = (root().join(path), copy.join(path));
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
        fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Gives the copy's packages another version. Cargo tells packages of two workspaces apart by name, version and path
/// below the root only: in one target folder, each would take what the other compiled for its own.
fn set_apart(manifest: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let apart = with_version_suffix(&text)
        .context("the root manifest has no `version = \"...\"` of the workspace")?;
    fs::write(manifest, apart).with_context(|| format!("cannot write {}", manifest.display()))
}

fn with_version_suffix(manifest: &str) -> Option<String> {
    const KEY: &str = "\nversion = \"";
    let begin = manifest.find(KEY)? + KEY.len();
    let end = begin + manifest[begin..].find('"')?;
    Some(format!("{}-{NAME}{}", &manifest[..end], &manifest[end..]))
}

/// Removes what an earlier run left below `folder` of the copy and the tree no longer has.
fn remove_others(copy: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(copy.join(folder)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if wanted.iter().any(|wanted| wanted.starts_with(&path)) {
                remove_others(copy, &path, wanted)?;
            } else {
                fs::remove_dir_all(entry.path())?;
            }
        } else if !wanted.contains(&path) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_told_apart_by_its_version() {
        let text =
            "[workspace.package]\nversion = \"0.1.0\"\n\n[workspace.dependencies]\na = { version = \"1\" }\n";
        assert_eq!(with_version_suffix(text).unwrap(), text.replace("0.1.0", "0.1.0-example"));
        assert_eq!(with_version_suffix("[workspace]\n"), None);
    }

    #[test]
    fn what_the_tree_no_longer_has_goes_from_the_copy() {
        let copy = tempfile::tempdir().unwrap();
        for path in ["a/kept.rs", "a/gone.rs", "b/gone.rs"] {
            fs::create_dir_all(copy.path().join(path).parent().unwrap()).unwrap();
            fs::write(copy.path().join(path), "").unwrap();
        }
        let wanted = BTreeSet::from([PathBuf::from("a/kept.rs")]);
        remove_others(copy.path(), Path::new(""), &wanted).unwrap();
        let left: Vec<_> =
            fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a"]);
        assert!(copy.path().join("a/kept.rs").exists() && !copy.path().join("a/gone.rs").exists());
    }
}
