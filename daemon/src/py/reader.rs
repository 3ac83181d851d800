//! The log reader, its batches, and the follower's words on the board, for Python.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use certeus_ipc::follow;
use certeus_ipc::record::{FLAG_OPAQUE, Tag};
use pyo3::exceptions::{PyIndexError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::board::{Board, PAGE_DURABILITY, PAGE_FOLLOWER, Page, durability, follower};
use crate::copy::{COLUMNS, DataType, Encoder};
use crate::merkle::Hash;
use crate::py::render::{PyFilter, PyRendered, scope_of};
use crate::reader::batch::{Batch, Gap};
use crate::reader::check::{Finding, Summary};
use crate::reader::render::render;
use crate::reader::{Cursor, Error, LogReader};

/// Room made for a chunk at once, however large a chunk the caller wants.
const CHUNK_RESERVE_BYTES: usize = 1024 * 1024;

pub fn raise(error: Error) -> PyErr {
    match &error {
        Error::Io { source, .. } => {
            PyOSError::new_err((source.raw_os_error().unwrap_or(5), error.to_string()))
        }
        Error::Unknown { .. } => PyValueError::new_err(error.to_string()),
    }
}

pub fn hash_of(bytes: &[u8]) -> PyResult<Hash> {
    bytes.try_into().map_err(|_| PyValueError::new_err("a hash has 32 bytes"))
}

pub fn gaps_of(gaps: &[Gap]) -> Vec<(u64, u64, &'static str)> {
    gaps.iter().map(|gap| (gap.first_seq, gap.last_seq, gap.reason)).collect()
}

#[pyclass(name = "LogReader", module = "certeusd._native")]
struct PyLogReader {
    inner: LogReader,
}

#[pymethods]
impl PyLogReader {
    #[new]
    fn new(log_dir: PathBuf) -> Self {
        Self { inner: LogReader::new(&log_dir) }
    }

    fn position_status(
        &self,
        py: Python<'_>,
        group: u64,
        root: &[u8],
        seq: u64,
    ) -> PyResult<&'static str> {
        let root = hash_of(root)?;
        let status = py.detach(|| self.inner.position_status(group, &root, seq));
        status.map(|status| status.word()).map_err(raise)
    }

    #[pyo3(signature = (group, seq=None, root=None))]
    fn seek(
        &mut self,
        py: Python<'_>,
        group: u64,
        seq: Option<u64>,
        root: Option<&[u8]>,
    ) -> PyResult<()> {
        let cursor = if let (Some(seq), Some(root)) = (seq, root) {
            Cursor { group, root: hash_of(root)?, next_seq: seq + 1, epoch: 0 }
        } else {
            let found = py.detach(|| self.inner.cursor_behind(group)).map_err(raise)?;
            let mut cursor = found.ok_or_else(|| {
                PyValueError::new_err(format!("cannot seek: the log does not hold group {group}"))
            })?;
            cursor.next_seq = seq.map_or(cursor.next_seq, |seq| seq + 1);
            cursor
        };
        self.inner.seek(cursor);
        Ok(())
    }

    fn seek_seq(&mut self, seq: u64) {
        self.inner.seek_seq(seq);
    }

    fn next_batch(
        &mut self,
        py: Python<'_>,
        durable_seq: u64,
        rows_max: usize,
        bytes_max: usize,
    ) -> PyResult<Option<PyBatch>> {
        let batch = py.detach(|| self.inner.next_batch(durable_seq, rows_max, bytes_max));
        Ok(batch.map_err(raise)?.map(|inner| PyBatch { inner: Arc::new(inner) }))
    }

    #[getter]
    fn next_seq(&self) -> u64 {
        self.inner.cursor().next_seq
    }

    #[getter]
    fn stalled(&self) -> Option<(u64, u64)> {
        self.inner.stalled()
    }

    fn oldest<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let oldest = py.detach(|| self.inner.oldest()).map_err(raise)?;
        let Some(header) = oldest else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("log_uuid", PyBytes::new(py, &header.log_uuid))?;
        dict.set_item("segment_no", header.segment_no)?;
        dict.set_item("created_at_ns", header.created_at_ns)?;
        dict.set_item("epoch", header.epoch)?;
        dict.set_item("before_group", header.before_group)?;
        dict.set_item("before_next_seq", header.before_next_seq)?;
        dict.set_item("before_root", PyBytes::new(py, &header.before_root))?;
        Ok(Some(dict))
    }

    fn segments<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let segments = py.detach(|| self.inner.segments()).map_err(raise)?;
        segments.iter().map(|summary| summary_dict(py, summary)).collect()
    }

    #[pyo3(signature = (progress=None, log_key=None))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
        log_key: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let key = log_key.map(hash_of).transpose()?;
        let mut check = py.detach(|| self.inner.check(key)).map_err(raise)?;
        while py.detach(|| check.step()).map_err(raise)? {
            if let Some(progress) = &progress {
                progress.call1(check.progress())?;
            }
            py.check_signals()?;
        }
        let report = check.finish();
        let dict = PyDict::new(py);
        dict.set_item("ok", report.findings.is_empty())?;
        dict.set_item("roots_checked", report.roots_checked)?;
        dict.set_item("tail_bytes", report.tail_bytes)?;
        dict.set_item("groups", report.segments.iter().map(|one| one.groups).sum::<u64>())?;
        dict.set_item("records", report.segments.iter().map(|one| one.records).sum::<u64>())?;
        let segments = PyList::empty(py);
        for summary in &report.segments {
            segments.append(summary_dict(py, summary)?)?;
        }
        dict.set_item("segments", segments)?;
        let findings = PyList::empty(py);
        for finding in &report.findings {
            findings.append(finding_dict(py, finding)?)?;
        }
        dict.set_item("findings", findings)?;
        Ok(dict)
    }
}

