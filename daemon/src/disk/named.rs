//! A file system with a failpoint on both sides of each call, named by where the call comes from.
//!
//! ```text
//! log-<phase>-<role>-<call>-<before|after>
//!     │       │      └ the method of `Disk` or `DiskFile`
//!     │       └ what the file is, by its name: segment, spare, sidecar ...
//!     └ start: until the log is open; live: the thread that commits; keeper: the helper thread
//! ```
//!
//! So no call can be forgotten: one that is new has a name as soon as it is made, and a process in
//! which any failpoint is armed aborts when that name is not in [`PLACES`]. The crash test visits
//! every name that is.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Disk, DiskFile};
use crate::failpoint::{failpoint, is_armed};
use crate::log::keeper::THREAD_NAME;

/// Every call that the log makes: phase and role, then the methods.
///
/// What `put_back.rs` does is not here: a process that dies then takes the only copy with it.
pub const PLACES: [(&str, &[&str]); 13] = [
    ("start-lock", &["open", "try_lock", "read_at", "truncate", "write_at"]),
    ("start-dir", &["list", "space", "sync_dir"]),
    (
        "start-segment",
        &["open", "read_at", "bytes", "try_lock", "sync", "truncate", "rename", "unlink"],
    ),
    ("start-spare", &["open", "write_at", "truncate", "sync", "rename"]),
    (
        "start-sidecar",
        &["open", "read_at", "bytes", "write_at", "truncate", "sync", "rename", "unlink"],
    ),
    ("start-trim", &["open", "bytes", "read_at", "write_at", "truncate", "sync", "rename"]),
    ("start-quarantine", &["open", "write_at", "truncate", "sync", "sync_dir"]),
    ("live-segment", &["write_at", "sync", "bytes", "is_named"]),
    ("keeper-dir", &["space", "sync_dir"]),
    ("keeper-trim", &["open", "bytes", "read_at", "write_at", "sync"]),
    (
        "keeper-segment",
        &["open", "read_at", "bytes", "try_lock", "write_at", "sync", "rename", "unlink"],
    ),
    ("keeper-spare", &["open", "write_at", "truncate", "sync", "rename", "unlink"]),
    ("keeper-sidecar", &["open", "write_at", "truncate", "sync", "rename", "unlink"]),
];

/// The names of [`PLACES`], both sides of each.
#[must_use]
pub fn names() -> Vec<String> {
    let calls =
        PLACES.iter().flat_map(|(place, calls)| calls.iter().map(move |call| (place, call)));
    let sides =
        |(place, call)| ["before", "after"].map(|side| format!("log-{place}-{call}-{side}"));
    calls.flat_map(sides).collect()
}

pub struct NamedDisk<D: Disk> {
    inner: D,
    live: Arc<AtomicBool>,
}

pub struct NamedFile<F: DiskFile> {
    inner: F,
    role: &'static str,
    live: Arc<AtomicBool>,
}

impl<D: Disk> NamedDisk<D> {
    pub fn new(inner: D) -> Self {
        Self { inner, live: Arc::default() }
    }

    /// The log is open: what its own thread does from now on is no start any more.
    pub fn live(&self) {
        self.live.store(true, Ordering::Relaxed);
    }
}

/// What a file of the log is.
fn role_of(path: &Path) -> &'static str {
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    match &*name {
        "LOCK" => "lock",
        "next" => "spare",
        "trim" | "trim.new" => "trim",
        name if name.ends_with(".log") => "segment",
        name if name.ends_with(".keys") || name.ends_with(".keys.new") => "sidecar",
        name if name.ends_with(".bin") || name == "quarantine" => "quarantine",
        _ => "dir",
    }
}

/// One call, and the process may die on either side of it.
fn around<T>(live: &AtomicBool, role: &str, call: &str, act: impl FnOnce() -> T) -> T {
    if !is_armed() {
        return act();
    }
    let place = if std::thread::current().name() == Some(THREAD_NAME) {
        format!("log-keeper-{role}-{call}")
    } else if live.load(Ordering::Relaxed) {
        // The file was opened as a spare: it is the current segment now.
        format!("log-live-segment-{call}")
    } else {
        format!("log-start-{role}-{call}")
    };
    failpoint(&format!("{place}-before"));
    let result = act();
    failpoint(&format!("{place}-after"));
    result
}

