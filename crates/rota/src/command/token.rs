//! `rota token`: makes, lists and revokes the tokens of a file, whether a server runs or not.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use rota_net::access::{Pattern, Role};
use serde_json::{Value, json};

use super::text::table;
use crate::cli::{Global, TokenCommand, TokenCreateArgs, TokenFileArgs, TokenRevokeArgs};
use crate::report::{self, Failure};
use crate::tokens::{COMMAND_LINE, PATTERNS, Secret, Token, TokenId, file};

pub(crate) fn run(global: &Global, command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(global, args)?,
        TokenCommand::List(args) => list(global, &args)?,
        TokenCommand::Revoke(args) => revoke(global, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that was meant.
fn path(args: &TokenFileArgs) -> PathBuf {
    args.tokens.clone().unwrap_or_else(|| args.data.join(file::FILE_NAME))
}

fn create(global: &Global, args: TokenCreateArgs) -> anyhow::Result<()> {
    let path = path(&args.file);
    let created = Timestamp::now();
    let expires = args.expires.map(|span| {
        let end = SignedDuration::try_from(span).ok().and_then(|span| created.checked_add(span).ok());
        end.ok_or_else(|| Failure::wrong_usage("--expires: that is too far ahead").hint("leave it away for no end"))
    });
    if args.queues.len() > PATTERNS {
        return Err(Failure::wrong_usage(format!("--queues: a token has at most {PATTERNS} patterns")).into());
    }
    if args.name.as_deref() == Some(COMMAND_LINE) {
        let text = format!("--name: {COMMAND_LINE:?} is who makes and revokes tokens in the events of a server");
        return Err(Failure::wrong_usage(text).hint("call it something else").into());
    }
    let (id, secret) = Secret::new()?;
    let mut roles: Vec<Role> = Vec::new();
    args.roles.iter().for_each(|role| {
        if !roles.contains(role) {
            roles.push(*role)
        }
    });
    let token = Token {
        id,
        roles,
        queues: (!args.queues.is_empty()).then_some(args.queues),
        name: args.name,
        created,
        expires: expires.transpose()?,
        revoked: None,
        digest: secret.digest(),
    };
    file::add(&path, &token)?;
    if global.json {
        let mut object = object(&token, created);
        object["token"] = secret.reveal().into();
        return report::line(true, String::new, object);
    }
    // Standard output has the token alone, so that a script can keep it.
    let until = token.expires.map_or(String::new(), |end| format!(" until {end}"));
    let (id, roles, queues) = (&token.id, names(&token.roles), queues(&token));
    rota_net::note!("token {id}, {roles} of {queues}{until}, in {}: it is shown this once", path.display());
    report::raw(format!("{}\n", secret.reveal()).as_bytes())
}

fn list(global: &Global, args: &TokenFileArgs) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let tokens = file::read(&path(args))?;
    if global.json {
        return tokens.iter().try_for_each(|token| report::line(true, String::new, object(token, now)));
    }
    if tokens.is_empty() {
        return Ok(());
    }
    let head = ["ID", "STATE", "ROLES", "QUEUES", "EXPIRES", "NAME"];
    let rows: Vec<Vec<String>> = tokens.iter().map(|token| row(token, now)).collect();
    report::line(false, || table(&head, &rows), Value::Null)
}

fn revoke(global: &Global, args: TokenRevokeArgs) -> anyhow::Result<()> {
    let path = path(&args.file);
    file::revoke(&path, &args.ids, Timestamp::now())?;
    let ids: Vec<&str> = args.ids.iter().map(TokenId::as_str).collect();
    report::line(global.json, || format!("revoked {}", ids.join(", ")), json!({ "revoked": ids }))
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",")
}

fn queues(token: &Token) -> String {
    let all = String::from("all queues");
    token.queues.as_ref().map_or(all, |queues| queues.iter().map(Pattern::as_str).collect::<Vec<_>>().join(","))
}

fn row(token: &Token, now: Timestamp) -> Vec<String> {
    let expires = token.expires.map_or_else(|| String::from("never"), |end| end.to_string());
    let name = token.name.clone().unwrap_or_default();
    vec![token.id.to_string(), token.state(now).into(), names(&token.roles), queues(token), expires, name]
}

fn object(token: &Token, now: Timestamp) -> Value {
    let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    json!({
        "id": token.id.as_str(),
        "state": token.state(now),
        "roles": token.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "queues": token.queues.as_ref().map(|queues| queues.iter().map(Pattern::as_str).collect::<Vec<_>>()),
        "name": token.name,
        "created": token.created.to_string(),
        "expires": moment(token.expires),
        "revoked": moment(token.revoked),
    })
}
