//! The workspace as the rules see it: loaded once from cargo's metadata and the files, so that each rule is a function
//! from this to findings, and a test can make one by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::source::Source;

/// Where the server lists its backends.
pub(crate) const REGISTRY: &str = "crates/rerank-server/src/registry.rs";
/// Where every crate is named, and why it exists.
pub(crate) const ARCHITECTURE: &str = "docs/architecture.md";

/// Folders with nothing of ours in them.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "__pycache__"];

#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Every package of the workspace, by name.
    pub(crate) packages: Vec<Package>,
    /// Every `.rs` file, by path.
    pub(crate) sources: Vec<Source>,
    /// Every `Cargo.toml`, `.cargo/config.toml` and Markdown file: text by path.
    pub(crate) texts: BTreeMap<String, String>,
    /// Every file and folder.
    pub(crate) paths: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the workspace's root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: DependencyKind,
}

impl Package {
    /// Backends are known by their name, wherever a rule speaks of all of them.
    pub(crate) fn is_backend(&self) -> bool {
        is_backend(&self.name)
    }

    pub(crate) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }
}

pub(crate) fn is_backend(package: &str) -> bool {
    package.starts_with("backend-")
}

/// What follows the last dot.
pub(crate) fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

impl Tree {
    /// Reads the workspace at `root`.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo cannot read the workspace")?;
        for package in metadata.packages {
            let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
            let folder =
                folder.strip_prefix(&metadata.workspace_root).unwrap_or(folder).as_str().replace('\\', "/");
            let dependencies =
                package.dependencies.into_iter().map(|d| Dependency { name: d.name, kind: d.kind });
            tree.packages.push(Package {
                name: package.name.to_string(),
                folder,
                dependencies: dependencies.collect(),
                features: package.features,
            });
        }
        tree.packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, folder: &str) -> Result<()> {
        let listed = fs::read_dir(root.join(folder)).with_context(|| format!("cannot list `{folder}`"))?;
        let mut entries = listed.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    self.walk(root, &path)?;
                    self.paths.insert(path);
                }
                continue;
            }
            self.add(root, &path)?;
            self.paths.insert(path);
        }
        Ok(())
    }

    fn add(&mut self, root: &Path, path: &str) -> Result<()> {
        if !matches!(extension(path), "rs" | "toml" | "md") {
            return Ok(());
        }
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        if extension(path) == "rs" {
            self.sources.push(Source::new(path, text));
        } else {
            self.texts.insert(path.to_owned(), text);
        }
        Ok(())
    }

    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    pub(crate) fn backends(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_backend())
    }

    /// The feature of the server that turns this backend's crate on.
    pub(crate) fn server_feature_of(&self, backend: &str) -> Option<&str> {
        let server = self.packages.iter().find(|package| package.name == "rerank-server")?;
        let turns_on = format!("dep:{backend}");
        server.features.iter().find(|(_, wants)| wants.contains(&turns_on)).map(|(name, _)| name.as_str())
    }

    /// Line (from 1) of the first line of `path` for which `wanted` holds; 1 where there is none.
    pub(crate) fn line_of(&self, path: &str, wanted: impl Fn(&str) -> bool) -> usize {
        let text = self.texts.get(path).or_else(|| self.source(path).map(|source| &source.text));
        text.and_then(|text| text.lines().position(|line| wanted(line.trim()))).map_or(1, |at| at + 1)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Trees made by hand, for the rules' tests.

    use super::*;

    pub(crate) fn package(name: &str, normal: &[&str], dev: &[&str]) -> Package {
        let dependency = |kind| move |name: &&str| Dependency { name: (*name).to_owned(), kind };
        let normal = normal.iter().map(dependency(DependencyKind::Normal));
        let dev = dev.iter().map(dependency(DependencyKind::Development));
        Package {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            dependencies: normal.chain(dev).collect(),
            features: BTreeMap::new(),
        }
    }

    pub(crate) fn with_packages(packages: Vec<Package>) -> Tree {
        Tree { packages, ..Tree::default() }
    }

    pub(crate) fn with_source(path: &str, text: &str) -> Tree {
        Tree { sources: vec![Source::new(path, text)], ..Tree::default() }
    }

    pub(crate) fn with_text(path: &str, text: &str) -> Tree {
        Tree { texts: BTreeMap::from([(path.to_owned(), text.to_owned())]), ..Tree::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_read_whole() {
        let tree = Tree::load(crate::process::root()).unwrap();
        let core = tree.packages.iter().find(|package| package.name == "rerank-core").unwrap();
        assert_eq!(core.folder, "crates/rerank-core");
        assert!(tree.source("xtask/src/main.rs").is_some());
        assert!(tree.texts.contains_key("Cargo.toml"));
        assert!(!tree.paths.contains("target"));
        assert_eq!(tree.server_feature_of("backend-candle-metal"), Some("candle"));
    }
}
