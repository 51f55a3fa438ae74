//! Reads bodies that are in the log alone, when their jobs are handed out.
//!
//! A connection calls [`Bodies::fill`] when its answers may leave; it holds a [`super::Pin`] meanwhile, so that the
//! segments stay. What the kernel has in its cache is read at once. What it would have to wait for is read by another
//! thread: a slow disk keeps those waiting who asked for what is on it, and nobody else. No body leaves whose checksum
//! is wrong.

use super::Pins;
use crate::beanstalkd::Hole;
use rota_engine::command::BodyPlace;
use rota_engine::log::{BodyFault, LogError, RecordFault, body_in, body_record_bytes, most_body_record_bytes};
use rota_engine::storage::{DataDirectory, Handle, Handles, SegmentFile, Storage};
use std::io;
use std::sync::Arc;

/// How many segments are held open for reading. Past that the one read longest ago is closed.
pub const OPEN_SEGMENTS: usize = 64;

#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) directory: DataDirectory,
    /// Held by those who are about to read.
    pub(super) pins: Arc<Pins>,
    segments: Handles<DataDirectory>,
}

impl Bodies {
    pub(super) fn new(directory: DataDirectory, pins: Arc<Pins>) -> Bodies {
        let segments = Handles::new(directory.clone(), OPEN_SEGMENTS);
        Bodies { directory, pins, segments }
    }

    /// Puts the bodies where the holes are.
    pub(super) async fn fill(self: &Arc<Bodies>, out: &mut [u8], holes: Vec<Hole>) -> Result<(), LogError> {
        let mut record = Vec::new();
        let mut cold = Vec::new();
        for hole in holes {
            match self.read_cached(&hole.body, &mut record)? {
                Some(body) => out[hole.at..][..body.len()].copy_from_slice(body),
                None => cold.push(hole),
            }
        }
        if cold.is_empty() {
            return Ok(());
        }
        let (bodies, places) = (Arc::clone(self), cold.clone());
        let read = move || places.iter().map(|hole| bodies.read(&hole.body)).collect::<Result<Vec<_>, _>>();
        let read = tokio::task::spawn_blocking(read).await.expect("reading does not panic, nor is it called off");
        for (hole, body) in cold.iter().zip(read?) {
            out[hole.at..][..body.len()].copy_from_slice(&body);
        }
        Ok(())
    }

    /// The body, if no disk has to be waited for.
    fn read_cached<'r>(&self, place: &BodyPlace, record: &'r mut Vec<u8>) -> Result<Option<&'r [u8]>, LogError> {
        let file = self.segment(place)?;
        let most = body_record_bytes(place.body_bytes);
        record.resize(record.len().max(most), 0);
        let read = file.read_cached(place.record.offset, &mut record[..most]);
        let read = read.map_err(|error| self.failed("read", place, error))?;
        match body_in(&record[..read], place) {
            Ok(body) => Ok(Some(&record[body])),
            Err(BodyFault::Record(RecordFault::Short)) => Ok(None),
            Err(fault) => Err(self.damaged(place, fault)),
        }
    }

    /// The body, however long it takes.
    pub(super) fn read(&self, place: &BodyPlace) -> Result<Box<[u8]>, LogError> {
        let file = self.segment(place)?;
        // Few jobs have more to them than the first length has room for.
        let lengths = [body_record_bytes(place.body_bytes), most_body_record_bytes(place.body_bytes)];
        let mut fault = BodyFault::Record(RecordFault::Short);
        for length in lengths {
            let mut record = vec![0; length];
            let read = file.read_up_to(place.record.offset, &mut record);
            let read = read.map_err(|error| self.failed("read", place, error))?;
            match body_in(&record[..read], place) {
                Ok(body) => return Ok(record[body].into()),
                Err(BodyFault::Record(RecordFault::Short)) => {}
                Err(other) => {
                    fault = other;
                    break;
                }
            }
        }
        Err(self.damaged(place, fault))
    }

    fn segment(&self, place: &BodyPlace) -> Result<SegmentFile, LogError> {
        let opened = self.segments.get(Handle::Segment(place.record.segment));
        opened.map_err(|error| self.failed("open", place, error))
    }

    /// Closes a segment that was removed: its room on the disk is free only then.
    pub(super) fn close(&self, segment: u64) {
        self.segments.close(segment);
    }

    fn failed(&self, doing: &'static str, place: &BodyPlace, source: io::Error) -> LogError {
        LogError::Io { doing, path: Storage::path(&self.directory, place.record.segment), source }
    }

    fn damaged(&self, place: &BodyPlace, source: BodyFault) -> LogError {
        let path = Storage::path(&self.directory, place.record.segment);
        LogError::Body { path, offset: place.record.offset, job: place.job, source }
    }
}
