//! What the inode of an open file says, without its times.
//!
//! Whoever asks Linux (6.13 on) for a file's times has it note finer ones at the next write, and so
//! the next `fdatasync` write the inode, too: a third access to the disk where a group needs two.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::{Result, retry_on_intr};

const ITSELF: &CStr = c"";

/// The file's length in bytes.
pub fn bytes(file: impl AsFd) -> Result<u64> {
    Ok(ask(file, StatxFlags::SIZE)?.stx_size)
}

/// How many names it has in its file system.
pub fn names(file: impl AsFd) -> Result<u32> {
    Ok(ask(file, StatxFlags::NLINK)?.stx_nlink)
}

fn ask(file: impl AsFd, what: StatxFlags) -> Result<Statx> {
    retry_on_intr(|| statx(&file, ITSELF, AtFlags::EMPTY_PATH, what))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn length_and_names_of_a_file() {
        let dir = std::env::temp_dir().join(format!("certeus-inode-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("one");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"seven b").unwrap();
        assert_eq!((bytes(&file).unwrap(), names(&file).unwrap()), (7, 1));

        std::fs::hard_link(&path, dir.join("two")).unwrap();
        assert_eq!(names(&file).unwrap(), 2);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((bytes(&file).unwrap(), names(&file).unwrap()), (7, 0));
    }
}
