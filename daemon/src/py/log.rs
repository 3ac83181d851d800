//! The log writer, for `certeusd.log`.

use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyBlockingIOError, PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::board::Board;
use crate::disk::named::{NamedDisk, NamedFile};
use crate::disk::{Disk, DiskFile, RealDisk, RealFile};
use crate::log::keeper::Limits as SegmentLimits;
use crate::log::open::{Options, Report, open};
use crate::log::peer::Peer;
use crate::log::progress::{Missing, Obstacle, naming};
use crate::log::recovery::{FollowerPosition, Settings};
use crate::log::room::is_no_room;
use crate::log::run::Loop;
use crate::log::{Limits, LogWriter as Kernel};
use crate::memory::{Preparer, Region, Wishes};
use crate::py::memory::{Prepared, prepared};

create_exception!(
    certeusd._native,
    LogFailedError,
    PyException,
    "A write or sync of the log failed: the process must end, a restart is the only retry."
);

create_exception!(
    certeusd._native,
    LogReadOnlyError,
    LogFailedError,
    "The log's file system is read-only: the process must end, a restart is the only retry."
);

create_exception!(
    certeusd._native,
    LogBlockedError,
    PyException,
    "Something that only a human can move is in the way of a start; nothing was changed."
);

create_exception!(
    certeusd._native,
    LogMissingError,
    PyException,
    "The log that was served is not in its directory; none was begun in its place."
);

create_exception!(
    certeusd._native,
    LogNoRoomError,
    PyException,
    "A start finds no room for its segment on the disk; nothing was published, try again."
);

/// What keeps the log from being opened; want of room is no failure of it.
fn unopened(error: std::io::Error) -> PyErr {
    if is_no_room(&error) {
        return LogNoRoomError::new_err(format!("cannot make a segment of the log: {error}"));
    }
    failed(error)
}

fn failed(error: std::io::Error) -> PyErr {
    if error.get_ref().is_some_and(|inner| inner.is::<Obstacle>()) {
        return LogBlockedError::new_err(error.to_string());
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Missing>()) {
        return LogMissingError::new_err(error.to_string());
    }
    if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
        return LogReadOnlyError::new_err(format!("cannot write the log: {error}"));
    }
    LogFailedError::new_err(format!("cannot write the log: {error}"))
}

/// The numbers of `[log]` and `[dedup]`, and what the position file says.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Numbers {
    segment_bytes: u64,
    group_bytes_max: usize,
    group_records_max: u32,
    linger_us: u64,
    bytes_max: u64,
    disk_reserve_bytes: u64,
    retain_bytes: u64,
    recycle: bool,
    dedup_keys: usize,
    dedup_producers: usize,
    follower_group: u64,
    follower_seq: u64,
    follower_root: [u8; 32],
    /// Empty: the log has the name of its segments.
    log_name: Vec<u8>,
    /// Empty: not known.
    log_served: Vec<u8>,
}

#[pyclass(module = "certeusd._native")]
pub struct LogWriter {
    kernel: Loop<NamedDisk<RealDisk>>,
    /// `[memory]`, for what is mapped from now on.
    memory: Preparer,
    report: Report,
    /// Held for as long as the kernel lets this process live.
    _lock: NamedFile<RealFile>,
}

/// Who holds the lock, as far as its file says: it is written behind the lock, by each holder.
fn holder_of(lock: &impl DiskFile) -> std::io::Result<String> {
    let mut text = [0; 32];
    let read = lock.read_at(0, &mut text)?;
    let pid = String::from_utf8_lossy(&text[..read]).trim().to_owned();
    Ok(if pid.is_empty() { "another process".into() } else { format!("pid {pid}") })
}

fn sign(lock: &impl DiskFile) -> std::io::Result<()> {
    lock.truncate(0)?;
    lock.write_at(0, format!("{}\n", std::process::id()).as_bytes())
}

