//! What a batch is rendered by, and into, for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::py::reader::gaps_of;
use crate::reader::batch::Gap;
use crate::reader::render::{Filter, Form, Match, Rendered, Scope};

#[pyclass(name = "Filter", module = "certeusd._native", frozen)]
pub struct PyFilter {
    pub inner: Filter,
}

#[pymethods]
impl PyFilter {
    #[new]
    #[pyo3(signature = (*, tenant=None, r#type=None, source=None))]
    fn new(tenant: Option<String>, r#type: Option<&str>, source: Option<&str>) -> Self {
        let matching = |pattern: Option<&str>| pattern.map_or(Match::Any, Match::of_pattern);
        let (event_type, source) = (matching(r#type), matching(source));
        Self { inner: Filter { tenant, event_type, source } }
    }
}

#[pyclass(name = "Rendered", module = "certeusd._native", frozen)]
pub struct PyRendered {
    #[pyo3(get)]
    bytes: Py<PyBytes>,
    #[pyo3(get)]
    events: usize,
    #[pyo3(get)]
    last_seq: u64,
    #[pyo3(get)]
    more: bool,
    gaps: Vec<Gap>,
}

#[pymethods]
impl PyRendered {
    #[getter]
    fn gaps(&self) -> Vec<(u64, u64, &'static str)> {
        gaps_of(&self.gaps)
    }
}

impl PyRendered {
    pub fn of(py: Python<'_>, told: Rendered) -> Self {
        let Rendered { bytes, events, last_seq, more, gaps } = told;
        Self { bytes: PyBytes::new(py, &bytes).unbind(), events, last_seq, more, gaps }
    }
}

pub fn scope_of(form: &str, limit: Option<usize>, bytes_max: Option<usize>) -> PyResult<Scope> {
    let form = Form::of_word(form).ok_or_else(|| {
        PyValueError::new_err(format!("cannot render as {form}: use lines or sse"))
    })?;
    if limit == Some(0) || bytes_max == Some(0) {
        return Err(PyValueError::new_err("cannot render nothing: limit and bytes_max begin at 1"));
    }
    let whole = Scope::whole(form);
    let events_max = limit.unwrap_or(whole.events_max);
    Ok(Scope { events_max, bytes_max: bytes_max.unwrap_or(whole.bytes_max), ..whole })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SCHEMA_VERSION", crate::reader::render::SCHEMA_VERSION)?;
    module.add_class::<PyFilter>()?;
    module.add_class::<PyRendered>()?;
    Ok(())
}