fn summary_dict<'py>(py: Python<'py>, summary: &Summary) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in [
        ("segment_no", summary.segment_no),
        ("created_at_ns", summary.created_at_ns),
        ("epoch", summary.epoch),
        ("file_bytes", summary.file_bytes),
        ("used_bytes", summary.used_bytes),
        ("groups", summary.groups),
        ("records", summary.records),
        ("first_group", summary.first_group),
        ("last_group", summary.last_group),
        ("first_seq", summary.first_seq),
        ("last_seq", summary.last_seq),
        ("recorded_at_ns", summary.recorded_at_ns),
    ] {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

fn finding_dict<'py>(py: Python<'py>, finding: &Finding) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("segment_no", finding.segment_no)?;
    dict.set_item("offset", finding.offset)?;
    dict.set_item("bytes", finding.bytes)?;
    dict.set_item("first_seq", finding.first_seq)?;
    dict.set_item("last_seq", finding.last_seq)?;
    dict.set_item("reason", finding.reason)?;
    Ok(dict)
}

#[pyclass(name = "Batch", module = "certeusd._native", frozen)]
struct PyBatch {
    inner: Arc<Batch>,
}

#[pymethods]
impl PyBatch {
    /// One event by itself; `producer` is tenant and source.
    #[staticmethod]
    fn of_record(
        record: &[u8],
        seq: u64,
        recorded_at_ns: u64,
        producer: Option<(String, String)>,
    ) -> PyResult<Self> {
        let inner = Batch::of_record(seq, recorded_at_ns, producer, record).ok_or_else(|| {
            PyValueError::new_err(format!("cannot read the record of seq {seq}: it is no event"))
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.inner.first_seq
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.inner.last_seq
    }

    #[getter]
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    #[getter]
    fn group(&self) -> u64 {
        self.inner.group
    }

    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.root)
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    #[getter]
    fn segment_no(&self) -> u64 {
        self.inner.segment_no
    }

    #[getter]
    fn recorded_at_ns(&self) -> u64 {
        self.inner.recorded_at_ns
    }

    #[getter]
    fn day(&self) -> u32 {
        self.inner.day()
    }

    #[getter]
    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    #[getter]
    fn gaps(&self) -> Vec<(u64, u64, &'static str)> {
        gaps_of(&self.inner.gaps)
    }

    #[pyo3(signature = (first_row, end_row, chunk_bytes, log_id, jsonb=false))]
    fn copy(
        &self,
        first_row: usize,
        end_row: usize,
        chunk_bytes: usize,
        log_id: i32,
        jsonb: bool,
    ) -> PyResult<PyCopyStream> {
        if first_row > end_row || end_row > self.inner.rows() {
            return Err(PyIndexError::new_err("cannot encode rows that the batch does not have"));
        }
        let data = if jsonb { DataType::Jsonb } else { DataType::Json };
        Ok(PyCopyStream {
            encoder: Encoder::new(self.inner.clone(), first_row..end_row, log_id, data),
            chunk_bytes: chunk_bytes.max(1),
            chunk: Vec::with_capacity(chunk_bytes.min(CHUNK_RESERVE_BYTES)),
        })
    }

    fn event<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyDict>> {
        if row >= self.inner.rows() {
            return Err(PyIndexError::new_err("cannot read a row that the batch does not have"));
        }
        event_dict(py, &self.inner, row)
    }

    #[allow(clippy::too_many_arguments)] // by name, but for the first two
    #[pyo3(signature = (filter, form, *, after_seq=0, until_seq=None, limit=None, bytes_max=None,
        versioned=false, gaps=true))]
    fn render(
        &self,
        py: Python<'_>,
        filter: &PyFilter,
        form: &str,
        after_seq: u64,
        until_seq: Option<u64>,
        limit: Option<usize>,
        bytes_max: Option<usize>,
        versioned: bool,
        gaps: bool,
    ) -> PyResult<PyRendered> {
        let mut scope = scope_of(form, limit, bytes_max)?;
        (scope.after_seq, scope.until_seq) = (after_seq, until_seq.unwrap_or(u64::MAX));
        (scope.versioned, scope.gaps) = (versioned, gaps);
        let told = py.detach(|| render(&self.inner, &filter.inner, &scope));
        Ok(PyRendered::of(py, told))
    }

    /// The logged bytes of a row's record, which its leaf covers.
    fn record<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyBytes>> {
        if row >= self.inner.rows() {
            return Err(PyIndexError::new_err("cannot read a row that the batch does not have"));
        }
        Ok(PyBytes::new(py, self.inner.row(row).record.bytes))
    }
}