impl<D: Disk> NamedDisk<D> {
    fn around<T>(&self, path: &Path, call: &str, act: impl FnOnce() -> T) -> T {
        if is_armed() { around(&self.live, role_of(path), call, act) } else { act() }
    }
}

impl<D: Disk> Disk for NamedDisk<D> {
    type File = NamedFile<D::File>;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.around(dir, "list", || self.inner.list(dir))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Self::File> {
        let inner = self.around(path, "open", || self.inner.open(path, create))?;
        Ok(NamedFile { inner, role: role_of(path), live: self.live.clone() })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.around(from, "rename", || self.inner.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.around(path, "unlink", || self.inner.unlink(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.around(dir, "sync_dir", || self.inner.sync_dir(dir))
    }

    fn space(&self, dir: &Path) -> io::Result<(u64, u64)> {
        self.around(dir, "space", || self.inner.space(dir))
    }

    fn is_stepped(&self) -> bool {
        self.inner.is_stepped()
    }
}

impl<F: DiskFile> NamedFile<F> {
    fn around<T>(&self, call: &str, act: impl FnOnce(&F) -> T) -> T {
        around(&self.live, self.role, call, || act(&self.inner))
    }
}

impl<F: DiskFile> DiskFile for NamedFile<F> {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.around("read_at", |file| file.read_at(offset, out))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.around("write_at", |file| file.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.around("sync", DiskFile::sync)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.around("bytes", DiskFile::bytes)
    }

    fn is_named(&self) -> io::Result<bool> {
        self.around("is_named", DiskFile::is_named)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.around("truncate", |file| file.truncate(bytes))
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.around("try_lock", DiskFile::try_lock)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use super::*;
    use crate::disk::RealDisk;
    use crate::failpoint::watch;

    /// The methods of both traits, as their source has them; `is_stepped` asks no file system.
    fn methods() -> BTreeSet<&'static str> {
        let source = include_str!("mod.rs");
        let traits = source.split("pub trait ").skip(1).map(|rest| rest.split("\n}").next());
        let lines = traits.flat_map(|body| body.expect("a body").lines());
        let names = lines.filter_map(|line| line.strip_prefix("    fn ")?.split('(').next());
        names.filter(|name| *name != "is_stepped").collect()
    }

    #[test]
    fn every_call_of_the_interface_is_named_on_both_sides() {
        let root = std::env::temp_dir().join(format!("certeus-named-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let seen = Rc::new(RefCell::new(BTreeSet::new()));
        let out = seen.clone();
        watch::with(move |name| _ = out.borrow_mut().insert(name.to_owned()));
        let disk = NamedDisk::new(RealDisk);
        let path = root.join("next");
        let file = disk.open(&path, true).unwrap();
        file.write_at(0, b"x").unwrap();
        file.read_at(0, &mut [0]).unwrap();
        file.truncate(0).unwrap();
        file.sync().unwrap();
        assert!(file.bytes().unwrap() == 0 && file.try_lock().unwrap());
        assert!(file.is_named().unwrap());
        disk.rename(&path, &root.join("1.log")).unwrap();
        disk.unlink(&root.join("1.log")).unwrap();
        disk.sync_dir(&root).unwrap();
        assert!(disk.list(&root).unwrap().is_empty() && disk.space(&root).is_ok());
        watch::clear();
        std::fs::remove_dir(&root).unwrap();
        let seen = seen.borrow();
        let sides = |side: &str| -> BTreeSet<&str> {
            seen.iter().filter_map(|name| name.strip_suffix(side)?.rsplit('-').next()).collect()
        };
        assert_eq!(sides("-before"), methods());
        assert_eq!(sides("-after"), methods());
    }

    #[test]
    fn every_call_of_the_interface_is_in_the_register() {
        let listed = PLACES.iter().flat_map(|(_, calls)| calls.iter().copied());
        assert_eq!(listed.collect::<BTreeSet<_>>(), methods());
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        for (name, role) in [
            ("log/LOCK", "lock"),
            ("log/next", "spare"),
            ("log/00000000000000000001.log", "segment"),
            ("log/00000000000000000001.keys.new", "sidecar"),
            ("quarantine/00000000000000000001-at-8192.bin", "quarantine"),
            ("log/trim.new", "trim"),
            ("state/quarantine", "quarantine"),
            ("state/log", "dir"),
        ] {
            assert_eq!(role_of(Path::new(name)), role, "{name}");
        }
    }
}
