//! `Worker` for Python: descriptors in, tuples out, no policy.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use certeus_ipc::verdict::Reason;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::board::{Board, PAGE_WORKER, WORKERS_MAX};
use crate::memory::{Preparer, Wishes};
use crate::py::memory::{Prepared, prepared};
use crate::validate::{Limits, attributes, json, time};
use crate::worker::{Event, Identity, Kernel, Seen, Sources, Tally};

/// The kernel of one worker.
#[pyclass(module = "certeusd._native")]
pub struct Worker {
    kernel: Kernel,
}

/// A descriptor of the caller's, for the call.
fn borrow(fd: &RawFd) -> PyResult<BorrowedFd<'_>> {
    if *fd < 0 {
        return Err(PyValueError::new_err(format!("not a descriptor: {fd}")));
    }
    // SAFETY: the caller lends an open descriptor; a number that is none only makes calls fail.
    Ok(unsafe { BorrowedFd::borrow_raw(*fd) })
}

/// A copy of a descriptor of the caller's, which keeps its own.
fn copy(fd: RawFd) -> PyResult<OwnedFd> {
    Ok(borrow(&fd)?.try_clone_to_owned()?)
}

fn raise(error: rustix::io::Errno) -> PyErr {
    std::io::Error::from(error).into()
}

#[pymethods]
impl Worker {
    #[new]
    fn new(
        board_fd: RawFd,
        index: usize,
        log_key: [u8; 32],
        event_bytes_max: usize,
        depth_max: u32,
    ) -> PyResult<Self> {
        if index >= WORKERS_MAX || depth_max > json::DEPTH_LIMIT {
            return Err(PyValueError::new_err("index or depth_max is out of range"));
        }
        let board = Board::map(borrow(&board_fd)?).map_err(raise)?;
        let limits = Limits { event_bytes_max, depth_max };
        let page = board.page(PAGE_WORKER + index);
        Ok(Self { kernel: Kernel::new(page, log_key, limits).map_err(raise)? })
    }

    fn attach(
        &mut self,
        pair_fd: RawFd,
        forward_bytes: u64,
        return_bytes: u64,
        forward_bell_fd: RawFd,
        return_bell_fd: RawFd,
    ) -> PyResult<()> {
        let (forward_bell, return_bell) = (copy(forward_bell_fd)?, copy(return_bell_fd)?);
        self.kernel
            .attach(borrow(&pair_fd)?, forward_bytes, return_bytes, forward_bell, return_bell)
            .map_err(raise)
    }

    fn detach(&mut self) -> PyResult<()> {
        self.kernel.detach().map_err(raise)
    }

    #[pyo3(signature = (wishes, /))]
    fn prepare(&mut self, wishes: Wishes) {
        self.kernel.memory = Preparer::new(wishes);
    }

    fn prepared(&mut self) -> Vec<Prepared> {
        prepared(&mut self.kernel.memory)
    }

    fn watch(&self, fd: RawFd) -> PyResult<()> {
        self.kernel.watch(borrow(&fd)?, fd).map_err(raise)
    }

    fn unwatch(&self, fd: RawFd) -> PyResult<()> {
        self.kernel.unwatch(borrow(&fd)?).map_err(raise)
    }

