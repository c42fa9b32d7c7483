//! `cargo xtask codegen`: proto/ to the committed Rust code of `rerank-proto`, with no protoc on the machine.
//!
//! The output is committed so that the workspace builds with Rust and nothing else; `--check` is how the gate knows
//! that it still belongs to the sources.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

/// The services, as paths below proto/.
const PROTOS: &[&str] = &["rerank/v1/rerank.proto"];
/// Where the generated code lies, below the workspace's root.
const GENERATED: &str = "crates/rerank-proto/src/generated";
/// All descriptors in one file, which is what gRPC reflection serves.
const DESCRIPTORS: &str = "descriptors.binpb";

/// Generates the gRPC code from proto/, or checks that it is up to date.
#[derive(Debug, clap::Args)]
pub(crate) struct CodegenArgs {
    /// Writes nothing; fails where the committed code differs from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Generates into a scratch folder first, so that a failure leaves the committed code as it was.
pub(crate) fn run(args: &CodegenArgs) -> Result<()> {
    let root = workspace_root()?;
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    generate(&root.join("proto"), scratch.path())?;

    let generated = root.join(GENERATED);
    let (fresh, committed) = (read_all(scratch.path())?, read_all(&generated)?);
    let stale = differences(&committed, &fresh);
    if args.check {
        ensure!(
            stale.is_empty(),
            "{GENERATED} does not belong to proto/ ({}); fix it with `cargo xtask codegen`",
            stale.join(", ")
        );
        return Ok(());
    }
    fs::create_dir_all(&generated)?;
    for name in committed.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(generated.join(name))?;
    }
    for (name, bytes) in &fresh {
        fs::write(generated.join(name), bytes).with_context(|| format!("cannot write {GENERATED}/{name}"))?;
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> Result<()> {
    let mut compiler = protox::Compiler::new([protos])?;
    compiler.include_imports(true).open_files(PROTOS)?;
    // Comments go into the Rust code as documentation; reflection's clients have no use for them.
    compiler.include_source_info(false);
    fs::write(out.join(DESCRIPTORS), compiler.encode_file_descriptor_set())?;
    compiler.include_source_info(true);
    tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())
        .context("cannot generate Rust code")
}

/// File names with contents; a folder that does not exist yet holds none.
fn read_all(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!("{} has a name that is not UTF-8", entry.path().display());
            };
            Ok((name, fs::read(entry.path())?))
        })
        .collect()
}

/// What is wrong with the committed files, in words.
fn differences(committed: &BTreeMap<String, Vec<u8>>, fresh: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let missing_or_changed = fresh.iter().filter_map(|(name, bytes)| match committed.get(name) {
        None => Some(format!("{name} is missing")),
        Some(old) if old != bytes => Some(format!("{name} differs")),
        Some(_) => None,
    });
    let surplus =
        committed.keys().filter(|name| !fresh.contains_key(*name)).map(|name| format!("{name} is left over"));
    missing_or_changed.chain(surplus).collect()
}

fn workspace_root() -> Result<std::path::PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("xtask does not lie in the workspace's root")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let committed = files(&[("same", "1"), ("old", "1"), ("changed", "1")]);
        let fresh = files(&[("same", "1"), ("changed", "2"), ("new", "1")]);
        assert_eq!(
            differences(&committed, &fresh),
            ["changed differs", "new is missing", "old is left over"]
        );
    }

    #[test]
    fn committed_code_is_up_to_date() {
        run(&CodegenArgs { check: true })
            .expect("`cargo xtask codegen` was run after the last change of proto/");
    }
}
