//! How far a start is, on the board: `certeus status` shows it while it lasts.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::board::{Page, log as word};

/// What a start is doing; 0 on the board is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Headers of all segments.
    Looking = 1,
    /// Sidecars, and the groups of what has none.
    Reading = 2,
    /// The segment of this life is made and synced.
    Opening = 3,
}

/// Writes the words of the board that tell it.
pub struct Progress {
    page: Page,
}

impl Progress {
    #[must_use]
    pub fn new(page: Page) -> Self {
        for index in [
            word::RECOVERY_SEGMENTS,
            word::RECOVERY_SEGMENTS_DONE,
            word::RECOVERY_BYTES,
            word::RECOVERY_BYTES_DONE,
        ] {
            page.set(index, 0);
        }
        Self { page }
    }

    pub fn phase(&self, phase: Phase) {
        self.page.set(word::RECOVERY_PHASE, phase as u64);
    }

    /// What the phase `Reading` has before it.
    pub fn expect(&self, segments: u64, bytes: u64) {
        self.page.set(word::RECOVERY_SEGMENTS, segments);
        self.page.set(word::RECOVERY_BYTES, bytes);
    }

    pub fn segment(&self) {
        self.page.add(word::RECOVERY_SEGMENTS_DONE, 1);
    }

    pub fn bytes(&self, bytes: u64) {
        self.page.add(word::RECOVERY_BYTES_DONE, bytes);
    }

    pub fn done(&self) {
        self.page.set(word::RECOVERY_PHASE, 0);
    }
}

/// Something in the way of a start that only a human can move: trying again changes nothing, and
/// neither does another process. Nothing was published, and nothing in the log was changed.
#[derive(Debug)]
pub struct Obstacle {
    pub path: PathBuf,
    pub cause: io::Error,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot use {}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for Obstacle {}

/// The log that was served is not in its directory. Nothing was begun in its place.
#[derive(Debug)]
pub struct Missing {
    pub dir: PathBuf,
    /// What is there instead.
    pub is: Option<[u8; 16]>,
    pub served: [u8; 16],
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "log {} is not in {}: ", dashed(self.served), self.dir.display())?;
        match self.is {
            None => write!(out, "there is none"),
            Some(uuid) => write!(out, "there is log {}", dashed(uuid)),
        }
    }
}

/// A UUID as everybody writes it.
fn dashed(uuid: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(uuid));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl std::error::Error for Missing {}

/// Names the file in an error that only a human can mend; others stay as they are.
pub fn naming(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_path_buf();
    move |cause| {
        use io::ErrorKind as Kind;
        let in_the_way = matches!(
            cause.kind(),
            Kind::PermissionDenied
                | Kind::IsADirectory
                | Kind::NotADirectory
                | Kind::DirectoryNotEmpty
                | Kind::NotFound
                | Kind::NotSeekable
        ) || cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if in_the_way { io::Error::new(cause.kind(), Obstacle { path, cause }) } else { cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_human_can_mend_names_its_file_and_what_the_disk_does_stays_as_it_is() {
        let path = Path::new("/log/5.log");
        let errors = [13, 20, 21, 40].map(io::Error::from_raw_os_error);
        for error in errors {
            let text = naming(path)(error).to_string();
            assert!(text.starts_with("cannot use /log/5.log: "), "{text}");
        }
        for number in [5, 28, 30] {
            let error = naming(path)(io::Error::from_raw_os_error(number));
            assert_eq!(error.raw_os_error(), Some(number), "EIO, ENOSPC, EROFS are the disk's");
        }
    }
}
