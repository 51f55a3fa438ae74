//! Where snapshots are: a folder, or a prefix in a bucket, as `--snapshot-to` and others say it.
//!
//! Nothing is looked at here. An address never holds a secret: one that looks as if it did is refused, and the refusal
//! does not repeat it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// How an address is written.
const FORMS: &str = "write a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX";

/// A place for snapshots, or one snapshot there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix in a bucket of an object store.
    Bucket {
        /// Whose.
        cloud: Cloud,
        /// The bucket, which Azure calls container.
        bucket: String,
        /// What the objects' names begin with, without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
}

/// A kind of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Azblob,
}

impl Cloud {
    const ALL: [Cloud; 3] = [Cloud::S3, Cloud::Gs, Cloud::Azblob];

    /// What an address of it begins with.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Cloud::S3 => "s3",
            Cloud::Gs => "gs",
            Cloud::Azblob => "azblob",
        }
    }

    /// What the names of its environment variables begin with.
    pub(crate) fn variables(self) -> &'static str {
        match self {
            Cloud::S3 => "AWS_",
            Cloud::Gs => "GOOGLE_",
            Cloud::Azblob => "AZURE_",
        }
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    /// Nothing.
    #[error("it is empty: {FORMS}")]
    Empty,
    /// A scheme that is none of ours.
    #[error("{0:?} is no kind of place that rota knows: {FORMS}")]
    Scheme(String),
    /// No bucket.
    #[error("{0}:// names no bucket: {FORMS}")]
    NoBucket(&'static str),
    /// A character that can't be where it is.
    #[error("{0:?} can't be in an address: {FORMS}")]
    Character(char),
    /// `user:password@`, or a query: it may hold a secret, so that it is not repeated.
    #[error("an address holds no credentials and no query, they come from the environment: {FORMS}")]
    Credentials,
    /// `file://` with a host.
    #[error("a file address names a folder of this machine: write file:///PATH or the path alone")]
    FileHost,
}

impl Address {
    /// The address of what is called `name` below this one.
    pub(crate) fn below(&self, name: &str) -> Address {
        match self {
            Address::Folder(path) => Address::Folder(path.join(name)),
            Address::Bucket { cloud, bucket, prefix } => {
                let prefix = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
                Address::Bucket { cloud: *cloud, bucket: bucket.clone(), prefix }
            }
        }
    }

    /// The last part of it: the name of a snapshot, if it names one.
    pub(crate) fn last(&self) -> &str {
        match self {
            Address::Folder(path) => path.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
            Address::Bucket { prefix, .. } => prefix.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// The same, with a folder's path made independent of the working directory.
    pub(crate) fn absolute(self) -> Address {
        match self {
            Address::Folder(path) => Address::Folder(std::path::absolute(&path).unwrap_or(path)),
            bucket @ Address::Bucket { .. } => bucket,
        }
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::Folder(path.to_owned())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return folder(text);
        };
        if scheme == "file" {
            return if rest.starts_with('/') { folder(rest) } else { Err(AddressError::FileHost) };
        }
        let Some(cloud) = Cloud::ALL.into_iter().find(|cloud| cloud.scheme() == scheme) else {
            // What is before "://" is repeated only where it can be a scheme.
            let is_scheme =
                scheme.len() < 20 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            return Err(if is_scheme { AddressError::Scheme(scheme.to_owned()) } else { AddressError::Credentials });
        };
        if rest.contains(['@', '?', '#']) {
            return Err(AddressError::Credentials);
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(AddressError::NoBucket(cloud.scheme()));
        }
        let in_bucket = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
        if let Some(bad) = bucket.chars().find(|c| !in_bucket(*c)) {
            return Err(AddressError::Character(bad));
        }
        if let Some(bad) = prefix.chars().find(|c| c.is_control()) {
            return Err(AddressError::Character(bad));
        }
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| [".", ".."].contains(part)) {
            return Err(AddressError::Character('.'));
        }
        Ok(Address::Bucket { cloud, bucket: bucket.to_owned(), prefix: parts.join("/") })
    }
}

fn folder(text: &str) -> Result<Address, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    match text.chars().find(|c| c.is_control()) {
        Some(bad) => Err(AddressError::Character(bad)),
        None => Ok(Address::Folder(text.into())),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Folder(path) => path.display().fmt(f),
            Address::Bucket { cloud, bucket, prefix } if prefix.is_empty() => {
                write!(f, "{}://{bucket}", cloud.scheme())
            }
            Address::Bucket { cloud, bucket, prefix } => write!(f, "{}://{bucket}/{prefix}", cloud.scheme()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_was_written() {
        for text in ["snapshots", "/var/lib/rota/snapshots", "s3://jobs", "gs://jobs/a/b", "azblob://jobs/a"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let same = [("file:///a/b", "/a/b"), ("s3://jobs/", "s3://jobs"), ("s3://jobs//a//b/", "s3://jobs/a/b")];
        for (text, shown) in same {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        let below = |text: &str| text.parse::<Address>().unwrap().below("x");
        assert_eq!(below("s3://jobs").to_string(), "s3://jobs/x");
        assert_eq!(below("s3://jobs/a").to_string(), "s3://jobs/a/x");
        assert_eq!(below("a").to_string(), "a/x");
        assert_eq!(below("gs://jobs/a").last(), "x");
    }

    #[test]
    fn what_is_none_is_refused_and_no_secret_is_repeated() {
        let refused = |text: &str| text.parse::<Address>().expect_err(text).to_string();
        assert!(refused("").starts_with("it is empty"));
        assert!(refused("ftp://host/x").starts_with("\"ftp\" is no kind of place"));
        assert!(refused("s3:///x").starts_with("s3:// names no bucket"));
        assert!(refused("s3://a b/x").starts_with("' ' can't be"));
        assert!(refused("s3://jobs/../x").starts_with("'.' can't be"));
        assert!(refused("a\nb").starts_with("'\\n' can't be"));
        assert!(refused("file://host/x").starts_with("a file address"));
        for text in ["s3://KEY:SECRET@jobs/x", "azblob://jobs/x?sig=SECRET", "SECRET@x://y", "gs://jobs#SECRET"] {
            assert!(!refused(text).contains("SECRET"), "{}", refused(text));
        }
    }
}
