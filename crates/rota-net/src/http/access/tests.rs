//! Patterns; that each page that is served is in the table, and each of the table is served.

use super::pages::PAGES;
use super::*;
use crate::access::Role;
use crate::http::openapi;
use std::collections::BTreeSet;

#[test]
fn a_star_stands_for_anything() {
    let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().expect(pattern).matches(name);
    for (pattern, name) in [
        ("mail", "mail"),
        ("*", "mail"),
        ("mail*", "mail"),
        ("mail*", "mail-eu"),
        ("*-eu", "mail-eu"),
        ("m*l*u", "mail-eu"),
        ("**", "x"),
        ("a*a", "aa"),
        ("*ab*ab", "aababab"),
    ] {
        assert!(matches(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in [
        ("mail", "mails"),
        ("mail", "mai"),
        ("mail", "MAIL"),
        ("mail*", "email"),
        ("*-eu", "mail-eu-1"),
        ("a*a", "a"),
        ("m*x*u", "mail-eu"),
        ("m*u", "mail-eux"),
    ] {
        assert!(!matches(pattern, name), "{pattern} {name}");
    }
    let worst: String = "*a".repeat(100);
    assert!(!matches(&worst, &("a".repeat(99) + &"b".repeat(101))));
}

#[test]
fn what_can_be_no_queue_is_no_pattern() {
    for text in ["", "a b", "-a", "ä", "a\n", "mail?", &"a".repeat(201)] {
        let error = text.parse::<Pattern>().expect_err(text);
        assert!(error.to_string().contains("write a queue's name"), "{error}");
    }
}

#[test]
fn each_page_that_is_served_is_in_the_table_once() {
    let (_, description) = openapi::router().split_for_parts();
    let described = description.paths.paths.iter().flat_map(|(path, item)| {
        let operations = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("DELETE", &item.delete),
            ("PATCH", &item.patch),
        ];
        let there = operations.into_iter().filter(|(_, operation)| operation.is_some());
        there.map(move |(method, _)| format!("{method} {path}")).collect::<Vec<_>>()
    });
    let described: BTreeSet<String> = described.filter(|page| !OPEN.iter().any(|open| page.ends_with(open))).collect();
    let listed: BTreeSet<String> = PAGES.iter().map(|page| format!("{} {}", page.method, page.path)).collect();
    assert_eq!(described, listed);
    assert_eq!(listed.len(), PAGES.len(), "a page is there twice");
}

#[test]
fn admins_may_everything_and_others_what_the_table_says() {
    let role = |role: Role| Grant::new(&[role], None);
    let page = |method, path| Page::of(&method, path).expect(path);
    use axum::http::Method;
    for page in PAGES {
        assert_eq!(role(Role::Admin).check_page(page), Ok(()));
        for other in Role::ALL {
            assert_eq!(role(other).check_page(page).is_ok(), other == Role::Admin || page.roles.contains(&other));
        }
    }
    let put = page(Method::POST, "/v1/jobs");
    let two = Grant::new(&[Role::Viewer, Role::Producer], None);
    assert_eq!(two.check_page(put), Ok(()));
    assert_eq!(Grant::new(&[], None).check_page(put).map_err(|problem| problem.status().as_u16()), Err(403));
    let limited = Grant::new(&[Role::Admin], Some(&["mail*".parse().unwrap()]));
    assert_eq!(limited.check_page(put), Ok(()));
    assert!(limited.check_page(page(Method::HEAD, "/v1/stats")).is_err());
    assert!(limited.covers(&QueueName::new("mail-eu").unwrap()));
    assert!(!limited.covers(&QueueName::new("news").unwrap()));
}
