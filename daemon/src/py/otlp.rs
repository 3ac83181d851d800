//! `OtlpLogs` for Python: a request to export logs, part by part.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::door::{DETACH_BYTES_MIN, Encoded};
use crate::door::otlp::{Logs, Notation};
use crate::door::{Encoder, Rules};

#[pyclass(module = "certeusd._native")]
pub struct OtlpLogs {
    rules: Rules,
    body: Py<PyBytes>,
    logs: Logs,
}

fn notation_of(json: bool) -> Notation {
    if json { Notation::Json } else { Notation::Binary }
}

impl OtlpLogs {
    pub fn new(rules: Rules, body: &Bound<'_, PyBytes>, json: bool) -> PyResult<Self> {
        let notation = notation_of(json);
        let wanted = match notation {
            Notation::Json => "OTLP's JSON",
            Notation::Binary => "protobuf's binary notation",
        };
        let bytes = body.as_bytes();
        let logs = body.py().detach(|| Logs::new(bytes, notation)).map_err(|_| {
            PyValueError::new_err(format!(
                "cannot read the request: the body is no ExportLogsServiceRequest in {wanted}; \
                 send one"
            ))
        })?;
        Ok(Self { rules, body: body.clone().unbind(), logs })
    }
}

#[pymethods]
impl OtlpLogs {
    #[staticmethod]
    fn held_bytes_max(body: &Bound<'_, PyBytes>, json: bool) -> usize {
        let bytes = body.as_bytes();
        body.py().detach(|| Logs::held_bytes_max(bytes, notation_of(json)))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> Option<Encoded> {
        let (body, logs) = (self.body.as_bytes(py), &mut self.logs);
        let mut encoder = Encoder::new(&self.rules, body.len().min(DETACH_BYTES_MIN));
        let mut fill = || logs.fill(body, &mut encoder);
        let more = if body.len() < DETACH_BYTES_MIN { fill() } else { py.detach(fill) };
        (more || encoder.seen > 0).then(|| Encoded::of(py, encoder))
    }
}
