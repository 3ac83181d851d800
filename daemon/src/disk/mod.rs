//! The file system, as the log sees it: one small interface, so that tests can cut the power.
//!
//! [`RealDisk`] is the machine's. `sim` (tests) keeps what is not synced apart from what is, and
//! can lose any of it. `named` lets the process die on either side of any call.

use std::io::{self, IoSlice};
use std::path::Path;

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

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
    /// Writes all of `parts`, one behind the other.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
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

pub struct RealFile(std::fs::File);

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
        Ok(RealFile(retry_on_intr(|| fs::open(path, flags, mode))?.into()))
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

impl DiskFile for RealFile {
    fn read_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<usize> {
        let wanted = out.len();
        while !out.is_empty() {
            let read = retry_on_intr(|| rustix::io::pread(&self.0, &mut *out, offset))?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            out = &mut out[read..];
        }
        Ok(wanted - out.len())
    }

    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = retry_on_intr(|| rustix::io::pwritev(&self.0, rest, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // Interrupted is not failed: no page lost its dirty mark, and the next call waits for all.
        Ok(retry_on_intr(|| fs::fdatasync(&self.0))?)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(fs::fstat(&self.0)?.st_nlink > 0)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
