//! Who may depend on whom. The arrows of `docs/architecture.md` as data; what is not listed is refused.

use cargo_metadata::DependencyKind;

use super::{
    Finding,
    source::has_word,
    tree::{Package, Tree, is_backend},
};

/// (package, packages of ours that it may depend on). `backend-*` stands for every backend.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rerank-core", &[]),
    ("rerank-engine", &["rerank-core"]),
    ("rerank-kernels", &["rerank-core"]),
    ("rerank-model-tiny", &[]),
    ("rerank-model-synth", &[]),
    ("rerank-proto", &[]),
    ("rerank-report", &[]),
    ("rerank-conformance", &["rerank-core", "rerank-engine", "rerank-model-tiny", "rerank-model-synth"]),
    ("backend-*", &["rerank-core", "rerank-kernels"]),
    ("rerank-server", &["rerank-core", "rerank-engine", "rerank-model-tiny", "rerank-proto", "backend-*"]),
    ("rerank-bench", &["rerank-proto", "rerank-report"]),
    ("xtask", &["rerank-report", "rerank-model-synth"]),
];

/// The same for what only a package's own tests, examples and benches use.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] =
    &[("backend-*", &["rerank-conformance"]), ("rerank-engine", &["backend-mock", "rerank-model-tiny"])];

/// (package, foreign crates that it may not name in its manifest, in tests neither, why).
const ABSENT: &[(&str, &[&str], &str)] = &[
    (
        "backend-*",
        &["tokio", "futures", "futures-util", "axum", "tonic", "hyper", "reqwest", "ureq"],
        "a backend blocks, on a thread that the engine owns",
    ),
    (
        "rerank-core",
        &["tokio", "futures", "futures-util", "axum", "tonic", "hyper", "reqwest", "ureq"],
        "the contract has no runtime and no transport",
    ),
    (
        "rerank-engine",
        &["axum", "http", "hyper", "tonic", "prost", "tower", "tower-http", "reqwest", "ureq"],
        "the engine knows no transport",
    ),
    ("rerank-report", &["tokio", "reqwest", "ureq"], "reports touch nothing but files"),
    ("rerank-bench", &["candle-core", "candle-nn", "tokenizers"], "the bench speaks the wire only"),
    ("xtask", &["reqwest", "ureq", "tokio"], "downloads live in the server's model store"),
];

fn matches(pattern: &str, package: &str) -> bool {
    pattern == package || (pattern == "backend-*" && is_backend(package))
}

/// Every dependency between packages of the workspace is one of the arrows.
pub(crate) fn edges(tree: &Tree) -> Vec<Finding> {
    let ours = |name: &str| tree.packages.iter().any(|package| package.name == name);
    let mut findings = Vec::new();
    for package in &tree.packages {
        if !ALLOWED.iter().any(|(pattern, _)| matches(pattern, &package.name)) {
            findings.push(finding(
                tree,
                package,
                "name = ",
                "arrows",
                format!("{} has no place among the arrows", package.name),
                "add it to ALLOWED in xtask/src/tidy/arrows.rs and to docs/architecture.md, if it must exist",
            ));
        }
        for dependency in package.dependencies.iter().filter(|dependency| ours(&dependency.name)) {
            let listed = |table: &[(&str, &[&str])]| {
                table.iter().any(|(from, to)| {
                    matches(from, &package.name) && to.iter().any(|to| matches(to, &dependency.name))
                })
            };
            let in_tests = dependency.kind == DependencyKind::Development && listed(ALLOWED_IN_TESTS);
            if !listed(ALLOWED) && !in_tests {
                findings.push(finding(
                    tree,
                    package,
                    &dependency.name,
                    "arrows",
                    format!("{} may not depend on {}", package.name, dependency.name),
                    "move the code to where both can reach it, or argue for the arrow in docs/architecture.md",
                ));
            }
        }
    }
    findings
}

/// No manifest names a foreign crate that its layer does without.
pub(crate) fn absent_crates(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        for (_, absent, why) in ABSENT.iter().filter(|(pattern, ..)| matches(pattern, &package.name)) {
            for dependency in package.dependencies.iter().filter(|d| absent.contains(&d.name.as_str())) {
                findings.push(finding(
                    tree,
                    package,
                    &dependency.name,
                    "layers",
                    format!("{} names {}", package.name, dependency.name),
                    &format!("do without it: {why}"),
                ));
            }
        }
    }
    findings
}

