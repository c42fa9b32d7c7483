//! `cargo xtask tidy`: what the compiler does not check about the workspace, above all what is absent on purpose. Each
//! rule is a small pure function over the loaded tree, with tests that show it can fail.

mod arrows;
mod documents;
mod manifests;
mod names;
mod source;
mod sources;
pub(crate) mod tree;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use self::tree::Tree;
use crate::process;

#[derive(Args)]
pub(crate) struct TidyArgs {
    /// The workspace to check, if not this one
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// One place where a rule does not hold, and what to do there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, line, rule, what, remedy } = self;
        write!(f, "{path}:{line}: {rule}: {what}; {remedy}")
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    arrows::edges,
    arrows::absent_crates,
    arrows::backends_named_below,
    names::of_backends,
    manifests::inherit_lints,
    manifests::versions_in_one_place,
    manifests::sorted_dependencies,
    manifests::unwinding,
    sources::opening_line,
    sources::size,
    sources::words,
    sources::module_files,
    sources::unsafe_code,
    sources::unsafe_list,
    sources::downloads,
    documents::every_crate_is_named,
    documents::paths_exist,
    documents::links_resolve,
];

pub(crate) fn run(args: &TidyArgs) -> Result<()> {
    let root = args.root.clone().unwrap_or_else(|| process::root().to_owned());
    let tree = Tree::load(&root)?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} places need a hand", findings.len());
    }
    println!(
        "{} rules hold over {} packages and {} files",
        RULES.len(),
        tree.packages.len(),
        tree.sources.len()
    );
    Ok(())
}

/// Everything that is wrong with the tree, by place.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_place_a_rule_a_fact_and_a_remedy() {
        let finding = Finding {
            path: "crates/x/src/lib.rs".to_owned(),
            line: 7,
            rule: "words",
            what: "`dbg!` is left over".to_owned(),
            remedy: "take it out".to_owned(),
        };
        assert_eq!(finding.to_string(), "crates/x/src/lib.rs:7: words: `dbg!` is left over; take it out");
    }
}
