//! The file system, as the log sees it: one small interface, so that tests can cut the power.
//!
//! [`RealDisk`] is the machine's. `sim` (tests) keeps what is not synced apart from what is, and
//! can lose any of it. `named` lets the process die on either side of any call.
//!
//! What is written in whole pages, out of whole pages, goes past the kernel's cache, where the file
//! system can: segments are zero-filled once, written once and read once, and a page of the cache
//! for each of these costs more than the write itself (bench/README.md has the figures).

use std::io;
use std::path::Path;

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::direct::Direct;
use crate::inode;
use crate::pages::is_aligned;

pub mod named;
#[cfg(test)]
pub mod sim;
#[cfg(test)]
mod tests;

/// A directory's operations. Everything blocks; nothing is retried but what a signal interrupted.
pub trait Disk: Send + Sync + 'static {
    type File: DiskFile;

    /// Names in `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens for reading and writing; `create` makes it when it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Self::File>;
    /// Replaces `to` if it is there; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes of the file system: all, and free to an ordinary user.
    fn space(&self, dir: &Path) -> io::Result<(u64, u64)>;
    /// Whether one thread has to do all of a log's work, so that its calls come in one order.
    fn is_stepped(&self) -> bool {
        false
    }
}

/// An open file. Dropping it closes it and gives its locks back.
pub trait DiskFile: Send + 'static {
    /// Reads up to `out.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// `fdatasync`. After an error nothing is known of what was written since the last one.
    fn sync(&self) -> io::Result<()>;
    fn bytes(&self) -> io::Result<u64>;
    /// Whether a directory still has it: a file that was deleted lives for as long as it is open.
    fn is_named(&self) -> io::Result<bool>;
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// An advisory exclusive lock for as long as the file is open. False: somebody holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// The machine's file system.
pub struct RealDisk;

pub struct RealFile {
    file: std::fs::File,
    direct: Direct,
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        names.map(|name| name.map(|name| name.to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<RealFile> {
        let create = if create { OFlags::CREATE } else { OFlags::empty() };
        // A link in the log's directory is somebody's doing: a rename would replace the link.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | create;
        let mode = Mode::from_raw_mode(0o640);
        Ok(RealFile::new(retry_on_intr(|| fs::open(path, flags, mode))?.into()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::rename(from, to))?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::unlink(path))?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<(u64, u64)> {
        let all = retry_on_intr(|| fs::statvfs(dir))?;
        Ok((all.f_blocks * all.f_frsize, all.f_bavail * all.f_frsize))
    }
}

impl RealFile {
    fn new(file: std::fs::File) -> Self {
        Self { file, direct: Direct::default() }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<usize> {
        let wanted = out.len();
        while !out.is_empty() {
            self.direct.set(&self.file, false)?;
            let read = retry_on_intr(|| rustix::io::pread(&self.file, &mut *out, offset))?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            out = &mut out[read..];
        }
        Ok(wanted - out.len())
    }

    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.direct.set(&self.file, is_aligned(offset, bytes))?;
            match retry_on_intr(|| rustix::io::pwrite(&self.file, bytes, offset)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INVAL) if self.direct.give_up(&self.file)? => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // Interrupted is not failed: no page lost its dirty mark, and the next call waits for all.
        Ok(retry_on_intr(|| fs::fdatasync(&self.file))?)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(inode::bytes(&self.file)?)
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(inode::names(&self.file)? > 0)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
