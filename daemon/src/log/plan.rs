//! What a start would do to the log, without doing it: recovery on a disk that forgets every write.
//!
//! A recovery never reads back what it wrote. So the very same code, on a disk that notes the name
//! of what it is asked to change and changes nothing, tells the decisions that a start would take,
//! and each file that it would touch.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::progress::Progress;
use super::recovery::{Recovered, Settings, recover};
use crate::board::Page;
use crate::disk::{Disk, DiskFile};
use crate::inode;

/// One change that a start would make; the names are those of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Write(PathBuf),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

type Changes = Arc<Mutex<Vec<Change>>>;

/// Reads the machine's files; what it is asked to change it only notes.
#[derive(Default)]
struct LookDisk {
    changes: Changes,
}

impl LookDisk {
    fn note(&self, change: Change) {
        let mut changes = self.changes.lock().expect("nobody panics with the lock");
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
}

/// `None`: made by us, and never there.
struct LookFile(Option<File>);

impl Disk for LookDisk {
    type File = LookFile;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        names.map(|name| name.map(|name| name.to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<LookFile> {
        if create {
            self.note(Change::Write(path.to_path_buf()));
            return Ok(LookFile(None));
        }
        Ok(LookFile(Some(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let beside = Change::Write(from.to_path_buf());
        let mut changes = self.changes.lock().expect("nobody panics with the lock");
        match changes.iter().position(|change| *change == beside) {
            // Written beside and renamed: what counts is the name that it ends with.
            Some(at) => changes[at] = Change::Write(to.to_path_buf()),
            None => changes.push(Change::Rename(from.to_path_buf(), to.to_path_buf())),
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.note(Change::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<(u64, u64)> {
        Ok((u64::MAX, u64::MAX))
    }
}

impl DiskFile for LookFile {
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.0 else { return Ok(0) };
        let wanted = out.len();
        while !out.is_empty() {
            let read = file.read_at(out, offset)?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            out = &mut out[read..];
        }
        Ok(wanted - out.len())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.0.as_ref().map_or(Ok(0), |file| Ok(inode::bytes(file)?))
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// Recovers the log in `dir` without a single change to it; `page` is of no daemon's board.
///
/// Errors: what the disk refuses, as at a start.
pub fn plan(dir: &Path, settings: &Settings, page: Page) -> io::Result<(Recovered, Vec<Change>)> {
    let disk = LookDisk::default();
    let found = recover(&disk, dir, settings, &Progress::new(page))?;
    let changes = disk.changes.lock().expect("nobody panics with the lock").clone();
    Ok((found, changes))
}
