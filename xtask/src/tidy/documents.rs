//! Documents that name what is no longer there mislead more than silence. Every crate has its line in
//! `docs/architecture.md`, and every path and link that a document gives leads somewhere.

use super::{
    Finding,
    tree::{ARCHITECTURE, Tree, extension},
};

/// Top folders: what starts with one of them is meant as a path.
const TOPS: [&str; 8] =
    ["crates/", "xtask/", "docs/", "proto/", "benchmarks/", ".github/", ".ci/", ".config/"];

/// Every crate is named in the architecture document.
pub(crate) fn every_crate_is_named(tree: &Tree) -> Vec<Finding> {
    let text = tree.texts.get(ARCHITECTURE).map_or("", String::as_str);
    let named =
        |name: &str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == name);
    let unnamed = tree.packages.iter().filter(|package| !named(&package.name));
    unnamed
        .map(|package| Finding {
            path: ARCHITECTURE.to_owned(),
            line: 1,
            rule: "documents",
            what: format!("{} is not named", package.name),
            remedy: "say there what it is for and what it deliberately is not".to_owned(),
        })
        .collect()
}

/// Every path that a document names exists.
pub(crate) fn paths_exist(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in documents(tree) {
        for (line, named) in paths_in(text) {
            if !tree.paths.iter().any(|path| ends_with(path, &named)) {
                findings.push(finding(
                    path,
                    line,
                    format!("`{named}` does not exist"),
                    "name what is there now",
                ));
            }
        }
    }
    findings
}

/// Every relative link leads to a file.
pub(crate) fn links_resolve(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in documents(tree) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, target) in links_in(text) {
            if resolve(folder, target)
                .is_none_or(|resolved| !resolved.is_empty() && !tree.paths.contains(&resolved))
            {
                findings.push(finding(
                    path,
                    line,
                    format!("the link to `{target}` leads nowhere"),
                    "correct or remove it",
                ));
            }
        }
    }
    findings
}

fn finding(path: &str, line: usize, what: String, remedy: &str) -> Finding {
    Finding { path: path.to_owned(), line, rule: "documents", what, remedy: remedy.to_owned() }
}

/// What people read about the present: reports and the change log speak of what was.
fn documents(tree: &Tree) -> impl Iterator<Item = (&String, &String)> {
    tree.texts.iter().filter(|(path, _)| {
        extension(path) == "md" && !path.starts_with("benchmarks/results/") && path.as_str() != "CHANGELOG.md"
    })
}

/// (line, path) for every path in the document's inline code and at the start of a line of a fenced block.
fn paths_in(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: Vec<&str> = if fenced {
            line.split_whitespace().next().filter(|_| !line.starts_with(' ')).into_iter().collect()
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        found.extend(
            spans
                .into_iter()
                .filter(|span| is_path(span))
                .map(|span| (at + 1, span.trim_end_matches('/').to_owned())),
        );
    }
    found
}

/// Placeholders (`<name>`, `NAME`, `...`) are not paths; a `*` is.
fn is_path(span: &str) -> bool {
    let shape =
        span.chars().all(|c| c.is_ascii_alphanumeric() || "-_./*".contains(c)) && !span.contains("..");
    let placeholder =
        span.split(['/', '-', '.', '_']).any(|part| matches!(part, "NAME" | "DIR" | "FILE" | "X"));
    shape && !placeholder && TOPS.iter().any(|top| span.starts_with(top))
        || shape && !placeholder && span.contains('/') && extension(span) == "rs"
}

/// Whether the path's last parts are those of `pattern`: in a text about a backend, `src/factory.rs` is clear enough.
fn ends_with(path: &str, pattern: &str) -> bool {
    let (mut parts, mut patterns) = (path.rsplit('/'), pattern.rsplit('/'));
    patterns.all(|pattern| parts.next().is_some_and(|part| part_matches(pattern, part)))
}

/// `*` stands for anything within one part of a path.
fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == part };
    let Some(rest) = part.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|at| rest.is_char_boundary(at) && part_matches(after, &rest[at..]))
}

/// (line, target) of every Markdown link that is relative.
fn links_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(at, line)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
        targets
            .filter(|target| !target.is_empty() && !target.contains(':'))
            .map(move |target| (at + 1, target))
    })
}

/// `target` seen from `folder`, as a path from the root; `None` if it leaves the tree.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::tree::testing::{package, with_packages, with_text},
        *,
    };

    fn tree(path: &str, text: &str) -> Tree {
        let paths =
            ["crates", "crates/rerank-core", "crates/rerank-core/src/batch.rs", "docs/style.md", "README.md"];
        Tree { paths: paths.map(str::to_owned).into_iter().collect::<BTreeSet<_>>(), ..with_text(path, text) }
    }

    fn whats(findings: Vec<Finding>) -> Vec<(usize, String)> {
        findings.into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[test]
    fn a_crate_that_the_architecture_does_not_name_is_found() {
        let mut tree = with_packages(vec![package("rerank-core", &[], &[]), package("rerank-co", &[], &[])]);
        tree.texts.insert(ARCHITECTURE.to_owned(), "crates/rerank-core  the contract".to_owned());
        assert_eq!(whats(every_crate_is_named(&tree)), [(1, "rerank-co is not named".to_owned())]);
    }

    #[test]
    fn a_path_that_is_gone_is_found_in_prose_and_in_fences() {
        let text = "See `crates/rerank-core/` and `rerank-core/src/batch.rs`, in short `src/batch.rs`.\n`crates/gone` and `application/json`\n\
                    ```text\ncrates/rerank-core/src/gone.rs  what it was\n  crates/indented  is not a path of its own\n```\n";
        let expected =
            [(2, "`crates/gone` does not exist"), (4, "`crates/rerank-core/src/gone.rs` does not exist")];
        let found = whats(paths_exist(&tree("docs/architecture.md", text)));
        assert_eq!(found, expected.map(|(line, what)| (line, what.to_owned())));
    }

    #[test]
    fn globs_and_placeholders_are_understood() {
        let text = "`crates/*/src/batch.rs` `crates/rerank-*` `crates/backend-NAME/src` `crates/<name>`\n`crates/backend-*`\n";
        let found = whats(paths_exist(&tree("docs/testing.md", text)));
        assert_eq!(found, [(2, "`crates/backend-*` does not exist".to_owned())]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](style.md#x) [b](../README.md) [c](https://example.com/x.md) [d](#here)\n[e](gone.md) [f](../../out.md)\n";
        let expected =
            [(2, "the link to `gone.md` leads nowhere"), (2, "the link to `../../out.md` leads nowhere")];
        let found = whats(links_resolve(&tree("docs/architecture.md", text)));
        assert_eq!(found, expected.map(|(line, what)| (line, what.to_owned())));
    }

    #[test]
    fn the_past_may_name_what_is_gone() {
        assert_eq!(paths_exist(&tree("CHANGELOG.md", "`crates/gone`")), []);
        assert_eq!(paths_exist(&tree("benchmarks/results/01/x/report.md", "`crates/gone`")), []);
    }
}
