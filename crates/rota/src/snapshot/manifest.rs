//! The manifest of a snapshot: what belongs to it, and by which checksum to know it. It is put last.
//!
//! It is JSON for people and other tools, written so that its own checksum can be checked without a parser: see
//! `docs/snapshots.md`. Nothing here does I/O. Whatever is not right in a manifest is a [`ManifestError`].

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use rota_engine::job::JobState;
use rota_engine::storage::segment_file_name;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::in_turns;

/// Its name among the objects of a snapshot.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The version of the format that is written, and the newest that is read.
pub(crate) const FORMAT_VERSION: u64 = 1;

/// The newest version of the log that is read, and the one that is written.
const LOG_VERSION: u16 = rota_engine::log::FORMAT_VERSION;

/// The longest manifest that is read, in bytes: two hundred thousand segments.
pub(crate) const MANIFEST_BYTES: u64 = 32 << 20;

/// What the line with the checksum begins with, in every version.
const CHECKSUM: &str = "\n  \"sha256_above\": \"";

/// What a snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The snapshot's name when it was taken.
    pub(crate) name: String,
    /// The version of the server that took it.
    pub(crate) rota: String,
    /// When it was begun.
    pub(crate) begun_at: Timestamp,
    /// The moment whose state it holds.
    pub(crate) taken_at: Timestamp,
    /// The store id in its segments, in hexadecimal.
    pub(crate) store: String,
    /// Records in its segments.
    pub(crate) records: u64,
    /// Jobs by state, in the order of [`JobState::ALL`].
    pub(crate) jobs: [u64; JobState::ALL.len()],
    /// Queues that had jobs or settings.
    pub(crate) queues: u64,
    /// The segments, from the first on.
    pub(crate) segments: Vec<Segment>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub(crate) sha256: String,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ManifestError {
    /// It is somebody else's.
    #[error("it is no manifest of a snapshot of Rota")]
    Foreign,
    /// It is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A newer server wrote it.
    #[error("it is in format version {0}, and this version of rota reads up to {FORMAT_VERSION}")]
    NewerVersion(u64),
    /// A newer server wrote what it is the manifest of.
    #[error("the log in it is in format version {0}, and this version of rota reads up to {LOG_VERSION}")]
    NewerLog(u64),
}

impl Manifest {
    /// All jobs in it.
    pub(crate) fn all_jobs(&self) -> u64 {
        self.jobs.iter().sum()
    }

    /// Length of all its segments, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// What it says, for people's eyes and programs': all but the list of segments.
    pub(crate) fn summary(&self) -> Map<String, Value> {
        let jobs: Map<String, Value> =
            JobState::ALL.iter().zip(self.jobs).map(|(state, count)| (state.name().to_owned(), count.into())).collect();
        let object = json!({
            "format": "rota-snapshot",
            "version": FORMAT_VERSION,
            "name": self.name,
            "rota": self.rota,
            "begun_at": self.begun_at.to_string(),
            "taken_at": self.taken_at.to_string(),
            "store": self.store,
            "log_version": LOG_VERSION,
            "records": self.records,
            "jobs": jobs,
            "queues": self.queues,
        });
        match object {
            Value::Object(map) => map,
            _ => unreachable!("it was written as an object"),
        }
    }

    /// The bytes of `manifest.json`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut object = self.summary();
        let segments = self.segments.iter().zip(1..).map(|(segment, number)| {
            json!({ "name": segment_file_name(number), "bytes": segment.bytes, "sha256": segment.sha256 })
        });
        object.insert("segments".to_owned(), segments.collect());
        let text = format!("{:#}", Value::Object(object));
        let open = text.strip_suffix("\n}").expect("an object ends so");
        let above = format!("{open},\n");
        let checksum = sha256_hex(above.as_bytes());
        let begin = CHECKSUM.trim_start_matches('\n');
        format!("{above}{begin}{checksum}\"\n}}\n").into_bytes()
    }

    /// Reads the bytes of `manifest.json`.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let damaged = ManifestError::Damaged;
        let object: Result<Value, _> = serde_json::from_slice(bytes);
        if let Ok(object) = &object
            && object["format"] != "rota-snapshot"
        {
            return Err(ManifestError::Foreign);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
        let at = text.rfind(CHECKSUM).ok_or(damaged("it does not end with its checksum"))? + 1;
        let (above, line) = text.split_at(at);
        let checksum = line.get(CHECKSUM.len() - 1..).and_then(|rest| rest.strip_suffix("\"\n}\n"));
        if checksum != Some(sha256_hex(above.as_bytes()).as_str()) {
            return Err(damaged("its checksum is not the one at its end"));
        }
        let object = object.map_err(|_| damaged("it is no JSON"))?;
        // Only one whose checksum is right is believed to be a newer one.
        match object["version"].as_u64() {
            Some(FORMAT_VERSION) => {}
            Some(newer) if newer > FORMAT_VERSION => return Err(ManifestError::NewerVersion(newer)),
            _ => return Err(damaged("it has no version")),
        }
        match object["log_version"].as_u64() {
            Some(version) if version <= u64::from(LOG_VERSION) => {}
            Some(newer) => return Err(ManifestError::NewerLog(newer)),
            None => return Err(damaged("it does not say in which version the log is")),
        }
        read(&object).ok_or(damaged("a field is missing or wrong"))
    }
}

