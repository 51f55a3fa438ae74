//! Snapshots that are not as they were written: every one is refused, by name, and nothing is begun from it.

use std::path::{Path, PathBuf};

use fastrand::Rng;
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use super::{command, folders, put_all, serve, take};
use crate::process::Rota;
use crate::wire::Wire;

/// A snapshot of two segments.
fn snapshot(data: &Path) -> PathBuf {
    let rota = Rota::ready(serve(data, &["--sync", "never"]));
    let jobs: Vec<_> = (0..420u32).map(|n| ("put 0 0 60".to_owned(), vec![n as u8; 50_000])).collect();
    put_all(&mut Wire::to(rota.address()), &jobs);
    let address = take(&rota)["address"].as_str().unwrap().to_owned();
    assert_eq!(folders(Path::new(&address)).len(), 3, "two segments and a manifest");
    address.into()
}

/// What the server says to a restore, which it must refuse; the data directory is then as good as new.
#[track_caller]
fn refused(snapshot: &Path) -> String {
    let fresh = TempDir::new().unwrap();
    let address = snapshot.to_str().unwrap();
    for mode in ["durable", "memory"] {
        let (code, out, err) = Rota::ended(serve(fresh.path(), &["--storage", mode, "--restore", address]));
        assert!(code == 1 || code == 3, "{code}: {out}{err}");
        assert!(!out.contains("ready"), "{out}");
        let log = folders(&fresh.path().join("log"));
        assert!(log.is_empty() && !fresh.path().join("store").exists(), "{log:?}");
        assert!(!fresh.path().join("restore").exists(), "a start without a restore would be refused");
    }
    let shown = command(&["inspect", address]).output().unwrap();
    assert!(!shown.status.success());
    String::from_utf8(shown.stderr).unwrap()
}

/// Replaces a file's bytes, looks, and puts them back.
#[track_caller]
fn changed(snapshot: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let path = snapshot.join(file);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let said = refused(snapshot);
    std::fs::write(&path, whole).unwrap();
    assert!(said.contains(file), "{file} is not named: {said}");
    said
}

#[test]
fn each_object_damaged_in_each_way_is_refused_by_name() {
    let data = TempDir::new().unwrap();
    let snapshot = snapshot(data.path());
    let mut rng = Rng::with_seed(20_261_125);
    let (first, second) = ("00000000000000000001.seg", "00000000000000000002.seg");
    for file in [first, second] {
        let said = changed(&snapshot, file, |bytes| {
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
        });
        assert!(said.contains("the snapshot is damaged: the SHA-256 of"), "{said}");
        assert!(said.contains("hint: nothing was changed: name another snapshot"), "{said}");
        let said = changed(&snapshot, file, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(said.contains("bytes long, and was"), "{said}");
        let said = changed(&snapshot, file, |bytes| bytes.push(0));
        assert!(said.contains("bytes long, and was"), "{said}");
        // Missing.
        let (path, away) = (snapshot.join(file), data.path().join("away"));
        std::fs::rename(&path, &away).unwrap();
        let said = refused(&snapshot);
        assert!(said.contains(&format!("the snapshot is not whole: {} is missing", path.display())), "{said}");
        std::fs::rename(&away, &path).unwrap();
    }
    let said = changed(&snapshot, "manifest.json", |bytes| {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1;
    });
    assert!(said.contains("cannot use the manifest"), "{said}");
    changed(&snapshot, "manifest.json", |bytes| bytes.truncate(bytes.len() / 2));
    changed(&snapshot, "manifest.json", Vec::clear);
    let said = changed(&snapshot, "manifest.json", |bytes| *bytes = b"{\"schemaVersion\": 2}".to_vec());
    assert!(said.contains("it is no manifest of a snapshot of Rota"), "{said}");
    let said = changed(&snapshot, "manifest.json", |bytes| {
        // As a newer server would write it: the checksum at its end is right.
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (above, _) = text.rsplit_once("  \"sha256_above\"").unwrap();
        let above = above.replace("\"version\": 1,", "\"version\": 2,");
        let sum: String = digest(&SHA256, above.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        *bytes = format!("{above}  \"sha256_above\": \"{sum}\"\n}}\n").into_bytes();
    });
    assert!(said.contains("format version 2, and this version of rota reads up to 1"), "{said}");
    assert!(said.contains("hint: start the newer version of rota"), "{said}");
    let manifest = snapshot.join("manifest.json");
    let away = data.path().join("away");
    std::fs::rename(&manifest, &away).unwrap();
    assert!(refused(&snapshot).contains("is an unfinished snapshot: it has no manifest"));
    std::fs::rename(&away, &manifest).unwrap();

    // And it is whole again.
    let fresh = TempDir::new().unwrap();
    Rota::ready(serve(fresh.path(), &["--restore", snapshot.to_str().unwrap()]));
}

#[test]
fn a_damaged_newest_one_is_not_passed_over_for_an_older_one() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    take(&rota);
    let newest = take(&rota)["address"].as_str().unwrap().to_owned();
    drop(rota);
    std::fs::write(Path::new(&newest).join("manifest.json"), "{}").unwrap();
    let fresh = TempDir::new().unwrap();
    let place = data.path().join("snapshots");
    let (code, _, err) = Rota::ended(serve(fresh.path(), &["--restore", place.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(err.contains(&newest) && err.contains("name another snapshot"), "{err}");
    let listed = command(&["inspect", place.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("unusable: cannot use the manifest"), "{listed:?}");
}
