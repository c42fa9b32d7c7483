//! What each part really pulls in, asked of `cargo tree`: manifests show one step of a dependency, this shows all.
//! A server with one backend holds that backend's crates and nothing of another's; the engine stays free of HTTP.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{
    process::{self, cargo},
    tidy::tree::Tree,
};

/// (package, crates that must not be among everything it pulls in, why).
const ABSENT: [(&str, &[&str], &str); 4] = [
    (
        "rerank-core",
        &["tokio", "tokenizers", "hyper", "ureq"],
        "the contract is data and traits, without a runtime",
    ),
    (
        "rerank-engine",
        &["axum", "h2", "http", "hyper", "prost", "reqwest", "tonic", "tower", "ureq"],
        "the engine knows no transport",
    ),
    (
        "rerank-bench",
        &["candle-core", "rerank-core", "rerank-engine", "rerank-server"],
        "the bench speaks the wire only",
    ),
    ("rerank-report", &["hyper", "tokio"], "reports touch nothing but files"),
];

pub(crate) fn check() -> Result<String> {
    let workspace = Tree::load(process::root())?;
    let mut wrong = Vec::new();
    for (package, absent, why) in ABSENT {
        let pulled = pulled_in(&format!("--package {package}"))?;
        wrong.extend(
            absent
                .iter()
                .filter(|name| pulled.contains(**name))
                .map(|name| format!("{package} pulls in {name}: {why}")),
        );
    }
    let bare = pulled_in("--package rerank-server --no-default-features --features http,grpc")?;
    let backends: Vec<_> = workspace.packages.iter().filter(|package| package.is_backend()).collect();
    for backend in &backends {
        let name = &backend.name;
        let own = pulled_in(&format!("--package {name}"))?;
        for banned in ["tokio", "hyper", "rerank-engine"] {
            if own.contains(banned) {
                wrong.push(format!(
                    "{name} pulls in {banned}: backends block, on a thread that the engine owns"
                ));
            }
        }
        let Some(feature) = workspace.server_feature_of(name) else {
            bail!(
                "no feature of rerank-server turns on {name}; add `NAME = [\"dep:{name}\"]` to its manifest"
            );
        };
        let served = pulled_in(&format!(
            "--package rerank-server --no-default-features --features http,grpc,{feature}"
        ))?;
        wrong.extend(
            surplus(&served, &bare, &own).map(|c| format!("a server with only `{feature}` pulls in {c}")),
        );
        if !served.contains(name) {
            wrong.push(format!("a server with feature `{feature}` does not contain {name}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(format!("{} one-backend servers hold their own backend alone", backends.len()))
}

/// What a server with one backend has beyond the server without and that backend's own crates: must be nothing.
fn surplus<'a>(
    served: &'a BTreeSet<String>,
    bare: &'a BTreeSet<String>,
    own: &'a BTreeSet<String>,
) -> impl Iterator<Item = &'a String> {
    served.iter().filter(|name| !bare.contains(*name) && !own.contains(*name))
}

/// Names of every crate that ends up in the selection's binary on this platform.
fn pulled_in(selection: &str) -> Result<BTreeSet<String>> {
    let printed =
        process::read(&mut cargo(&format!("tree {selection} --edges normal --prefix none --format {{p}}")))?;
    Ok(names(&printed))
}

/// The first word of each line that `cargo tree --prefix none` prints.
fn names(printed: &str) -> BTreeSet<String> {
    printed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &str) -> BTreeSet<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_are_the_first_words_of_the_printed_tree() {
        let printed =
            "rerank-core v0.1.0 (/home/me/rerank/crates/rerank-core)\nserde v1.0.228\nserde v1.0.228 (*)\n\n";
        assert_eq!(names(printed), set("rerank-core serde"));
    }

    #[test]
    fn another_backends_crate_in_a_one_backend_server_is_found() {
        let (bare, own) = (set("server axum core"), set("backend-mock core"));
        assert_eq!(surplus(&set("server axum core backend-mock"), &bare, &own).count(), 0);
        let served = set("server axum core backend-mock candle-core");
        assert_eq!(surplus(&served, &bare, &own).collect::<Vec<_>>(), ["candle-core"]);
    }
}
