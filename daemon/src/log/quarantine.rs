//! Copies of what a start could not read, for a human to look at.
//!
//! What is copied stays unchanged in its place until the segment goes, so a copy that cannot be
//! made (no room, no permission) stops nothing: the log matters more than the copy. It is told, and
//! then the segment is not cut behind its end either, since what stands there is nowhere else.

use std::io;
use std::path::{Path, PathBuf};

use super::walk::read_what_is_left;
use crate::disk::{Disk, DiskFile};

const CHUNK_BYTES: u64 = 1024 * 1024;

/// Damaged bytes, and the numbers that stood in them; 0, 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub segment_no: u64,
    pub offset: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
}

impl Range {
    /// The same for the same finding, so that a start which dies and does it again doubles nothing.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { segment_no, offset, first_seq, last_seq, .. } = self;
        match last_seq {
            0 => format!("{segment_no:020}-at-{offset}.bin"),
            _ => format!("{segment_no:020}-at-{offset}-seq-{first_seq}-{last_seq}.bin"),
        }
    }
}

/// A copy that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub path: PathBuf,
    pub cause: String,
}

/// Copies the range into `dir`, synced with its name.
pub fn copy<D: Disk>(
    disk: &D,
    dir: &Path,
    file: &D::File,
    range: &Range,
) -> std::result::Result<(), Failure> {
    let path = dir.join(range.name());
    copy_to(disk, dir, &path, file, range)
        .map_err(|error| Failure { path, cause: error.to_string() })
}

fn copy_to<D: Disk>(
    disk: &D,
    dir: &Path,
    path: &Path,
    file: &D::File,
    range: &Range,
) -> io::Result<()> {
    let aside = disk.open(path, true)?;
    let end = range.offset.saturating_add(range.bytes).min(file.bytes()?);
    let mut at = range.offset;
    while at < end {
        let count = (end - at).min(CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(count).expect("a chunk")];
        // A sector that cannot be read is zeros in the copy.
        read_what_is_left(file, at, &mut chunk)?;
        aside.write_at(at - range.offset, &chunk)?;
        at += count;
    }
    aside.truncate(end.saturating_sub(range.offset))?;
    aside.sync()?;
    disk.sync_dir(dir)
}
