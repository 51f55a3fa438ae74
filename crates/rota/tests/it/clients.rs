//! Real clients of beanstalkd, each through every command it offers, against beanstalkd and against Rota.
//!
//! A client's script (`tests/clients/README.md` says what they are and how they get there) walks through its commands
//! and prints each answer. It runs against a fresh server of both kinds, and both outputs have to be the same, but for
//! what the table of `docs/protocol/beanstalkd.md` names with a reason. Nothing here knows the protocol itself.

mod beanstalkc;
mod comparison;
mod differences;
mod script;

use std::sync::OnceLock;

use comparison::Comparison;
use differences::Table;
use script::Script;

/// One client: its name in the table of differences, its script, and what came of it in this run of the tests.
struct Client {
    name: &'static str,
    script: Script,
    compared: OnceLock<Comparison>,
}

impl Client {
    const fn new(name: &'static str, script: Script) -> Client {
        Client { name, script, compared: OnceLock::new() }
    }

    /// Runs the script against both servers, once for all tests of this process.
    fn compared(&self) -> &Comparison {
        self.compared.get_or_init(|| Comparison::run(self.name, &self.script))
    }
}

static CLIENTS: [Client; 6] = [
    Client::new("greenstalk", Script::Python("greenstalk_client.py")),
    Client::new("pystalk", Script::Python("pystalk_client.py")),
    Client::new("jackd", Script::Node("jackd_client.mjs")),
    Client::new("fivebeans", Script::Node("fivebeans_client.cjs")),
    Client::new("go-beanstalk", Script::Go),
    Client::new("beanstalkc", Script::Rust(beanstalkc::walk)),
];

#[test]
fn greenstalk() {
    check("greenstalk");
}

#[test]
fn pystalk() {
    check("pystalk");
}

#[test]
fn jackd() {
    check("jackd");
}

#[test]
fn fivebeans() {
    check("fivebeans");
}

#[test]
fn go_beanstalk() {
    check("go-beanstalk");
}

#[test]
fn rust_beanstalkc() {
    check("beanstalkc");
}

#[test]
fn rows_for_every_client_still_apply() {
    let table = Table::load();
    for row in table.rows() {
        if let Some(name) = row.client() {
            assert!(CLIENTS.iter().any(|client| client.name == name), "no client is called {name}: {row}");
        }
    }
    let stale: Vec<String> = table
        .rows()
        .filter(|row| row.client().is_none())
        .filter(|row| !CLIENTS.iter().any(|client| client.compared().differences(client.name).any(|d| row.fits(&d))))
        .map(ToString::to_string)
        .collect();
    assert!(stale.is_empty(), "{}", stale_rows(&stale));
}

/// Fails unless the client's answers are alike, the differences of the table aside, and all its rows are needed.
fn check(name: &str) {
    let client = CLIENTS.iter().find(|client| client.name == name).expect("a client of the list");
    let table = Table::load();
    let compared = client.compared();
    let mut report = compared.failures().to_vec();

    let unexplained: Vec<String> = compared
        .differences(name)
        .filter(|difference| !table.rows().any(|row| row.fits(difference)))
        .map(|difference| difference.to_string())
        .collect();
    if !unexplained.is_empty() {
        report.push(format!(
            "{} of {} steps of {name} are answered differently:\n\n{}\n\nMend it, or give the reason in the table of {}.",
            unexplained.len(),
            compared.steps(),
            unexplained.join("\n"),
            differences::PAGE,
        ));
    }

    let stale: Vec<String> = table
        .rows()
        .filter(|row| row.client() == Some(name))
        .filter(|row| !compared.differences(name).any(|difference| row.fits(&difference)))
        .map(ToString::to_string)
        .collect();
    if !stale.is_empty() {
        report.push(stale_rows(&stale));
    }
    assert!(report.is_empty(), "\n{}\n", report.join("\n\n"));
}

fn stale_rows(rows: &[String]) -> String {
    format!("no answer differs like this any more; take it out of {}:\n{}", differences::PAGE, rows.join("\n"))
}