/// One COPY stream, encoded as it is sent: what is not on its way yet takes no memory.
#[pyclass(name = "CopyStream", module = "certeusd._native")]
struct PyCopyStream {
    encoder: Encoder<Arc<Batch>>,
    chunk_bytes: usize,
    chunk: Vec<u8>,
}

#[pymethods]
impl PyCopyStream {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let Self { encoder, chunk_bytes, chunk } = self;
        let more = py.detach(|| encoder.next_chunk(*chunk_bytes, chunk));
        more.then(|| PyBytes::new(py, chunk))
    }
}

fn event_dict<'py>(py: Python<'py>, batch: &Batch, index: usize) -> PyResult<Bound<'py, PyDict>> {
    let row = batch.row(index);
    let attributes = &row.record.attributes;
    let header = &row.record.header;
    let text = |value: Option<&[u8]>| {
        value.map(|value| PyString::new(py, &String::from_utf8_lossy(value)))
    };
    let producer_source = row.producer.map(|producer| producer.source.as_bytes());
    let dict = PyDict::new(py);
    dict.set_item("seq", row.seq)?;
    dict.set_item("group", row.group)?;
    dict.set_item("recorded_at_ns", row.recorded_at_ns)?;
    dict.set_item("tenant", row.producer.map(|producer| producer.tenant.as_str()))?;
    dict.set_item("source", text(attributes.get(Tag::Source).or(producer_source)))?;
    dict.set_item("id", text(attributes.get(Tag::Id)))?;
    dict.set_item("type", text(attributes.get(Tag::Type)))?;
    dict.set_item("subject", text(attributes.get(Tag::Subject)))?;
    dict.set_item("time", text(attributes.get(Tag::Time)))?;
    dict.set_item("dataschema", text(attributes.get(Tag::DataSchema)))?;
    dict.set_item("datacontenttype", text(attributes.get(Tag::ContentType)))?;
    dict.set_item("extensions", text(attributes.get(Tag::Extensions)))?;
    dict.set_item("verdict", header.verdict.word())?;
    dict.set_item("producer_no", header.producer_no)?;
    dict.set_item("ticket", header.ticket)?;
    dict.set_item("opaque", header.flags & FLAG_OPAQUE != 0)?;
    dict.set_item("data", PyBytes::new(py, row.record.data))?;
    Ok(dict)
}

/// What a follower reads and publishes on the board, with the memory orders that this needs.
#[pyclass(name = "FollowerPage", module = "certeusd._native", frozen)]
struct PyFollowerPage {
    durability: Page,
    follower: Page,
}

#[pymethods]
impl PyFollowerPage {
    #[new]
    fn new(board_fd: i32) -> PyResult<Self> {
        if board_fd < 0 {
            return Err(PyValueError::new_err("not a descriptor"));
        }
        // SAFETY: borrowed for the call only; the caller owns the descriptor and lends it.
        let fd = unsafe { BorrowedFd::borrow_raw(board_fd) };
        let board = Board::map(fd).map_err(std::io::Error::from)?;
        Ok(Self { durability: board.page(PAGE_DURABILITY), follower: board.page(PAGE_FOLLOWER) })
    }

    fn durable_seq(&self) -> u64 {
        follow::reached(self.durability.word(durability::DURABLE_SEQ))
    }

    fn want(&self, seq: u64) -> u64 {
        let wish = self.follower.word(follower::WANT_SEQ);
        follow::want(wish, seq, self.durability.word(durability::DURABLE_SEQ))
    }

    fn publish(&self, seq: u64, group: u64) {
        self.follower.set(follower::POSITION_GROUP, group);
        self.follower.set(follower::POSITION_SEQ, seq);
    }

    fn allow_trim(&self, segment_no: u64) {
        // No order to keep: the position that allows it was synced before this call.
        self.follower.set(follower::TRIM_SEGMENT, segment_no);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("COPY_COLUMNS", COLUMNS.to_vec())?;
    module.add_class::<PyLogReader>()?;
    module.add_class::<PyBatch>()?;
    module.add_class::<PyCopyStream>()?;
    module.add_class::<PyFollowerPage>()?;
    Ok(())
}