/// Core and engine, which run any backend, know none by name. The mock is exempt: it stands for "some backend" in tests.
pub(crate) fn backends_named_below(tree: &Tree) -> Vec<Finding> {
    let backends: Vec<_> = tree
        .backends()
        .filter(|package| package.name != "backend-mock")
        .map(|package| package.name.as_str())
        .collect();
    let short: Vec<_> = backends.iter().filter_map(|name| tree.server_feature_of(name)).collect();
    let below = |path: &str| {
        path.starts_with("crates/rerank-core/src/") || path.starts_with("crates/rerank-engine/src/")
    };
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| below(&source.path)) {
        let identifiers = backends.iter().map(|name| name.replace('-', "_"));
        let in_code = identifiers.flat_map(|name| {
            source
                .code_lines()
                .filter(move |(_, code)| has_word(code, &name))
                .map(|(line, _)| line)
                .collect::<Vec<_>>()
        });
        let in_strings =
            source.strings.iter().filter(|(_, text)| short.contains(&text.as_str())).map(|(line, _)| *line);
        findings.extend(in_code.chain(in_strings).map(|line| Finding {
            path: source.path.clone(),
            line,
            rule: "layers",
            what: "a backend is named below the server".to_owned(),
            remedy: "describe what it can do in `BackendInfo` and decide by that".to_owned(),
        }));
    }
    findings
}

fn finding(
    tree: &Tree,
    package: &Package,
    key: &str,
    rule: &'static str,
    what: String,
    remedy: &str,
) -> Finding {
    let path = package.manifest();
    let line = tree.line_of(&path, |line| {
        line.strip_prefix(key).is_some_and(|rest| key.ends_with(' ') || rest.starts_with(['.', ' ', '=']))
    });
    Finding { path, line, rule, what, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{source::Source, tree::testing::*},
        *,
    };

    fn whats(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.what.as_str()).collect()
    }

    #[test]
    fn the_arrows_of_the_design_pass() {
        let tree = with_packages(vec![
            package("rerank-core", &["serde"], &[]),
            package("rerank-engine", &["rerank-core", "tokio"], &["backend-mock"]),
            package("backend-mock", &["rerank-core"], &["rerank-conformance"]),
            package("rerank-conformance", &["rerank-core", "rerank-engine"], &[]),
            package("rerank-server", &["rerank-engine", "backend-mock"], &[]),
        ]);
        assert_eq!(edges(&tree), []);
    }

    #[test]
    fn an_arrow_the_other_way_is_refused_with_its_line() {
        let mut tree = with_packages(vec![
            package("rerank-core", &["rerank-engine"], &[]),
            package("rerank-engine", &["backend-mock"], &[]),
            package("backend-mock", &["backend-torch", "xtask"], &["rerank-engine"]),
            package("backend-torch", &[], &[]),
            package("rerank-bench", &["rerank-server"], &["backend-mock"]),
            package("rerank-server", &[], &[]),
            package("xtask", &[], &[]),
        ]);
        tree.texts.insert(
            "crates/rerank-core/Cargo.toml".to_owned(),
            "[dependencies]\nserde.workspace = true\nrerank-engine.workspace = true\n".to_owned(),
        );
        let findings = edges(&tree);
        assert_eq!(
            whats(&findings),
            [
                "rerank-core may not depend on rerank-engine",
                "rerank-engine may not depend on backend-mock",
                "backend-mock may not depend on backend-torch",
                "backend-mock may not depend on xtask",
                "backend-mock may not depend on rerank-engine",
                "rerank-bench may not depend on rerank-server",
                "rerank-bench may not depend on backend-mock",
            ]
        );
        assert_eq!(findings[0].line, 3);
    }

    #[test]
    fn a_package_without_a_place_is_refused() {
        let tree = with_packages(vec![package("rerank-common", &[], &[])]);
        assert_eq!(whats(&edges(&tree)), ["rerank-common has no place among the arrows"]);
    }

    #[test]
    fn a_runtime_in_a_backend_and_http_in_the_engine_are_refused_in_tests_too() {
        let tree = with_packages(vec![
            package("backend-mock", &[], &["tokio"]),
            package("rerank-engine", &["tokio", "axum"], &[]),
            package("rerank-server", &["tokio", "axum"], &[]),
        ]);
        assert_eq!(whats(&absent_crates(&tree)), ["backend-mock names tokio", "rerank-engine names axum"]);
    }

    #[test]
    fn the_engine_may_not_ask_for_a_backend_by_name() {
        let mut server = package("rerank-server", &[], &[]);
        server.features = BTreeMap::from([("torch".to_owned(), vec!["dep:backend-torch".to_owned()])]);
        let mut tree = with_packages(vec![package("backend-torch", &[], &[]), server]);
        let text = "//! torch is fine here.\nif info.backend == \"torch\" {}\nuse backend_torch::FACTORY;\n";
        tree.sources.push(Source::new("crates/rerank-engine/src/worker.rs", text));
        tree.sources.push(Source::new("crates/rerank-server/src/registry.rs", text));
        let found: Vec<_> = backends_named_below(&tree).iter().map(|f| (f.path.clone(), f.line)).collect();
        let path = "crates/rerank-engine/src/worker.rs".to_owned();
        assert_eq!(found, [(path.clone(), 3), (path, 2)]);
    }
}
