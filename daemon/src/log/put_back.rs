//! The segment being written was deleted: what it holds is in the open file alone, and is saved.
//!
//! A sync goes on to say that all is well, and everything acknowledged would be gone with the
//! process. So the writer looks each time before it gathers, puts the segment back under its name,
//! whole and synced, and ends: the next life finds all of it, and status tells what happened.

use std::io;

use super::LogWriter;
use super::recovery::segment_name;
use crate::disk::{Disk, DiskFile};

const CHUNK_BYTES: u64 = 1 << 20;
/// None of the names that a start or the helper uses.
const BESIDE: &str = "put-back";

impl<D: Disk> LogWriter<D> {
    /// Errors: the segment was deleted; it is back, unless the error says that it could not be.
    pub(super) fn look_for_segment(&self) -> io::Result<()> {
        if self.current.file.is_named()? {
            return Ok(());
        }
        let name = segment_name(self.current.segment_no);
        let told = |what: String| io::Error::other(format!("{name} was deleted under us{what}"));
        self.put_back(&name).map_err(|error| told(format!(" and cannot be put back: {error}")))?;
        Err(told(": it was put back, whole; find out who deletes files of the log".into()))
    }

    fn put_back(&self, name: &str) -> io::Result<()> {
        let (disk, dir) = (self.keeper.disk(), self.keeper.dir());
        // A segment without its first group holds nothing, and its header is still to be written.
        let end = if self.current.header.is_some() { 0 } else { self.current.offset };
        let copy = disk.open(&dir.join(BESIDE), true)?;
        copy.truncate(0)?;
        let mut at = 0;
        while at < end {
            let mut chunk = vec![0; CHUNK_BYTES.min(end - at) as usize];
            let read = self.current.file.read_at(at, &mut chunk)?;
            if read < chunk.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            copy.write_at(at, &chunk)?;
            at += read as u64;
        }
        copy.truncate(self.current.bytes)?;
        copy.sync()?;
        disk.rename(&dir.join(BESIDE), &dir.join(name))?;
        disk.sync_dir(dir)
    }
}
