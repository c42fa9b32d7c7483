//! A backend has one short name everywhere. Users type it, dashboards show it, reports compare by it; here the places
//! that must agree on it are compared: folder, package, cargo feature, registry line, `FACTORY.name()`.

use super::{
    Finding,
    source::{Source, has_word},
    tree::{Package, REGISTRY, Tree},
};

/// Every backend's names agree.
pub(crate) fn of_backends(tree: &Tree) -> Vec<Finding> {
    tree.backends().flat_map(|backend| of_backend(tree, backend)).collect()
}

fn of_backend(tree: &Tree, backend: &Package) -> Vec<Finding> {
    let name = &backend.name;
    let found = |path: String, line, what: String, remedy: String| Finding {
        path,
        line,
        rule: "names",
        what,
        remedy,
    };
    let mut findings = Vec::new();
    if backend.folder != format!("crates/{name}") {
        let what = format!("package {name} lies in {}", backend.folder);
        findings.push(found(backend.manifest(), 1, what, "a folder is called as its package".to_owned()));
    }
    let Some(feature) = tree.server_feature_of(name) else {
        let what = format!("no feature turns on {name}");
        let remedy = format!("add `NAME = [\"dep:{name}\"]` to [features]");
        findings.push(found("crates/rerank-server/Cargo.toml".to_owned(), 1, what, remedy));
        return findings;
    };
    if !name
        .strip_prefix("backend-")
        .is_some_and(|rest| rest == feature || rest.starts_with(&format!("{feature}-")))
    {
        let what = format!("feature `{feature}` turns on {name}");
        let remedy = format!("call one after the other: `backend-{feature}` or `backend-{feature}-...`");
        let line =
            tree.line_of("crates/rerank-server/Cargo.toml", |line| line.contains(&format!("\"dep:{name}\"")));
        findings.push(found("crates/rerank-server/Cargo.toml".to_owned(), line, what, remedy));
    }
    findings.extend(registered(tree, backend, feature));
    let own =
        tree.sources.iter().filter(|source| source.path.starts_with(&format!("{}/src/", backend.folder)));
    let factories = own.filter(|source| source.code.contains("BackendFactory for"));
    let said: Vec<_> = factories.filter_map(|source| Some((source, factory_name(source)?))).collect();
    match said.as_slice() {
        [] => {
            let what = format!("no `fn name` of a factory is found in {name}");
            let remedy = format!("`FACTORY.name()` returns the literal \"{feature}\"");
            findings.push(found(format!("{}/src/lib.rs", backend.folder), 1, what, remedy));
        }
        said => findings.extend(said.iter().filter(|(_, (_, literal))| *literal != feature).map(
            |(source, (line, literal))| {
                let what = format!("the factory calls itself \"{literal}\", its feature `{feature}`");
                found(source.path.clone(), *line, what, "use the feature's name".to_owned())
            },
        )),
    }
    findings
}

/// The registry lists the backend's factory, under its own feature.
fn registered(tree: &Tree, backend: &Package, feature: &str) -> Option<Finding> {
    let factory = format!("&{}::FACTORY", backend.name.replace('-', "_"));
    let line = format!("#[cfg(feature = \"{feature}\")] {factory},");
    let finding = |at, what| Finding {
        path: REGISTRY.to_owned(),
        line: at,
        rule: "names",
        what,
        remedy: format!("write `{line}` in its list"),
    };
    let lines: Vec<_> = tree.source(REGISTRY)?.text.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.contains(&factory)) else {
        return Some(finding(1, format!("{} is not registered", backend.name)));
    };
    let condition = format!("#[cfg(feature = \"{feature}\")]");
    let guarded = lines[at].contains(&condition) || (at > 0 && lines[at - 1] == condition);
    (!guarded).then(|| finding(at + 1, format!("{} is not under its feature `{feature}`", backend.name)))
}

