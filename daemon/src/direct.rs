//! Direct I/O, where a file system has it: the kernel moves whole pages between our memory and the
//! disk by itself, past its cache.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

/// As `u8::from(true)`; 0 is off.
const ON: u8 = 1;
const NEVER: u8 = 2;

/// Whether what is read from and written to one open file goes past the cache.
#[derive(Default)]
pub struct Direct(AtomicU8);

impl Direct {
    /// Says what the next call wants. A file system that can do nothing else goes on through its
    /// cache.
    pub fn set(&self, file: &File, wanted: bool) -> io::Result<()> {
        let now = self.0.load(Ordering::Relaxed);
        if now == NEVER || now == u8::from(wanted) {
            return Ok(());
        }
        match fcntl_setfl(file, if wanted { OFlags::DIRECT } else { OFlags::empty() }) {
            Ok(()) => self.0.store(u8::from(wanted), Ordering::Relaxed),
            Err(Errno::INVAL) if wanted => self.0.store(NEVER, Ordering::Relaxed),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether a call that was refused as invalid should be made again: the disk's sectors are
    /// larger than our pages, or the file system finds out only now that it cannot.
    pub fn give_up(&self, file: &File) -> io::Result<bool> {
        let was_on = self.0.load(Ordering::Relaxed) == ON;
        if was_on {
            self.set(file, false)?;
            self.0.store(NEVER, Ordering::Relaxed);
        }
        Ok(was_on)
    }
}
