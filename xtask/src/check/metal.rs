//! The features `metal` and `accelerate`, type-checked where there is neither.
//!
//! Two things keep Apple's bindings from compiling elsewhere: `#[link(kind = "framework")]`, which rustc refuses for
//! other targets, and objc2's choice of a runtime. So the bindings are copied from cargo's registry, without those
//! attributes and with objc2's other runtime, gnustep, chosen, and cargo is told to use the copies. Nothing is linked or run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{CargoOpt, MetadataCommand, Package};

use super::{CRATE, DENY_WARNINGS, clippy, folder, write_if_changed};
use crate::process;

/// The bindings that link frameworks, in some version or other.
const BINDINGS: [&str; 5] =
    ["accelerate-src", "dispatch2", "objc2-core-foundation", "objc2-foundation", "objc2-metal"];

/// What a Mac builds with.
const FEATURES: &str = "metal,accelerate";

/// The feature that lets these compile without Apple's runtime.
const RUNTIME: &str = "gnustep-2-1";
const WITH_RUNTIME: [&str; 2] = ["block2", "objc2"];

pub(super) fn check() -> Result<()> {
    let folder = folder("metal")?;
    let mut command = clippy(FEATURES, &super::folder("types")?);
    if cfg!(target_os = "macos") {
        return process::run(command.args(DENY_WARNINGS));
    }
    let copies = copy_bindings(&folder)?;
    for (name, path) in &copies {
        command.arg("--config").arg(format!("patch.crates-io.{name}.path={:?}", path.display().to_string()));
    }
    command.args(DENY_WARNINGS).current_dir(shadow(&folder)?);
    process::run(&mut command)?;
    eprintln!(
        "`{FEATURES}` type-checks against {} of Apple's bindings without their link attributes; \
         nothing was linked or run",
        copies.len()
    );
    Ok(())
}

/// A second root for the same sources. Cargo writes what it patched into `Cargo.lock`: this way into a copy of it.
fn shadow(folder: &Path) -> Result<PathBuf> {
    let shadow = folder.join("workspace");
    fs::create_dir_all(&shadow)?;
    for file in ["Cargo.toml", "Cargo.lock", "clippy.toml"] {
        let contents =
            fs::read_to_string(process::root().join(file)).with_context(|| format!("cannot read {file}"))?;
        write_if_changed(&shadow.join(file), &contents)?;
    }
    for sources in ["crates", "xtask"] {
        let link = shadow.join(sources);
        if fs::symlink_metadata(&link).is_err() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(process::root().join(sources), &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
            #[cfg(not(unix))]
            anyhow::bail!("this check needs symbolic links: run it on Linux");
        }
    }
    Ok(shadow)
}

/// Copies the bindings that need it; returns their names and where they are.
fn copy_bindings(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let metadata = MetadataCommand::new()
        .current_dir(process::root())
        .features(CargoOpt::SomeFeatures(
            FEATURES.split(',').map(|feature| format!("{CRATE}/{feature}")).collect(),
        ))
        .exec()?;
    let mut copies = Vec::new();
    for package in metadata.packages.iter().filter(|package| BINDINGS.contains(&package.name.as_str())) {
        let copy = folder.join("bindings").join(format!("{}-{}", package.name, package.version));
        // Copied once for each version: a new time stamp would compile everything above it again.
        if !copy.join("Cargo.toml").exists() {
            copy_package(package, &copy)?;
        }
        copies.push((package.name.to_string(), copy));
    }
    ensure!(
        !copies.is_empty(),
        "none of {BINDINGS:?} is a dependency any more: has candle changed its bindings?"
    );
    Ok(copies)
}

fn copy_package(package: &Package, to: &Path) -> Result<()> {
    let manifest = package.manifest_path.as_std_path();
    let from = manifest.parent().expect("a manifest lies in a folder");
    copy_sources(&from.join("src"), &to.join("src"))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    // The manifest comes last: it marks the copy as whole.
    write_if_changed(&to.join("Cargo.toml"), &with_runtime(&fs::read_to_string(manifest)?)?)
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &to)?;
        } else {
            fs::write(to, without_frameworks(&fs::read_to_string(entry.path())?))?;
        }
    }
    Ok(())
}

/// The source without its framework link attributes; lines keep their numbers.
fn without_frameworks(source: &str) -> String {
    let links = |line: &str| line.starts_with("#[link(") && line.contains("kind = \"framework\"");
    source.split('\n').map(|line| if links(line) { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// The manifest with the runtime's feature wherever the package depends on a crate that has it; only the library stays,
/// since nothing else was copied.
fn with_runtime(manifest: &str) -> Result<String> {
    let mut manifest: toml::Table = manifest.parse()?;
    for target in ["bench", "example", "test"] {
        manifest.remove(target);
    }
    // What these packages build with scripts is more link arguments.
    if let Some(package) = manifest.get_mut("package").and_then(toml::Value::as_table_mut) {
        package.insert("build".to_owned(), toml::Value::Boolean(false));
        package.remove("links");
    }
    let mut dependencies = manifest.get_mut("dependencies");
    for name in WITH_RUNTIME {
        let dependency = dependencies.as_mut().and_then(|all| all.get_mut(name));
        let Some(dependency) = dependency.and_then(toml::Value::as_table_mut) else { continue };
        let features = dependency.entry("features").or_insert_with(|| toml::Value::Array(Vec::new()));
        let features = features.as_array_mut().context("`features` is not a list")?;
        features.push(toml::Value::String(RUNTIME.to_owned()));
    }
    Ok(toml::to_string(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_framework_links_are_taken_out() {
        let source = "//! #[link(name = \"A\", kind = \"framework\")]\n#[link(name = \"B\", kind = \"framework\")]\n\
                      #[link(name = \"c\")]\nextern \"C\" {}\n";
        assert_eq!(
            without_frameworks(source),
            "//! #[link(name = \"A\", kind = \"framework\")]\n\n#[link(name = \"c\")]\nextern \"C\" {}\n"
        );
    }

    #[test]
    fn the_runtime_is_chosen_where_there_is_one_to_choose() {
        let manifest = "[package]\nname = \"x\"\n[[test]]\nname = \"t\"\n[dependencies.objc2]\nversion = \"1\"\n\
                        features = [\"std\"]\n[dependencies.block2]\nversion = \"1\"\n[dependencies.libc]\nversion = \"1\"\n";
        let changed: toml::Table = with_runtime(manifest).unwrap().parse().unwrap();
        assert!(!changed.contains_key("test"));
        let features = |name: &str| changed["dependencies"][name].get("features").map(ToString::to_string);
        assert_eq!(features("objc2").as_deref(), Some("[\"std\", \"gnustep-2-1\"]"));
        assert_eq!(features("block2").as_deref(), Some("[\"gnustep-2-1\"]"));
        assert_eq!(features("libc"), None);
    }
}
