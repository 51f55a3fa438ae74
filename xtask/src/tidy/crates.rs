//! Rules about who may depend on whom.

use super::Finding;
use super::repository::Repository;

/// Each crate of ours with those of ours that it may name, tests included. A crate that is not here may name none.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("rota", &["rota-client", "rota-net", "rota-engine"]),
    ("rota-client", &[]),
    ("rota-net", &["rota-engine"]),
    ("rota-engine", &[]),
    ("xtask", &[]),
];

/// What must not be linked into a program by way of the engine: it is to be embedded anywhere and simulated.
const NOT_IN_ENGINE: &[&str] = &["tokio", "mio", "serde_json"];

pub(super) fn imports(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in repository.ours() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == package.name) else {
            let message = "a crate that xtask/src/tidy/crates.rs does not know: say there whom it may import";
            findings.push(Finding::failure(&package.name, None, message));
            continue;
        };
        for other in repository.ours().map(|other| other.name.as_str()) {
            // A crate names itself to switch on its own features in its tests.
            if other != package.name && package.direct.contains(other) && !allowed.contains(&other) {
                findings.push(Finding::failure(&package.name, None, format!("must not depend on {other}")));
            }
        }
    }
    findings
}

pub(super) fn lean_engine(repository: &Repository) -> Vec<Finding> {
    let linked = repository.linked_into("rota-engine");
    let unwanted = NOT_IN_ENGINE.iter().filter(|name| linked.contains(*name));
    unwanted
        .map(|name| Finding::failure("rota-engine", None, format!("links {name}, directly or by way of another")))
        .collect()
}
