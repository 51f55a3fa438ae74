//! What the rules look at: the text files that git knows or would add, and the packages that cargo resolves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// A repository in memory.
#[derive(Default)]
pub(super) struct Repository {
    /// Text by path from the root, with `/` between the parts. A file that is not UTF-8 has no text to check and is
    /// here with an empty one, so that links to it resolve.
    files: BTreeMap<String, String>,
    packages: BTreeMap<String, Package>,
}

/// A package that cargo resolved, ours or not.
#[derive(Clone, Default, Debug)]
pub(super) struct Package {
    /// Without its version.
    pub(super) name: String,
    /// An SPDX expression; `None` if the package states none.
    pub(super) licence: Option<String>,
    /// Where it was fetched from; `None` for a path in this repository.
    pub(super) source: Option<String>,
    /// Whether it is a member of this workspace.
    pub(super) ours: bool,
    /// What its manifest names, of every kind.
    pub(super) direct: BTreeSet<String>,
    /// Identities of what its normal (neither build nor test) dependencies resolved to.
    pub(super) normal: BTreeSet<String>,
}

impl Repository {
    /// Reads the working tree and asks cargo for the packages.
    ///
    /// # Errors
    ///
    /// This is no git checkout, a file cannot be read, or the lock file does not match the manifests.
    pub(super) fn load() -> Result<Repository> {
        let root = process::root();
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
        let listed = process::output(&mut git).context("tidy checks the files that git lists")?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let file = root.join(path);
            // Listed and not there: deleted, and not yet committed.
            if file.is_file() {
                let bytes = std::fs::read(&file).with_context(|| format!("cannot read {path}"))?;
                files.insert(path.to_owned(), String::from_utf8(bytes).unwrap_or_default());
            }
        }
        let metadata = process::output(process::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
        let metadata = serde_json::from_str(&metadata).context("`cargo metadata` wrote something that is not JSON")?;
        let packages = packages(&metadata).context("`cargo metadata` lacks a field that is always there")?;
        Ok(Repository { files, packages })
    }

    /// Every file with its text, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust file with its text.
    pub(super) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| has_extension(path, &["rs"]))
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file, or a directory with files in it.
    pub(super) fn has(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&inside))
    }

    /// Every package, ours and others.
    pub(super) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// The packages of this workspace.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages().filter(|package| package.ours)
    }

    /// The names of all that one of our packages links into a program, near and far; empty for an unknown package.
    pub(super) fn linked_into(&self, name: &str) -> BTreeSet<&str> {
        let start = self.packages.iter().find(|(_, package)| package.ours && package.name == name);
        let mut waiting: VecDeque<&str> = start.map(|(id, _)| id.as_str()).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop_front() {
            for next in self.packages.get(id).map(|package| &package.normal).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    waiting.push_back(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).map(|package| package.name.as_str()).collect()
    }
}

#[cfg(test)]
impl Repository {
    /// A made-up repository of these files.
    pub(super) fn of_files(files: &[(&str, &str)]) -> Repository {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Repository { files, ..Repository::default() }
    }

    /// The same with these packages; a package's name stands for its identity.
    pub(super) fn with_packages(mut self, packages: Vec<Package>) -> Repository {
        self.packages = packages.into_iter().map(|package| (package.name.clone(), package)).collect();
        self
    }
}

/// Whether the path ends in a dot and one of these.
pub(super) fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path).extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e))
}

/// The packages by identity, out of cargo's own description; `None` if a field is missing.
fn packages(metadata: &Value) -> Option<BTreeMap<String, Package>> {
    let members: BTreeSet<&str> = metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array()? {
        let id = package["id"].as_str()?;
        let direct = package["dependencies"].as_array()?.iter().filter_map(|d| d["name"].as_str());
        packages.insert(
            id.to_owned(),
            Package {
                name: package["name"].as_str()?.to_owned(),
                licence: package["license"].as_str().map(str::to_owned),
                source: package["source"].as_str().map(str::to_owned),
                ours: members.contains(id),
                direct: direct.map(str::to_owned).collect(),
                normal: BTreeSet::new(),
            },
        );
    }
    for node in metadata["resolve"]["nodes"].as_array()? {
        let package = packages.get_mut(node["id"].as_str()?)?;
        for dependency in node["deps"].as_array()? {
            let kinds = dependency["dep_kinds"].as_array()?;
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                package.normal.insert(dependency["pkg"].as_str()?.to_owned());
            }
        }
    }
    Some(packages)
}
