//! Tokens as they are written and read; files that are wrong, and what is said of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::ToSpan;
use rota_net::access::{Door, NotAdmitted, Role};
use tempfile::TempDir;

use super::error::TokensError;
use super::*;
use crate::files::FileError;

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("tokens");
    (folder, path)
}

fn token(created: Timestamp) -> (Token, Secret) {
    let (id, secret) = Secret::new().expect("the system has random bytes");
    let roles = vec![Role::Consumer, Role::Viewer];
    let queues = Some(vec!["mail*".parse().expect("a pattern"), "news".parse().expect("a pattern")]);
    let digest = secret.digest();
    let name = Some("the \"mailer\"".to_owned());
    (Token { id, roles, queues, name, created, expires: None, revoked: None, digest }, secret)
}

fn write(path: &PathBuf, text: &str, mode: u32) {
    fs::write(path, text).expect("the folder is writable");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &PathBuf) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_token_is_read_as_it_was_written_and_is_in_no_file() {
    let (folder, path) = place();
    let now = Timestamp::now();
    let ((one, secret), (mut two, other)) = (token(now), token(now));
    two.expires = Some(now + 5.seconds());
    two.queues = None;
    file::add(&path, &one).expect("it can be added");
    file::add(&path, &two).expect("it can be added");
    assert_eq!(file::read(&path).expect("it can be read"), [one.clone(), two.clone()]);
    file::revoke(&path, std::slice::from_ref(&one.id), now).expect("it is there");
    assert_eq!(file::read(&path).expect("it can be read")[0].revoked, Some(now));
    assert_eq!(two.state(now), "valid");
    assert_eq!(two.state(now + 5.seconds()), "expired");
    let text = fs::read_to_string(&path).expect("it is text");
    for secret in [secret.reveal(), other.reveal()] {
        let end = &secret[PREFIX.len() + ID_DIGITS + 1..];
        assert!(secret.starts_with("rota_") && end.len() == 43 && !text.contains(end), "{text}");
    }
    assert_ne!(secret.reveal(), other.reveal());
    assert_eq!(TokenId::of_token(secret.reveal()), Some(one.id));
    assert_eq!((mode(&path), fs::read_dir(folder.path()).expect("it is there").count()), (0o600, 1));
}

#[test]
fn what_is_no_token_has_no_id() {
    let (_, secret) = token(Timestamp::now());
    let good = secret.reveal();
    for bad in
        ["", "rota_", "rota_0123abcd_", &good[1..], &good[..good.len() - 1], &format!("{good}A"), &good.to_uppercase()]
    {
        assert_eq!(TokenId::of_token(bad), None, "{bad}");
    }
}

