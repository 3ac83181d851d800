//! The native half of the `certeusd` package: one file a kernel, no policy.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::board;

mod builder;
mod datagrams;
mod door;
mod journal;
mod log;
mod look;
mod memory;
mod otlp;
mod reader;
mod render;
mod worker;

/// `{table: (page, {field: word index})}`, so that Python reads the board by the same names.
fn board_tables<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let tables = PyDict::new(py);
    for (name, page, fields) in [
        ("durability", board::PAGE_DURABILITY, board::durability::FIELDS),
        ("follower", board::PAGE_FOLLOWER, board::follower::FIELDS),
        ("log", board::PAGE_LOG, board::log::FIELDS),
        ("flush", board::PAGE_FLUSH, board::flush::FIELDS),
        ("worker", board::PAGE_WORKER, board::worker::FIELDS),
        ("api", board::PAGE_API, board::door::FIELDS),
        ("syslog", board::PAGE_SYSLOG, board::door::FIELDS),
        ("journal", board::PAGE_JOURNAL, board::door::FIELDS),
    ] {
        let table = PyDict::new(py);
        for (field, index) in fields {
            table.set_item(field.to_lowercase(), index)?;
        }
        tables.set_item(name, (page, table))?;
    }
    Ok(tables)
}

#[pyfunction]
fn shorten_slice() -> std::io::Result<bool> {
    crate::timeslice::shorten()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BOARD", board_tables(module.py())?)?;
    module.add("FAILPOINTS", crate::failpoint::names())?;
    module.add("BOARD_PAGES", board::BOARD_PAGES)?;
    module.add_class::<datagrams::DatagramBuffer>()?;
    module.add_class::<datagrams::Datagrams>()?;
    module.add_function(wrap_pyfunction!(datagrams::recv_datagrams, module)?)?;
    module.add_class::<door::DoorEncoder>()?;
    module.add_class::<door::Encoded>()?;
    module.add_class::<journal::JournalDecoder>()?;
    module.add_class::<otlp::OtlpLogs>()?;
    module.add_class::<worker::Worker>()?;
    module.add_function(wrap_pyfunction!(worker::check_json, module)?)?;
    module.add_function(wrap_pyfunction!(worker::check_text, module)?)?;
    module.add_function(wrap_pyfunction!(worker::parse_time, module)?)?;
    module.add_function(wrap_pyfunction!(look::log_begins, module)?)?;
    module.add_function(wrap_pyfunction!(look::log_files, module)?)?;
    module.add_function(wrap_pyfunction!(look::log_group_of, module)?)?;
    module.add_function(wrap_pyfunction!(look::log_plan, module)?)?;
    module.add_function(wrap_pyfunction!(shorten_slice, module)?)?;
    log::register(module)?;
    reader::register(module)?;
    render::register(module)?;
    builder::register(module)?;
    Ok(())
}