/// (line, literal) that the file's `fn name(&self) -> &'static str` returns, directly or by a `const NAME`.
fn factory_name(source: &Source) -> Option<(usize, &str)> {
    let literal_from = |line: usize| {
        source
            .strings
            .iter()
            .find(|(at, _)| (line..line + 3).contains(at))
            .map(|(at, text)| (*at, text.as_str()))
    };
    let line_with = |words: &[&str]| {
        source
            .code_lines()
            .find(|(_, code)| words.iter().all(|word| has_word(code, word)))
            .map(|(line, _)| line)
    };
    let name = line_with(&["fn", "name", "self", "static", "str"])?;
    literal_from(name).or_else(|| literal_from(line_with(&["const", "NAME"])?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::tree::testing::{package, with_packages},
        *,
    };

    const FACTORY: &str = "//! The entry point.\nimpl BackendFactory for Factory {\n    fn name(&self) -> &'static str {\n        \"torch\"\n    }\n}\n";
    const LIST: &str = "//! The list.\npub static BACKENDS: &[&dyn BackendFactory] = &[\n    #[cfg(feature = \"torch\")]\n    &backend_torch::FACTORY,\n];\n";

    fn tree(feature: &str, factory: &str, registry: &str) -> Tree {
        let mut server = package("rerank-server", &["backend-torch"], &[]);
        server.features = BTreeMap::from([(feature.to_owned(), vec!["dep:backend-torch".to_owned()])]);
        let mut tree = with_packages(vec![package("backend-torch", &[], &[]), server]);
        tree.sources.push(Source::new("crates/backend-torch/src/factory.rs", factory));
        tree.sources.push(Source::new(REGISTRY, registry));
        tree
    }

    fn whats(tree: &Tree) -> Vec<String> {
        of_backends(tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn names_that_agree_pass() {
        assert_eq!(whats(&tree("torch", FACTORY, LIST)), [""; 0]);
        let by_constant = "//! x\nconst NAME: &str = \"torch\";\nimpl BackendFactory for Factory {\nfn name(&self) -> &'static str {\n    NAME\n}\n";
        assert_eq!(whats(&tree("torch", by_constant, LIST)), [""; 0]);
    }

    #[test]
    fn a_factory_with_another_name_is_found() {
        let factory = FACTORY.replace("\"torch\"", "\"pytorch\"");
        assert_eq!(
            whats(&tree("torch", &factory, LIST)),
            ["the factory calls itself \"pytorch\", its feature `torch`"]
        );
        assert_eq!(
            whats(&tree("torch", "//! x\n", LIST)),
            ["no `fn name` of a factory is found in backend-torch"]
        );
    }

    #[test]
    fn a_missing_or_unguarded_registration_is_found() {
        assert_eq!(whats(&tree("torch", FACTORY, "//! x\n")), ["backend-torch is not registered"]);
        let unguarded = LIST.replace("    #[cfg(feature = \"torch\")]\n", "");
        assert_eq!(
            whats(&tree("torch", FACTORY, &unguarded)),
            ["backend-torch is not under its feature `torch`"]
        );
    }

    #[test]
    fn a_feature_with_another_name_or_none_is_found() {
        let found = whats(&tree("pytorch", FACTORY, LIST));
        assert_eq!(found[0], "feature `pytorch` turns on backend-torch");
        let mut without = tree("torch", FACTORY, LIST);
        without.packages[1].features.clear();
        assert_eq!(whats(&without), ["no feature turns on backend-torch"]);
    }

    #[test]
    fn a_longer_package_name_may_say_what_it_is_for() {
        let mut server = package("rerank-server", &[], &[]);
        server.features =
            BTreeMap::from([("candle".to_owned(), vec!["dep:backend-candle-metal".to_owned()])]);
        let mut tree = with_packages(vec![package("backend-candle-metal", &[], &[]), server]);
        let factory = FACTORY.replace("torch", "candle");
        tree.sources.push(Source::new("crates/backend-candle-metal/src/factory.rs", factory));
        tree.sources
            .push(Source::new(REGISTRY, LIST.replace("_torch", "_candle_metal").replace("torch", "candle")));
        assert_eq!(whats(&tree), [""; 0]);
    }
}
