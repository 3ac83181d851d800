//! Making segments, for tests and tools.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::reader::builder::{Event, SegmentBuilder};

/// Makes segments for tests and tools.
#[pyclass(name = "SegmentBuilder", module = "certeusd._native")]
struct PySegmentBuilder {
    inner: SegmentBuilder,
}

#[pymethods]
impl PySegmentBuilder {
    #[new]
    fn new(log_dir: PathBuf, log_uuid: [u8; 16], log_key: [u8; 32]) -> Self {
        Self { inner: SegmentBuilder::new(&log_dir, log_uuid, log_key) }
    }

    #[getter]
    fn next_seq(&self) -> u64 {
        self.inner.next_seq()
    }

    #[pyo3(signature = (before_next_seq=None, copy_last=false))]
    fn segment(&mut self, before_next_seq: Option<u64>, copy_last: bool) -> PyResult<u64> {
        Ok(self.inner.segment(before_next_seq, copy_last)?)
    }

    #[pyo3(signature = (producer_no, tenant, source, uid=0))]
    fn producer(&mut self, producer_no: u64, tenant: &str, source: &str, uid: u32) {
        self.inner.producer(producer_no, uid, tenant, source);
    }

    #[allow(clippy::too_many_arguments)] // the attributes of CloudEvents, by name
    #[pyo3(signature = (producer_no, ticket, event_type, data, *, id=None, subject=None, time=None,
        source=None, dataschema=None, content_type=None, extensions=None, opaque=false,
        escalated=false, kind=0))]
    fn record(
        &mut self,
        producer_no: u64,
        ticket: u64,
        event_type: &str,
        data: &[u8],
        id: Option<&str>,
        subject: Option<&str>,
        time: Option<&str>,
        source: Option<&str>,
        dataschema: Option<&str>,
        content_type: Option<&str>,
        extensions: Option<&str>,
        opaque: bool,
        escalated: bool,
        kind: u8,
    ) {
        let attributes =
            [Some(event_type), id, subject, time, source, dataschema, content_type, extensions]
                .map(|value| value.map(str::as_bytes));
        let event = Event { producer_no, ticket, attributes, data, opaque, escalated, kind };
        self.inner.record(&event);
    }

    /// Returns group, root, first seq, last seq, segment, offset and bytes on disk.
    #[allow(clippy::type_complexity)] // a tuple that Python names in its own type
    fn commit<'py>(
        &mut self,
        py: Python<'py>,
        recorded_at_ns: u64,
    ) -> PyResult<(u64, Bound<'py, PyBytes>, u64, u64, u64, u64, u64)> {
        let written = self.inner.commit(recorded_at_ns)?;
        let header = written.header;
        Ok((
            header.group,
            PyBytes::new(py, &header.root),
            header.first_seq,
            header.next_seq() - 1,
            written.segment_no,
            written.offset,
            header.group_bytes(),
        ))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySegmentBuilder>()
}
