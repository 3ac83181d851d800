//! The native half of the `certeus` package: [`ring::Ring`], and [`consumer::Consumer`] for tests.
//!
//! Every method runs under the GIL from beginning to end and none can block, so one call is one
//! step for all threads of the process. That is what lets `append` do without a lock in Python.

mod consumer;
mod fork;
mod json;
mod payloads;
mod ring;

use pyo3::prelude::*;

pyo3::create_exception!(
    certeus._native,
    GarbageError,
    pyo3::exceptions::PyException,
    "The daemon wrote what no honest one does; leave this session and connect again."
);

#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ring::Ring>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_function(wrap_pyfunction!(json::encode_plain, module)?)?;
    module.add("GarbageError", module.py().get_type::<GarbageError>())?;
    module.add("RING_BYTES_MIN", crate::layout::RING_BYTES_MIN)?;
    module.add("RING_BYTES_MAX", crate::layout::RING_BYTES_MAX)?;
    module.add("PAGE_BYTES", crate::layout::PAGE_BYTES)?;
    module.add("C_BYTES", crate::layout::C_BYTES)?;
    module.add("VERDICT_COUNT", crate::layout::VERDICT_COUNT)?;
    module.add("VERSION", crate::layout::VERSION)?;
    Ok(())
}
