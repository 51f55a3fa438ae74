//! What can be typed behind `rota webhook`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use super::HttpServer;
use crate::values::parse_duration;
use rota_client::QueueName;

/// What can be done with webhooks, over the server's HTTP port.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Set a webhook up, whether it is there or not; prints the secret that the server made, this once
    #[command(after_help = SET_NOTES)]
    Set(WebhookSetArgs),
    /// List webhooks with how far they are
    List(WebhookListArgs),
    /// Show a webhook: what it is called with, how far it is, what came of the last call
    Show(WebhookArgs),
    /// Delete a webhook
    Delete(WebhookArgs),
    /// Have a webhook wait until it is resumed
    Pause(WebhookArgs),
    /// Have a webhook go on where it stopped, and try at once
    Resume(WebhookArgs),
    /// Call a webhook with one event, to try it
    Test(WebhookArgs),
    /// Give a webhook another secret, with which calls are signed along with the one from before; prints it, this once
    #[command(after_help = ROTATE_NOTES)]
    Rotate(WebhookRotateArgs),
    /// Have a webhook sign with its newest secret alone
    DropOldSecret(WebhookArgs),
}

const SET_NOTES: &str = "\
Each call is a POST with a JSON object of up to 100 events, signed as Standard Webhooks says; docs/http.md has an example that \
checks it. What is not named is as if it had never been set, but for the secret, the pause and the place. Addresses that not anybody \
can reach, such as those of this machine and of private networks, the server calls only where its --webhook-allow names them.

  rota webhook set alerts https://example.com/rota --events job.failed,job.buried,lease.lost --queues 'mail*'
  rota webhook set audit http://127.0.0.1:8080/rota --secret-file secret";

const ROTATE_NOTES: &str = "\
Tell the new secret to who is called, and then drop the old one, or have it end by itself. A call has a signature by each of them; \
libraries of Standard Webhooks take it if one is right.

  rota webhook rotate alerts --keep 24h
  rota webhook rotate alerts && … && rota webhook drop-old-secret alerts";

/// One webhook.
#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    /// The webhook
    pub(crate) name: QueueName,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookListArgs {
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookSetArgs {
    /// The webhook's name, which keeps the rule for names of queues
    pub(crate) name: QueueName,
    /// What is called: https://host/path, or http://
    pub(crate) url: String,
    /// Only events of these kinds, with commas between them: job.failed, or job.* for all that begin so
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) events: Option<Vec<String>>,
    /// Only events of these queues and their jobs, with commas between them; * stands for anything
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) queues: Option<Vec<String>>,
    /// Sign with the secret in this file, which no other user may read: whsec_ and base64
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) secret_file: Option<PathBuf>,
    /// Have it wait until it is resumed
    #[arg(long)]
    pub(crate) paused: bool,
    /// Go on after the event of this number; 0 for all that are there
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookRotateArgs {
    /// The webhook
    pub(crate) name: QueueName,
    /// Sign with the secret in this file, which no other user may read: whsec_ and base64 [default: the server makes one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) secret_file: Option<PathBuf>,
    /// How long the secret from before signs along, 0s for not at all [default: until it is dropped]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) keep: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: HttpServer,
}
