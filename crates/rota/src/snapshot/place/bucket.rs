//! A prefix in a bucket as a place: Amazon S3, Google Cloud Storage, Azure Blob Storage, and what speaks like them.
//!
//! Credentials come from the environment, by the names that the clouds' own tools use. They must not leave: whatever an
//! object store says goes through [`redact`] before anybody sees it.

use std::error::Error;
use std::sync::Once;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::{Listing, PlaceFault};
use crate::snapshot::address::Cloud;

/// How long one request may take: a segment at 150 KB a second.
const REQUEST_TIMEOUT: &str = "120s";

/// How long a request is tried again, if the store is at fault.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// How often.
const RETRIES: usize = 6;

/// The longest message of an object store that is shown, in characters.
const MESSAGE: usize = 600;

/// How long taking one object away again may take: it is done on the way out of a failure.
const DELETE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Bucket {
    store: Box<dyn ObjectStore>,
    prefix: String,
    runtime: Runtime,
    /// Whether nothing is put any more.
    given_up: watch::Sender<bool>,
}

impl Bucket {
    pub(super) fn open(cloud: Cloud, bucket: &str, prefix: &str) -> Result<Bucket, PlaceFault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PlaceFault::Io)?;
        let store = build(cloud, bucket).map_err(|error| fault(&error))?;
        Ok(Bucket { store, prefix: prefix.to_owned(), runtime, given_up: watch::Sender::new(false) })
    }

    pub(super) fn list(&self, path: &str) -> Result<Listing, PlaceFault> {
        let prefix = self.path(path);
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&prefix)));
        let listed = listed.map_err(|error| fault(&error))?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        Ok(Listing {
            folders: listed.common_prefixes.iter().filter_map(last).collect(),
            objects: listed.objects.iter().filter_map(|object| Some((last(&object.location)?, object.size))).collect(),
        })
    }

    pub(super) fn get(&self, path: &str, most: u64) -> Result<Vec<u8>, PlaceFault> {
        self.runtime.block_on(async {
            let got = self.store.get(&self.path(path)).await.map_err(|error| fault(&error))?;
            if got.meta.size > most {
                return Err(PlaceFault::TooLong(got.meta.size));
            }
            Ok(got.bytes().await.map_err(|error| fault(&error))?.into())
        })
    }

    pub(super) fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), PlaceFault> {
        let path = self.path(path);
        let mut given_up = self.given_up.subscribe();
        let put = self.runtime.block_on(async {
            tokio::select! {
                put = self.store.put(&path, bytes.into()) => Some(put),
                _ = given_up.wait_for(|given_up| *given_up) => None,
            }
        });
        match put {
            Some(Ok(_)) => Ok(()),
            // Not the object is missing, but the bucket.
            Some(Err(error @ object_store::Error::NotFound { .. })) => Err(PlaceFault::Store(text(&error))),
            Some(Err(error)) => Err(fault(&error)),
            None => Err(PlaceFault::Store("it was given up".into())),
        }
    }

    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// Takes an object away, if that can be done soon; returns whether the store answered.
    pub(super) fn delete(&self, path: &str) -> bool {
        let path = self.path(path);
        let delete = async { tokio::time::timeout(DELETE_PATIENCE, self.store.delete(&path)).await };
        self.runtime.block_on(delete).is_ok()
    }

    fn path(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }
}

fn build(cloud: Cloud, bucket: &str) -> object_store::Result<Box<dyn ObjectStore>> {
    provide_tls();
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    // What the environment says about these counts; a plain endpoint is one that the environment names.
    let is_given = |key: &str| std::env::var_os(format!("{}{key}", cloud.variables())).is_some();
    let is_plain = |endpoint: Option<String>| endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let (timeout, plain) = (ClientConfigKey::Timeout, ClientConfigKey::AllowHttp);
    Ok(match cloud {
        Cloud::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
            let endpoints = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
            if endpoints.iter().any(|key| is_plain(builder.get_config_value(key))) {
                builder = builder.with_config(AmazonS3ConfigKey::Client(plain), "true");
            }
            if !is_given("TIMEOUT") {
                builder = builder.with_config(AmazonS3ConfigKey::Client(timeout), REQUEST_TIMEOUT);
            }
            Box::new(builder.build()?)
        }
        Cloud::Gs => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry);
            if is_plain(builder.get_config_value(&GoogleConfigKey::BaseUrl)) {
                builder = builder.with_config(GoogleConfigKey::Client(plain), "true");
            }
            if !is_given("TIMEOUT") {
                builder = builder.with_config(GoogleConfigKey::Client(timeout), REQUEST_TIMEOUT);
            }
            Box::new(builder.build()?)
        }
        Cloud::Azblob => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry);
            if is_plain(builder.get_config_value(&AzureConfigKey::Endpoint)) {
                builder = builder.with_config(AzureConfigKey::Client(plain), "true");
            }
            if !is_given("TIMEOUT") {
                builder = builder.with_config(AzureConfigKey::Client(timeout), REQUEST_TIMEOUT);
            }
            Box::new(builder.build()?)
        }
    })
}

/// Makes TLS work in this process; once is enough.
pub(crate) fn provide_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn fault(error: &object_store::Error) -> PlaceFault {
    match error {
        object_store::Error::NotFound { .. } => PlaceFault::Missing,
        _ => PlaceFault::Store(text(error)),
    }
}

/// An error and its causes in one line, without secrets.
fn text(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // What is no text is none of those that hold secrets.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let shown = redact(&line, variables);
    match shown.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// Takes out of a text what stands in variables that hold secrets, and the queries of URLs, which may be signed.
fn redact(text: &str, variables: impl Iterator<Item = (String, String)>) -> String {
    const SECRET: [&str; 6] = ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD", "CONNECTION_STRING"];
    let mut text = text.to_owned();
    for (name, value) in variables {
        let is_ours = ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
        // A shorter one would take the letters of words away.
        if is_ours && value.len() >= 8 && SECRET.iter().any(|word| name.contains(word)) {
            text = text.replace(value.trim(), "[secret]");
        }
    }
    let mut shown = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            shown.push(' ');
        }
        match word.split_once('?') {
            Some((url, query)) if url.contains("://") => {
                shown.push_str(url);
                // What closes behind the URL still closes.
                shown.push_str(query.find([')', '"', '\'']).map_or("", |end| &query[end..]));
            }
            _ => shown.push_str(word),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_no_secret() {
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
            ("AZURE_STORAGE_SAS_KEY", "sv=1&sig=abcdefgh"),
            ("AWS_REGION", "eu-central-1"),
            ("HOME_KEY", "Signature"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let said =
            "Signature of wJalrXUtnFEMI in eu-central-1 (https://a.example/b?sig=x%3D&y=1) http://c.example?d, why?";
        assert_eq!(
            redact(said, variables.into_iter()),
            "Signature of [secret] in eu-central-1 (https://a.example/b) http://c.example why?"
        );
    }
}
