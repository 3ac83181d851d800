//! `JournalDecoder` for Python: blocks of one exported journal in, buffers of payloads out.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::door::{DoorEncoder, Encoded};
use crate::door::journal::{Journal, NotExported};

#[pyclass(module = "certeusd._native")]
pub struct JournalDecoder {
    encoder: Py<DoorEncoder>,
    journal: Journal,
}

#[pymethods]
impl JournalDecoder {
    #[new]
    #[pyo3(signature = (encoder, r#type="journal", own=None, after=None))]
    fn new(
        py: Python<'_>,
        encoder: Py<DoorEncoder>,
        r#type: &str,
        own: Option<&str>,
        after: Option<&str>,
    ) -> Self {
        let event_bytes_max = encoder.get().rules.event_bytes_max;
        let journal = Journal::new(event_bytes_max, r#type, own, after);
        Self { encoder: encoder.clone_ref(py), journal }
    }

    #[getter]
    fn cursor(&self) -> Option<&str> {
        self.journal.cursor()
    }

    #[getter]
    fn left_out(&self) -> u64 {
        self.journal.left_out
    }

    fn take(&mut self, py: Python<'_>, block: &[u8]) -> PyResult<Encoded> {
        let (journal, mut outcome) = (&mut self.journal, Ok(()));
        let encoded = self
            .encoder
            .get()
            .encode(py, block.len(), |encoder| outcome = journal.take(encoder, block));
        outcome.map(|()| encoded).map_err(|NotExported| {
            PyValueError::new_err(
                "cannot read the journal: what came is not its export format; read it anew from \
                 the last cursor",
            )
        })
    }
}
