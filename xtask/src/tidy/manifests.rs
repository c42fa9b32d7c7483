//! One place for each fact: versions, lints and package fields live in the root manifest, and members inherit them.

use toml::{Table, Value};

use super::{
    Finding,
    tree::{Package, Tree, extension},
};

const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

fn finding(path: &str, line: usize, what: String, remedy: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, rule: "manifests", what, remedy: remedy.into() }
}

/// Manifests of the members, as read. Cargo has already refused those that are not TOML.
fn members(tree: &Tree) -> impl Iterator<Item = (&Package, String, Table)> {
    tree.packages.iter().filter_map(|package| {
        let path = package.manifest();
        let table = tree.texts.get(&path)?.parse().ok()?;
        Some((package, path, table))
    })
}

fn is_inherited(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

/// Lints and package fields come from the workspace.
pub(crate) fn inherit_lints(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, path, table) in members(tree) {
        if !is_inherited(table.get("lints")) {
            let what = format!("{} has lints of its own or none", package.name);
            findings.push(finding(&path, 1, what, "write `[lints]` and `workspace = true`"));
        }
        for field in INHERITED {
            if !is_inherited(table.get("package").and_then(|package| package.get(field))) {
                let line = tree.line_of(&path, |line| line.starts_with(field));
                let what = format!("{} sets `{field}` itself or not at all", package.name);
                findings.push(finding(&path, line, what, format!("write `{field}.workspace = true`")));
            }
        }
    }
    findings
}

/// Versions, paths and sources of dependencies stand in `[workspace.dependencies]`, and none of them is open.
pub(crate) fn versions_in_one_place(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, path, table) in members(tree) {
        for (name, value) in dependencies(&table) {
            if !is_inherited(Some(value)) {
                let line = tree.line_of(&path, |line| line.starts_with(name));
                let what = format!("{} says where {name} comes from", package.name);
                findings.push(finding(
                    &path,
                    line,
                    what,
                    format!("write `{name}.workspace = true`; the version goes to the root"),
                ));
            }
        }
    }
    let root: Table = tree.texts.get("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let shared =
        root.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    for (name, value) in shared.into_iter().flatten() {
        let version =
            value.as_str().or_else(|| value.get("version").and_then(Value::as_str)).unwrap_or_default();
        let what = if value.get("git").is_some() {
            format!("{name} comes from git")
        } else if version.contains('*') {
            format!("any version of {name} will do")
        } else {
            continue;
        };
        let line = tree.line_of("Cargo.toml", |line| line.starts_with(name));
        findings.push(finding("Cargo.toml", line, what, "name a version from crates.io"));
    }
    findings
}

/// Every dependency of a manifest, for whatever kind and target.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    let kinds = tables.flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    kinds.flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// Within a block of dependencies (up to a blank line or a comment) names are sorted, so that two branches that add
/// one do not meet on the last line.
pub(crate) fn sorted_dependencies(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.texts.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    manifests.flat_map(|(path, text)| unsorted(path, text)).collect()
}

fn unsorted(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut inside, mut previous) = (false, String::new());
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if !inside || !line.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            // Lines of a value that goes on are indented or close a bracket; anything else ends the block.
            if line.is_empty() || line.starts_with(['#', '[']) {
                previous.clear();
            }
            continue;
        }
        if name < previous.as_str() {
            findings.push(finding(
                path,
                at + 1,
                format!("{name} comes after {previous}"),
                "sort the block by name",
            ));
        }
        name.clone_into(&mut previous);
    }
    findings
}

/// A request that panics must not take the process down.
pub(crate) fn unwinding(tree: &Tree) -> Vec<Finding> {
    let tomls = tree.texts.iter().filter(|(path, _)| extension(path) == "toml");
    let lines =
        tomls.flat_map(|(path, text)| text.lines().enumerate().map(move |(at, line)| (path, at + 1, line)));
    let aborts = |line: &str| {
        let line: String = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        line.contains("panic=\"abort\"") || line.contains("panic=abort")
    };
    lines
        .filter(|(.., line)| aborts(line))
        .map(|(path, line, _)| {
            let what = "a panic would abort the process".to_owned();
            finding(path, line, what, "leave `panic` alone: a worker survives a panic by unwinding")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tree::testing::{package, with_packages, with_text},
        *,
    };

    const GOOD: &str = "\
[package]
name = \"x\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[lints]
workspace = true

[dependencies]
a.workspace = true
b = { workspace = true, optional = true }
";

    fn tree(manifest: &str) -> Tree {
        let mut tree = with_packages(vec![package("x", &[], &[])]);
        tree.texts.insert("crates/x/Cargo.toml".to_owned(), manifest.to_owned());
        tree
    }

    fn whats(findings: Vec<Finding>) -> Vec<(usize, String)> {
        findings.into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[test]
    fn a_manifest_that_inherits_passes() {
        let tree = tree(GOOD);
        assert_eq!(inherit_lints(&tree), []);
        assert_eq!(versions_in_one_place(&tree), []);
        assert_eq!(sorted_dependencies(&tree), []);
    }

    #[test]
    fn own_lints_and_own_fields_are_found() {
        let own = GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nunsafe_code = \"allow\"");
        assert_eq!(whats(inherit_lints(&tree(&own))), [(1, "x has lints of its own or none".to_owned())]);
        let own = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        assert_eq!(
            whats(inherit_lints(&tree(&own))),
            [(4, "x sets `edition` itself or not at all".to_owned())]
        );
    }

    #[test]
    fn a_version_outside_the_root_is_found_for_every_kind_and_target() {
        let more =
            "[dev-dependencies]\nc = \"1\"\n[target.'cfg(unix)'.dependencies]\nd = { path = \"../d\" }\n";
        let found = whats(versions_in_one_place(&tree(&format!("{GOOD}\n{more}"))));
        assert_eq!(
            found.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>(),
            ["x says where c comes from", "x says where d comes from",]
        );
    }

    #[test]
    fn open_versions_and_git_in_the_root_are_found() {
        let root =
            "[workspace.dependencies]\na = \"1\"\nb = \"*\"\nc = { git = \"https://example.com/c\" }\n";
        let found = whats(versions_in_one_place(&with_text("Cargo.toml", root)));
        assert_eq!(found, [(3, "any version of b will do".to_owned()), (4, "c comes from git".to_owned())]);
    }

    #[test]
    fn an_unsorted_block_is_found_and_blocks_are_apart() {
        let text = "[dependencies]\nb.workspace = true\na.workspace = true\n\n# Others.\na = \"1\"\n[features]\nz = []\na = []\n";
        let found = whats(sorted_dependencies(&with_text("crates/x/Cargo.toml", text)));
        assert_eq!(found, [(3, "a comes after b".to_owned())]);
    }

    #[test]
    fn aborting_on_panic_is_found_and_a_comment_about_it_is_not() {
        let text = "# `panic = \"abort\"` would be wrong\n[profile.release]\npanic = \"abort\"\n";
        assert_eq!(
            whats(unwinding(&with_text("Cargo.toml", text))),
            [(3, "a panic would abort the process".to_owned())]
        );
        let flags = "[build]\nrustflags = [\"-C\", \"panic=abort\"]\n";
        assert_eq!(unwinding(&with_text(".cargo/config.toml", flags)).len(), 1);
    }
}
