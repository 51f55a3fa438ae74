//! Every rule on small made-up repositories: one that keeps it and some that break it.

use std::collections::BTreeSet;

use super::repository::{Package, Repository};
use super::source::{code_only, code_outside_tests, lines_with_word};
use super::{Finding, Level, RULES, code, crates, dependencies, layout, licence, map, prose};

/// Runs a rule over these files; the findings as they would be printed, without what follows the place.
#[track_caller]
fn check(rule: fn(&Repository) -> Vec<Finding>, files: &[(&str, &str)], places: &[&str]) {
    check_repository(rule, &Repository::of_files(files), places);
}

#[track_caller]
fn check_repository(rule: fn(&Repository) -> Vec<Finding>, repository: &Repository, places: &[&str]) {
    let found: Vec<String> = rule(repository).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), places.len(), "{found:#?}");
    for (found, place) in found.iter().zip(places) {
        assert!(found.starts_with(place), "expected {place}, found {found}");
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A member of the workspace that names and links these.
fn ours(name: &str, dependencies: &[&str]) -> Package {
    Package {
        name: name.into(),
        licence: Some("MIT".into()),
        ours: true,
        direct: set(dependencies),
        normal: set(dependencies),
        ..Package::default()
    }
}

/// A package of the registry.
fn theirs(name: &str, dependencies: &[&str]) -> Package {
    let source = Some("registry+https://github.com/rust-lang/crates.io-index".into());
    Package { ours: false, source, ..ours(name, dependencies) }
}

fn packages(packages: Vec<Package>) -> Repository {
    Repository::of_files(&[]).with_packages(packages)
}

#[test]
fn rules_have_names_of_their_own() {
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}

#[test]
fn size_warns_and_then_fails() {
    let lines = |n: usize| "//\n".repeat(n);
    let (fair, long, too_long) = (lines(800), lines(801), lines(1_201));
    check(layout::size, &[("a.rs", &fair), ("Cargo.lock", &too_long)], &[]);
    let found = layout::size(&Repository::of_files(&[
        ("a.md", &too_long),
        ("a.py", &long),
        ("b.rs", &too_long),
        ("c.rs", &lines(1_200)),
    ]));
    let levels: Vec<(&str, Level)> = found.iter().map(|f| (f.place.as_str(), f.level)).collect();
    assert_eq!(levels, [("a.py", Level::Warning), ("b.rs", Level::Failure), ("c.rs", Level::Warning)]);
}

#[test]
fn module_docs_come_first() {
    let files = [("a.rs", "//! What.\n"), ("b.rs", "use std::fmt;\n//! What.\n"), ("c.md", "# No Rust\n")];
    check(layout::module_docs, &files, &["b.rs:1"]);
}

#[test]
fn mod_rs_is_refused() {
    let files = [("crates/a/src/b/mod.rs", ""), ("crates/a/src/mode.rs", "")];
    check(layout::no_mod_rs, &files, &["crates/a/src/b/mod.rs: call it crates/a/src/b.rs"]);
}

#[test]
fn crates_know_each_other_in_one_direction() {
    let right = vec![
        ours("rota", &["rota-net", "rota-engine"]),
        ours("rota-net", &["rota-engine"]),
        ours("rota-engine", &["rota-engine"]),
    ];
    check_repository(crates::imports, &packages(right), &[]);
    let wrong = vec![ours("rota-engine", &["rota-net"]), ours("rota-net", &["rota-engine"]), ours("rota-new", &[])];
    let expected = ["rota-engine: must not depend on rota-net", "rota-new: a crate that"];
    check_repository(crates::imports, &packages(wrong), &expected);
}

#[test]
fn the_engine_stays_lean_also_by_way_of_others() {
    let lean = vec![ours("rota-engine", &["crc"]), theirs("crc", &[]), theirs("tokio", &[])];
    check_repository(crates::lean_engine, &packages(lean), &[]);
    let heavy = vec![
        ours("rota-engine", &["crc"]),
        theirs("crc", &["runtime"]),
        theirs("runtime", &["tokio"]),
        theirs("tokio", &[]),
    ];
    check_repository(crates::lean_engine, &packages(heavy), &["rota-engine: links tokio"]);
    let mut for_tests = ours("rota-engine", &["tokio"]);
    for_tests.normal.clear();
    check_repository(crates::lean_engine, &packages(vec![for_tests, theirs("tokio", &[])]), &[]);
}

#[test]
fn unsafe_is_found_in_code_and_not_in_prose() {
    let prose = "//! No unsafe here.\nconst WORD: &str = \"unsafe\";\n/* unsafe /* unsafe */ unsafe */\n";
    check(code::no_unsafe, &[("a.rs", prose), ("b.md", "unsafe\n")], &[]);
    let code = "//! X.\n#[allow(unsafe_code)]\nfn f() { unsafe { g() } }\n";
    check(code::no_unsafe, &[("a.rs", code)], &["a.rs:3: `unsafe`", "a.rs:2: `unsafe_code`"]);
}

#[test]
fn unwrap_is_for_tests() {
    let program = "fn f() { x.unwrap_or(1); y.unwrap(); }\n// z.unwrap()\n#[cfg(test)]\nmod tests { fn g() { x.unwrap() } }\nfn h() { x.unwrap() }\n";
    let files = [
        ("crates/a/src/b.rs", program),
        ("crates/a/src/b/tests.rs", "x.unwrap()"),
        ("crates/a/tests/it/main.rs", "x.unwrap()"),
        ("xtask/src/c.rs", "x.unwrap()"),
    ];
    check(code::no_unwrap, &files, &["crates/a/src/b.rs:1", "crates/a/src/b.rs:5", "xtask/src/c.rs:1"]);
}

#[test]
fn the_engine_asks_nobody() {
    let asks =
        "//! Not `Instant::now`.\nfn f() { std::time::Instant::now(); }\nstd::thread::spawn(f);\nuse std::network;\n";
    let files = [
        ("crates/rota-engine/src/state.rs", asks),
        ("crates/rota-engine/src/state/tests.rs", asks),
        ("crates/rota/src/serve.rs", asks),
    ];
    check(
        code::quiet_engine,
        &files,
        &["crates/rota-engine/src/state.rs:3: `thread::spawn`", "crates/rota-engine/src/state.rs:2: `Instant::now`"],
    );
}

#[test]
fn the_map_is_complete_and_names_nothing_that_is_gone() {
    let files = ["crates/a/src/lib.rs", "crates/a/src/job.rs", "crates/a/src/job/tests.rs", "xtask/src/main.rs"];
    let with_map = |map| {
        let mut all: Vec<(&str, &str)> = files.iter().map(|path| (*path, "//! X.\n")).collect();
        all.push(("ARCHITECTURE.md", map));
        Repository::of_files(&all)
    };
    let right = "# Map\n- `free.rs` is no item of a crate\n## `a`: the engine\n- `lib.rs`: x\n  - `job.rs`: y\n### `xtask`\n- `main.rs`\n";
    check_repository(map::complete, &with_map(right), &[]);
    let stale = "## `a`\n- `lib.rs`: x\n- `gone.rs`: y\n## `b`\n";
    let expected = [
        "ARCHITECTURE.md:3: names gone.rs in a",
        "ARCHITECTURE.md:4: names the crate b",
        "ARCHITECTURE.md:1: lacks job.rs of a",
        "ARCHITECTURE.md: lacks the crate xtask",
    ];
    check_repository(map::complete, &with_map(stale), &expected);
    check(map::complete, &[], &["ARCHITECTURE.md: the map is missing"]);
}

#[test]
fn every_dependency_has_its_reason() {
    let with_page = |page| {
        let packages = vec![ours("rota", &["rota-engine", "tokio"]), ours("rota-engine", &["crc32fast"])];
        Repository::of_files(&[("docs/dependencies.md", page)]).with_packages(packages)
    };
    let head = "## Crates\n\n| crate | for | why | against |\n|---|---|---|---|\n";
    let right =
        format!("{head}| `tokio` | a | b | c |\n| `crc32fast` | a | b | c |\n\n## Clients\n\n| `greenstalk` | a |\n");
    check_repository(dependencies::reasons, &with_page(&right), &[]);
    let wrong = format!("{head}| `tokio` | a | b | |\n| `tokio` | a | b | c |\n| `left-pad` | a | b | c |\n");
    let expected = [
        "docs/dependencies.md:5: tokio: say what for",
        "docs/dependencies.md:6: tokio has two rows",
        "docs/dependencies.md:7: no crate of ours depends on left-pad",
        "docs/dependencies.md: lacks a row for crc32fast, which rota-engine",
    ];
    check_repository(dependencies::reasons, &with_page(&wrong), &expected);
}

#[test]
fn licences_are_on_the_list() {
    let allowed = ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0"];
    let refused = ["GPL-3.0", "MIT AND GPL-3.0", "", "MIT OR", "(MIT", "MIT MIT", "Apache-2.0 WITH Something", "MIT)"];
    assert_eq!(allowed.map(licence::is_allowed), allowed.map(|_| true));
    assert_eq!(refused.map(licence::is_allowed), refused.map(|_| false));
    assert!(licence::is_allowed("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));

    let unlicensed = Package { licence: None, ..theirs("a", &[]) };
    let copyleft = Package { licence: Some("AGPL-3.0".into()), ..theirs("b", &[]) };
    let found = ["a: states no licence", "b: licence 'AGPL-3.0'"];
    check_repository(dependencies::licences, &packages(vec![unlicensed, copyleft, theirs("c", &[])]), &found);
}

#[test]
fn packages_come_from_the_registry() {
    let git = Package { source: Some("git+https://example.org/a".into()), ..theirs("a", &[]) };
    let path = Package { source: None, ..theirs("b", &[]) };
    let found = ["a: comes from git+https", "b: comes from a path"];
    check_repository(dependencies::sources, &packages(vec![git, path, theirs("c", &[]), ours("rota", &[])]), &found);
}

#[test]
fn relative_links_lead_somewhere() {
    let page = "# A page: of mine\n[a](docs/b.md) [b](docs/b.md#the-end) [c](#a-page-of-mine) [d](https://example.org/x)\n\
                [e](docs) `[f](gone.md)`\n```\n[g](gone.md)\n```\n[h](gone.md) [i](docs/b.md#gone)\n";
    let files = [("README.md", page), ("docs/b.md", "## The end\n[up](../README.md) [out](../../x.md)\n")];
    check(prose::links, &files, &["README.md:7: the link to gone.md", "README.md:7: docs/b.md has no", "docs/b.md:2"]);
}

#[test]
fn lines_end_where_they_end() {
    let files = [("a.rs", "//! X.\n"), ("b.md", "x \ny\n"), ("c.py", "x"), ("d.sh", "x\n\n"), ("e.snap", "x \n")];
    check(prose::spaces, &files, &["b.md:1", "c.py: end", "d.sh: end"]);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let own = "see crates/work/list, ~/work/, http://host/tmp/x, {dir}/home/x, a/root/b, the issue is 3 days old\n";
    check(prose::itself, &[("a.md", own)], &[]);
    for foreign in ["in /w~ork/main", "`/t~mp/x`", "\"/h~ome/me\"", "/r~oot/.cargo", "Is~sue 12", "is~sue #7"] {
        let text = foreign.replace('~', "");
        check(prose::itself, &[("a.rs", &text)], &["a.rs:1"]);
    }
}

#[test]
fn what_is_not_code_is_blanked_out() {
    let blank = |text: &str| code_only(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(blank("a /* b */ c // d\ne"), "a c e");
    assert_eq!(blank(r#"a "b \" c" d"#), "a d");
    assert_eq!(blank(r###"a r#"b " c"# d br"e\" f"###), "a d b f");
    assert_eq!(blank("let c = '\"'; x('\\'') 'é' y"), "let c = ; x( ) y");
    assert_eq!(blank("fn f<'a>(x: &'a str) {} \"b\""), "fn f<'a>(x: &'a str) {}");
    assert_eq!(blank("r#type for\" b\""), "r#type for");
    let text = "a /* é\n*/ b \"\n\"";
    assert_eq!((code_only(text).len(), code_only(text).lines().count()), (text.len(), text.lines().count()));
}

#[test]
fn test_items_end_where_their_braces_do() {
    let code = code_outside_tests(
        "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod t { fn x() { } }\nc\n#[cfg(all(test, y))]\nfn z() {}\nd",
    );
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(lines_with_word("un\nunder un_der\n(un)\n", "un"), [1, 3]);
}
