//! `certeus log ls`: every file of the log's directory, and what it is; opened for reading only.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::segment::{self, header_of, path_of};
use super::{Error, Result};
use crate::format::SEGMENT_HEADER_BYTES;
use crate::inode;
use crate::log::sidecar::{self, Sidecar};

/// What a file with a segment's name is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Complete: a later segment goes on behind it.
    Sealed,
    /// The newest one: the log ends in it.
    Active,
    /// Zeros ahead, for the next segment.
    Spare,
    /// Its header cannot be read.
    Damaged,
    /// Gone, as it should: its sidecar keeps the ids that the dedup window still needs.
    Trimmed,
}

impl State {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Active => "active",
            Self::Spare => "spare",
            Self::Damaged => "damaged",
            Self::Trimmed => "trimmed",
        }
    }
}

/// What a start would make of the sidecar.
#[derive(Clone, Debug)]
pub enum Keys {
    None,
    Whole(Box<Sidecar>),
    Damaged,
}

impl Keys {
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Whole(_) => "whole",
            Self::Damaged => "damaged",
        }
    }
}

/// One number of the log's directory.
pub struct Listed {
    pub segment_no: u64,
    pub state: State,
    /// Of the segment's file; 0 for a trimmed one.
    pub file_bytes: u64,
    pub sidecar_bytes: u64,
    pub sidecar: Keys,
}

/// Reads a sidecar without the right to write it.
pub fn sidecar_of(dir: &Path, segment_no: u64) -> Result<(Keys, u64)> {
    let path = dir.join(sidecar::name(segment_no));
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Keys::None, 0)),
        // A sector that cannot be read is damage.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            return Ok((Keys::Damaged, 0));
        }
        Err(source) => return Err(Error::Io { doing: "read", path, source }),
        Ok(_) => {}
    }
    let length = bytes.len() as u64;
    let whole = Sidecar::decode(&bytes).filter(|found| found.segment_no == segment_no);
    Ok((whole.map_or(Keys::Damaged, |found| Keys::Whole(Box::new(found))), length))
}

/// Every number that has a segment or a sidecar, ascending.
pub fn list(dir: &Path) -> Result<Vec<Listed>> {
    let numbers = segment::numbers(dir)?;
    let mut all: Vec<u64> = segment::numbers_of(dir, ".keys")?;
    all.extend(&numbers);
    all.sort_unstable();
    all.dedup();
    let mut listed = Vec::new();
    for segment_no in all {
        let (sidecar, sidecar_bytes) = sidecar_of(dir, segment_no)?;
        let (state, file_bytes) = state_of(dir, segment_no)?;
        if state == State::Trimmed && matches!(sidecar, Keys::None) {
            // Both went while we looked.
            continue;
        }
        listed.push(Listed { segment_no, state, file_bytes, sidecar_bytes, sidecar });
    }
    let newest = listed.iter().rposition(|one| one.state == State::Sealed);
    if let Some(newest) = newest {
        listed[newest].state = State::Active;
    }
    Ok(listed)
}

fn state_of(dir: &Path, segment_no: u64) -> Result<(State, u64)> {
    let path = path_of(dir, segment_no);
    let mut head = Vec::new();
    let read = File::open(&path).and_then(|file| {
        let bytes = inode::bytes(&file)?;
        file.take(SEGMENT_HEADER_BYTES).read_to_end(&mut head)?;
        Ok(bytes)
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((State::Trimmed, 0)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            return Ok((State::Damaged, 0));
        }
        Err(source) => return Err(Error::Io { doing: "read", path, source }),
    };
    let state = match header_of(dir, segment_no)? {
        Some(_) => State::Sealed,
        None if head.iter().all(|byte| *byte == 0) => State::Spare,
        None => State::Damaged,
    };
    Ok((state, bytes))
}