    #[pyo3(signature = (*, p_fd, c_fd, e_fd, socket_fd, ring_bytes, uid, producer, tenant, source,
                        allowed_sources, birth_seq, settled))]
    #[allow(clippy::too_many_arguments)] // keywords in Python
    fn add_session(
        &mut self,
        p_fd: RawFd,
        c_fd: RawFd,
        e_fd: RawFd,
        socket_fd: RawFd,
        ring_bytes: u64,
        uid: u32,
        producer: [u8; 16],
        tenant: String,
        source: String,
        allowed_sources: Vec<String>,
        birth_seq: Option<u64>,
        settled: u64,
    ) -> PyResult<u32> {
        let allowed = Sources::new(&allowed_sources);
        let identity = Identity { uid, producer, tenant, source, allowed, birth_seq, settled };
        let (doorbell, socket) = (copy(e_fd)?, copy(socket_fd)?);
        self.kernel
            .add_session(identity, borrow(&p_fd)?, borrow(&c_fd)?, ring_bytes, doorbell, socket)
            .map_err(raise)
    }

    fn end_session(&mut self, slot: u32, clean: bool) {
        self.kernel.end_session(slot, clean);
    }

    fn drain(&mut self) {
        self.kernel.drain();
    }

    #[pyo3(signature = (slots, /))]
    fn let_go(&mut self, slots: Vec<u32>) {
        self.kernel.let_go(&slots);
    }

    fn hand_over(&mut self) -> usize {
        self.kernel.hand_over()
    }

    fn in_flight(&self) -> u64 {
        self.kernel.in_flight()
    }

    fn session_count(&self) -> usize {
        self.kernel.session_count()
    }

    #[pyo3(signature = (first, count, /))]
    fn seen(&self, first: usize, count: usize) -> (Vec<SeenTuple>, Option<usize>) {
        let (seen, next) = self.kernel.seen(first, count);
        (seen.into_iter().map(seen_tuple).collect(), next)
    }

    fn run<'py>(&mut self, py: Python<'py>, timeout_ms: u64) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = py.detach(|| self.kernel.run(timeout_ms)).map_err(raise)?;
        events.into_iter().map(|event| to_tuple(py, event)).collect()
    }
}

/// Number, events, bytes, settled, duplicates, rejected by reason, in flight, bytes in the ring,
/// buckets of the time to the verdict.
type SeenTuple = (u32, u64, u64, u64, u64, HashMap<&'static str, u64>, u64, u64, Vec<u64>);

fn seen_tuple(seen: Seen) -> SeenTuple {
    let tally = seen.tally;
    let rejected = Reason::ALL.iter().map(|reason| (reason.word(), *reason as usize));
    let rejected = rejected.map(|(word, code)| (word, tally.rejected[code]));
    let rejected = rejected.filter(|(_, count)| *count > 0).collect();
    let used = seen.ack_buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let buckets = seen.ack_buckets[..used].to_vec();
    let Tally { events, bytes, settled, duplicates, .. } = tally;
    (
        seen.number,
        events,
        bytes,
        settled,
        duplicates,
        rejected,
        seen.in_flight,
        seen.ring_used,
        buckets,
    )
}

fn to_tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Readable(fd) => ("readable", fd).into_pyobject(py),
        Event::Welcomed(slot, welcome) => {
            let uuid = PyBytes::new(py, &welcome.log_uuid);
            let (birth_seq, high) = (welcome.birth_seq, welcome.high);
            ("welcomed", slot, birth_seq, high, uuid, welcome.producer_no).into_pyobject(py)
        }
        Event::Refused(slot, reason) => ("refused", slot, reason).into_pyobject(py),
        Event::Ended(slot, reason) => ("ended", slot, reason).into_pyobject(py),
        Event::Closed(slot) => ("closed", slot).into_pyobject(py),
    }
}

/// Why PostgreSQL would not take `data` as JSON, as the stable word; `None`: it would.
#[pyfunction]
pub fn check_json(data: &[u8], depth_max: u32) -> PyResult<Option<&'static str>> {
    if depth_max > json::DEPTH_LIMIT {
        return Err(PyValueError::new_err("depth_max is out of range"));
    }
    Ok(json::check(data, depth_max).err().map(certeus_ipc::verdict::Reason::word))
}

/// Microseconds since 2000-01-01 UTC of an RFC 3339 time; `None`: it is none that the log takes.
#[pyfunction]
pub fn parse_time(text: &[u8]) -> Option<i64> {
    time::parse_rfc3339(text)
}

/// Why `text` cannot stand in an attribute, its length aside; `None`: it can.
#[pyfunction]
pub fn check_text(text: &[u8]) -> Option<&'static str> {
    attributes::check_text(text).err().map(certeus_ipc::verdict::Reason::word)
}