fn borrowed<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: Python keeps the descriptor open for the length of the call.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[pymethods]
impl LogWriter {
    #[new]
    #[pyo3(signature = (log_dir, quarantine_dir, board_fd, log_key, options))]
    fn new(
        py: Python<'_>,
        log_dir: PathBuf,
        quarantine_dir: PathBuf,
        board_fd: RawFd,
        log_key: [u8; 32],
        options: Numbers,
    ) -> PyResult<Self> {
        let disk = Arc::new(NamedDisk::new(RealDisk));
        let path = log_dir.join("LOCK");
        let lock = disk.open(&path, true).map_err(naming(&path)).map_err(failed)?;
        if !lock.try_lock().map_err(failed)? {
            let holder = holder_of(&lock).map_err(failed)?;
            let what = format!("{} is locked by {holder}", path.display());
            return Err(PyBlockingIOError::new_err(what));
        }
        // The lock is what counts: a full disk keeps the pid out, not the log writer.
        sign(&lock)
            .or_else(|error| if is_no_room(&error) { Ok(()) } else { Err(failed(error)) })?;
        let board = Board::map(borrowed(board_fd)).map_err(std::io::Error::from)?;
        let (all_bytes, _) = disk.space(&log_dir).map_err(failed)?;
        let bytes_max = if options.bytes_max == 0 { all_bytes / 4 } else { options.bytes_max };
        // What is being written cannot go: with room for one alone, the log would end with it.
        let bytes_max = bytes_max.max(2 * options.segment_bytes);
        let options = Options {
            name: options.log_name.try_into().ok(),
            recovery: Settings {
                log_key,
                dedup_keys: options.dedup_keys,
                dedup_producers: options.dedup_producers,
                follower: FollowerPosition {
                    group: options.follower_group,
                    seq: options.follower_seq,
                    root: options.follower_root,
                },
                quarantine_dir,
                served: options.log_served.try_into().ok(),
            },
            limits: Limits {
                group_bytes_max: options.group_bytes_max,
                group_records_max: options.group_records_max,
                linger_us: options.linger_us,
            },
            segments: SegmentLimits {
                segment_bytes: options.segment_bytes,
                bytes_max,
                disk_reserve_bytes: options.disk_reserve_bytes,
                retain_bytes: options.retain_bytes,
                recycle: options.recycle,
            },
        };
        let opened = py.detach(|| open(disk.clone(), &log_dir, &board, &options));
        let (writer, report): (Kernel<_>, Report) = opened.map_err(unopened)?;
        disk.live();
        writer.set_bytes_max(bytes_max);
        let memory = Preparer::default();
        Ok(Self { kernel: Loop::new(writer)?, memory, report, _lock: lock })
    }

    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = PyDict::new(py);
        report.set_item("label", self.report.label)?;
        report.set_item("segments", self.report.segments)?;
        report.set_item("groups_read", self.report.groups_read)?;
        report.set_item("last_group", self.report.last_group)?;
        report.set_item("next_seq", self.report.next_seq)?;
        report.set_item("epoch", self.report.epoch)?;
        report.set_item("log_uuid", PyBytes::new(py, &self.report.log_uuid))?;
        report.set_item("log_name", PyBytes::new(py, &self.report.log_name))?;
        let gaps = self.report.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq, gap.reason));
        report.set_item("gaps", PyList::new(py, gaps)?)?;
        report.set_item("older", PyList::new(py, &self.report.older)?)?;
        let aside = self.report.aside.iter().map(|one| (one.segment_no, one.label, &one.name));
        report.set_item("aside", PyList::new(py, aside)?)?;
        let uncopied = self.report.uncopied.iter();
        let uncopied = uncopied.map(|one| (one.path.display().to_string(), &one.cause));
        report.set_item("uncopied", PyList::new(py, uncopied)?)?;
        Ok(report)
    }

    fn attach(
        &mut self,
        worker: usize,
        pair_fd: RawFd,
        forward_bytes: u64,
        return_bytes: u64,
        forward_bell_fd: RawFd,
        return_bell_fd: RawFd,
    ) -> PyResult<()> {
        if self.kernel.writer.peer(worker).is_some() {
            return Err(PyValueError::new_err(format!("worker {worker} is attached already")));
        }
        let own = |fd| borrowed(fd).try_clone_to_owned();
        let bells = (own(forward_bell_fd)?, own(return_bell_fd)?);
        let pair = borrowed(pair_fd);
        let peer = Peer::attach(pair, forward_bytes, return_bytes, bells.0, bells.1);
        let peer = peer.map_err(std::io::Error::from)?;
        for mapping in peer.mappings() {
            self.memory.prepare("internal rings", Region::of_mapping(mapping));
        }
        Ok(self.kernel.attach(worker, peer)?)
    }

    #[pyo3(signature = (wishes, /))]
    fn prepare(&mut self, wishes: Wishes) {
        self.memory = Preparer::new(wishes);
        self.kernel.writer.prepare_arenas(&mut self.memory);
    }

    fn prepared(&mut self) -> Vec<Prepared> {
        prepared(&mut self.memory)
    }

    fn detach(&mut self, worker: usize) -> PyResult<()> {
        Ok(self.kernel.detach(worker)?)
    }

    fn follower_bell(&mut self, fd: RawFd) -> PyResult<()> {
        self.kernel.writer.set_follower_bell(borrowed(fd).try_clone_to_owned()?);
        Ok(())
    }

    fn watch(&mut self, fd: RawFd) -> PyResult<()> {
        Ok(self.kernel.watch(borrowed(fd), fd)?)
    }

    fn run(&mut self, py: Python<'_>, timeout_ms: u64) -> PyResult<Vec<RawFd>> {
        py.detach(|| self.kernel.run(Duration::from_millis(timeout_ms))).map_err(failed)
    }

    fn durable_seq(&self) -> u64 {
        self.kernel.writer.durable_seq()
    }

    /// Commits what the rings hold, and ends the helper.
    fn seal(&mut self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            while self.kernel.writer.cycle()? {}
            self.kernel.writer.seal()
        })
        .map_err(failed)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LogWriter>()?;
    module.add("LogFailedError", module.py().get_type::<LogFailedError>())?;
    module.add("LogNoRoomError", module.py().get_type::<LogNoRoomError>())?;
    module.add("LogReadOnlyError", module.py().get_type::<LogReadOnlyError>())?;
    module.add("LogMissingError", module.py().get_type::<LogMissingError>())?;
    module.add("LogBlockedError", module.py().get_type::<LogBlockedError>())?;
    Ok(())
}