#[test]
fn a_file_keeps_who_may_read_it() {
    let (_folder, path) = place();
    write(&path, "", 0o640);
    file::add(&path, &token(Timestamp::now()).0).expect("a group may read it");
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn what_was_left_of_a_write_is_in_nobodys_way() {
    let (_folder, path) = place();
    write(&path.with_added_extension("new"), "half a li", 0o600);
    file::add(&path, &token(Timestamp::now()).0).expect("it can be added");
    assert_eq!(file::read(&path).expect("it can be read").len(), 1);
}

#[test]
fn tokens_that_ended_long_ago_make_room() {
    let (_folder, path) = place();
    let now = Timestamp::now();
    let (mut old, mut recent) = (token(now).0, token(now).0);
    old.expires = Some(now - (31 * 24).hours());
    recent.revoked = Some(now - (29 * 24).hours());
    let last = token(now).0;
    for token in [&old, &recent, &last] {
        file::add(&path, token).expect("it can be added");
    }
    assert_eq!(file::read(&path).expect("it can be read"), [recent, last]);
}

#[test]
fn a_file_has_a_thousand_tokens_and_no_more() {
    let (_folder, path) = place();
    let (token, _) = token(Timestamp::now());
    let lines = (0..file::TOKENS).map(|at| {
        let sha256 = hex(&token.digest);
        format!("{{\"id\":\"{at:08x}\",\"roles\":[\"admin\"],\"created\":\"2026-01-01T00:00:00Z\",\"sha256\":\"{sha256}\"}}\n")
    });
    write(&path, &lines.collect::<String>(), 0o600);
    assert!(matches!(file::add(&path, &token), Err(TokensError::Full { .. })));
    assert_eq!(file::read(&path).expect("it can be read").len(), file::TOKENS);
}

#[test]
fn no_id_is_revoked_where_one_is_missing() {
    let (_folder, path) = place();
    let (there, _) = token(Timestamp::now());
    file::add(&path, &there).expect("it can be added");
    let missing = TokenId::new([1, 2, 3, 4]);
    let revoked = file::revoke(&path, &[there.id.clone(), missing], Timestamp::now());
    assert!(matches!(revoked, Err(TokensError::NoSuchToken { .. })), "{revoked:?}");
    assert_eq!(file::read(&path).expect("it can be read"), [there]);
}

#[test]
fn every_bad_line_is_named() {
    let (_folder, path) = place();
    let good = format!(
        "{{\"id\":\"0123abcd\",\"roles\":[\"viewer\"],\"created\":\"2026-01-01T00:00:00Z\",\"sha256\":\"{}\"}}",
        "0f".repeat(32)
    );
    write(&path, &good, 0o600);
    assert_eq!(file::read(&path).expect("it is right").len(), 1);
    let with = |from: &str, to: &str| format!("{good}\n\n{}\n", good.replace("0123abcd", "4567abcd").replace(from, to));
    let many = format!("\"queues\":[{}\"a\"],\"sha", "\"a\",".repeat(PATTERNS));
    for (text, words) in [
        (format!("{good}\n\nnonsense\n"), vec!["column 2: expected"]),
        (format!("{good}\n\n{{}}\n"), vec!["missing field `id`"]),
        (format!("{good}\n\n{good}\n"), vec!["the token 0123abcd is there twice"]),
        (with("4567abcd", "4567ABCD"), vec!["id: an id of a token has 8 digits"]),
        (with("viewer", "boss"), vec!["\"boss\" is no role: the roles are admin, operator"]),
        (with("[\"viewer\"]", "[]"), vec!["roles: a token has at least one"]),
        (with("2026-01-01T00:00:00Z", "soon"), vec!["created: \"soon\" is not a moment"]),
        (with("\"sha", "\"expires\":\"\",\"sha"), vec!["expires: \"\" is not a moment"]),
        (with("0f0f", "0g0f"), vec!["sha256: it has 64 digits"]),
        (with("\"sha", "\"queues\":[\"a b\"],\"sha"), vec!["queues: \"a b\" names no queues"]),
        (with("\"sha", "\"queues\":[],\"sha"), vec!["queues: 1 to 100 patterns"]),
        (with("\"sha", &many), vec!["queues: 1 to 100 patterns"]),
        (with("\"sha", "\"name\":\"a\\nb\",\"sha"), vec!["name: '\\n' can't be in a name"]),
        (with("\"sha", "\"rank\":1,\"sha"), vec!["unknown field `rank`"]),
    ] {
        write(&path, &text, 0o600);
        let error = file::read(&path).expect_err(&text);
        let said = error.to_string();
        assert!(said.starts_with(&format!("{}:3: ", path.display())), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert_eq!(error.exit_code(), 2);
        // What cannot be read is not written over.
        file::add(&path, &token(Timestamp::now()).0).expect_err(&text);
        assert_eq!(fs::read_to_string(&path).expect("it is text"), text);
    }
}

#[test]
fn files_that_others_may_read_or_change_and_what_is_no_file_are_refused() {
    let (folder, path) = place();
    for open in [0o644, 0o604, 0o602, 0o620, 0o666] {
        write(&path, "", open);
        let error = file::read(&path).expect_err("it is open to others");
        assert!(error.to_string().contains(&format!("is open to other users (mode {open:04o})")), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod 600")));
        file::add(&path, &token(Timestamp::now()).0).expect_err("it is open to others");
    }
    assert!(matches!(file::read(folder.path()), Err(TokensError::File(FileError::NotAFile { .. }))));
    fs::File::create(&path).and_then(|file| file.set_len(file::FILE_BYTES + 1)).expect("the folder is writable");
    write_mode(&path, 0o600);
    assert!(matches!(file::read(&path), Err(TokensError::File(FileError::TooLong { .. }))));
}

fn write_mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_door_tells_when_somebody_has_lost_what_was_granted() {
    let (_folder, path) = place();
    let (kept, _) = token(Timestamp::now());
    let (lost, secret) = token(Timestamp::now());
    file::add(&path, &lost).expect("it can be added");
    let door = door::TokenDoor::open(Some(path.clone()), false).expect("the file is right");
    let mut changes = door.changes();
    let grant = door.admit(Some(secret.reveal())).expect("it is valid");
    door.look();
    assert!(!changes.has_changed().expect("the door is there"));
    assert_eq!(door.renew(&grant).as_ref(), Ok(&grant));
    // Another one changes nothing for it, but has to be looked at.
    file::add(&path, &kept).expect("it can be added");
    door.look();
    assert!(changes.has_changed().expect("the door is there"));
    changes.mark_unchanged();
    assert_eq!(door.renew(&grant).as_ref(), Ok(&grant));
    file::revoke(&path, std::slice::from_ref(&lost.id), Timestamp::now()).expect("it is there");
    door.look();
    assert!(changes.has_changed().expect("the door is there"));
    assert!(matches!(door.renew(&grant), Err(NotAdmitted::Revoked { .. })));
}