fn read(object: &Value) -> Option<Manifest> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut jobs = [0; JobState::ALL.len()];
    for (count, state) in jobs.iter_mut().zip(JobState::ALL) {
        // Those of before there were more states than four say nothing of the others.
        let said = object["jobs"].get(state.name());
        *count = said.map_or(Some(0), Value::as_u64)?;
    }
    let mut segments = Vec::new();
    for (segment, number) in object["segments"].as_array()?.iter().zip(1..) {
        // The names say nothing that is not known: so they cannot lead anywhere else.
        if segment["name"].as_str()? != segment_file_name(number) {
            return None;
        }
        segments.push(Segment { bytes: segment["bytes"].as_u64()?, sha256: text(&segment["sha256"])? });
    }
    Some(Manifest {
        name: text(&object["name"])?,
        rota: text(&object["rota"])?,
        begun_at: object["begun_at"].as_str()?.parse().ok()?,
        taken_at: object["taken_at"].as_str()?.parse().ok()?,
        store: text(&object["store"])?,
        records: object["records"].as_u64()?,
        jobs,
        queues: object["queues"].as_u64()?,
        segments: Some(segments).filter(|segments| !segments.is_empty())?,
    })
}

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut context = Context::new(&SHA256);
    in_turns(bytes).for_each(|piece| context.update(piece));
    context.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all that is written");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            name: "20261125T013000.123Z-0badcafe".into(),
            rota: "0.1.0".into(),
            begun_at: "2026-11-25T01:30:00.123Z".parse().unwrap(),
            taken_at: "2026-11-25T01:30:01.5Z".parse().unwrap(),
            store: "000102030405060708090a0b0c0d0e0f".into(),
            records: 7,
            jobs: [1, 2, 3, 4, 5, 6, 7, 8],
            queues: 2,
            segments: vec![
                Segment { bytes: 100, sha256: sha256_hex(b"one") },
                Segment { bytes: 200, sha256: sha256_hex(b"two") },
            ],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!((manifest().all_jobs(), manifest().bytes()), (36, 300));
    }

    #[test]
    fn no_bit_of_it_can_change_unnoticed() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(Manifest::decode(&changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut to {at} bytes");
        }
    }

    #[test]
    fn what_is_newer_or_foreign_is_told_from_damage() {
        let text = String::from_utf8(manifest().encode()).unwrap();
        let (above, _) = text.rsplit_once("  \"sha256_above\"").unwrap();
        let with_checksum =
            |above: &str| format!("{above}  \"sha256_above\": \"{}\"\n}}\n", sha256_hex(above.as_bytes())).into_bytes();
        let newer = above.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(Manifest::decode(&with_checksum(&newer)), Err(ManifestError::NewerVersion(2)));
        let newer = above.replace("\"log_version\": 1", "\"log_version\": 2");
        assert_eq!(Manifest::decode(&with_checksum(&newer)), Err(ManifestError::NewerLog(2)));
        assert_eq!(Manifest::decode(b"{\"schemaVersion\": 2}"), Err(ManifestError::Foreign));
        assert_eq!(Manifest::decode(b"[]"), Err(ManifestError::Foreign));
        let elsewhere = above.replace("00000000000000000002.seg", "../../00000000000002.seg");
        assert!(matches!(Manifest::decode(&with_checksum(&elsewhere)), Err(ManifestError::Damaged(_))));
        assert!(matches!(Manifest::decode(b""), Err(ManifestError::Damaged(_))));
    }
}
