//! `cargo xtask new-backend NAME`: a crate copied from the mock, its line in the server's registry, and the lines in
//! the manifests, so that a new backend starts from something that builds and passes conformance.

mod edits;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::edits::{Place, insert, renamed};
use crate::{
    process::{self, cargo},
    tidy::tree::{ARCHITECTURE, REGISTRY, Tree},
};

#[derive(Args)]
pub(crate) struct NewBackendArgs {
    /// One lower-case word: the cargo feature, the `--backend` value, the label in metrics and reports
    name: String,
    /// The workspace to write to, if not this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// What every new backend is copied from.
const TEMPLATE: &str = "crates/backend-mock";

/// Words that users already give another meaning on the command line, beside the server's features.
const RESERVED: [&str; 5] = ["auto", "cpu", "mps", "pytorch", "builtin"];

/// The template's own name becomes the new one in identifiers too, where these would not parse.
const KEYWORDS: [&str; 40] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod",
    "move", "mut", "pub", "ref", "return", "static", "struct", "super", "trait", "type", "union", "unsafe",
    "use", "where",
];

pub(crate) fn run(args: &NewBackendArgs) -> Result<()> {
    let root = args.root.clone().unwrap_or_else(|| process::root().to_owned());
    let name = &args.name;
    for written in generate(&root, name)? {
        println!("wrote {written}");
    }
    println!(
        "\nNext: `cargo nextest run -p backend-{name}` passes as it is; replace the arithmetic, then name the crate in \
         {ARCHITECTURE} (`cargo xtask tidy` asks for it). docs/adding-a-backend.md is the whole walk."
    );
    Ok(())
}

/// Writes the crate and its lines into the workspace at `root`; returns what it wrote. Nothing is written unless all
/// of it can be.
pub(crate) fn generate(root: &Path, name: &str) -> Result<Vec<String>> {
    let tree = Tree::load(root)?;
    validate(&tree, name)?;
    let mut files = Vec::new();
    for path in tree.paths.iter().filter(|path| path.starts_with(&format!("{TEMPLATE}/"))) {
        if root.join(path).is_file() {
            let text = fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
            files.push((renamed(path, name), renamed(&text, name)));
        }
    }
    ensure!(!files.is_empty(), "{TEMPLATE} is not there to copy from");
    for (path, edits) in registrations(name) {
        let mut text = fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        for (beside, line, place) in edits {
            text = insert(&text, beside, &line, place).with_context(|| {
                format!("{path} has no line with `{beside}` to put `{}` beside", line.trim())
            })?;
        }
        files.push((path.to_owned(), text));
    }
    for (path, text) in &files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("every file lies in a folder"))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // Another name has another length, and lines break elsewhere.
    process::read(cargo(&format!("fmt --package backend-{name}")).current_dir(root))?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// (what its neighbour contains, the new line, where).
type Line = (&'static str, String, Place);

/// The lines that each file gets.
fn registrations(name: &str) -> [(&'static str, Vec<Line>); 3] {
    [
        (
            "Cargo.toml",
            vec![
                ("\"crates/backend-mock\"", format!("    \"crates/backend-{name}\","), Place::Sorted),
                (
                    "backend-mock = {",
                    format!("backend-{name} = {{ path = \"crates/backend-{name}\" }}"),
                    Place::Sorted,
                ),
            ],
        ),
        (
            "crates/rerank-server/Cargo.toml",
            vec![
                (
                    "mock = [\"dep:backend-mock\"]",
                    format!("{name} = [\"dep:backend-{name}\"]"),
                    Place::Before,
                ),
                (
                    "backend-mock = {",
                    format!("backend-{name} = {{ workspace = true, optional = true }}"),
                    Place::Sorted,
                ),
            ],
        ),
        (
            REGISTRY,
            vec![(
                "#[cfg(feature = \"mock\")]",
                format!("    #[cfg(feature = \"{name}\")]\n    &backend_{name}::FACTORY,"),
                Place::Before,
            )],
        ),
    ]
}

fn validate(tree: &Tree, name: &str) -> Result<()> {
    let mut letters = name.chars();
    let word = letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    ensure!(
        word,
        "`{name}` cannot name a backend: use one word of lower-case letters and digits, as `torch`"
    );
    ensure!(
        name.len() <= 16,
        "`{name}` is too long to be typed as `--backend {name}`: use at most 16 letters"
    );
    ensure!(!KEYWORDS.contains(&name), "`{name}` is a word of Rust's; choose another");
    if let Some(taken) = tree.backends().find(|package| {
        package.name == format!("backend-{name}") || tree.server_feature_of(&package.name) == Some(name)
    }) {
        bail!("there is a backend `{name}` already: {}", taken.folder);
    }
    ensure!(
        !tree.paths.contains(&format!("crates/backend-{name}")),
        "crates/backend-{name} is there already"
    );
    let server = tree.packages.iter().find(|package| package.name == "rerank-server");
    let is_feature = server.is_some_and(|server| server.features.contains_key(name));
    ensure!(
        !is_feature && !RESERVED.contains(&name),
        "`{name}` already means something to the server; choose another name"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_work_are_refused_with_the_reason() {
        let tree = Tree::load(process::root()).unwrap();
        let refusal = |name: &str| validate(&tree, name).expect_err(name).to_string();
        for name in ["", "Torch", "onnx-rt", "9x", "a_b", "../x", "für"] {
            assert!(refusal(name).contains("use one word of lower-case letters"), "{name}");
        }
        assert!(refusal("averyveryverylongname").contains("at most 16"));
        assert!(refusal("match").contains("word of Rust's"));
        assert_eq!(refusal("mock"), "there is a backend `mock` already: crates/backend-mock");
        assert_eq!(refusal("candle"), "there is a backend `candle` already: crates/backend-candle-metal");
        for taken in ["auto", "pytorch", "http", "cuda", "default"] {
            assert!(refusal(taken).contains("already means something"), "{taken}");
        }
    }

    #[test]
    fn a_free_name_is_accepted() {
        validate(&Tree::load(process::root()).unwrap(), "example").unwrap();
    }
}
