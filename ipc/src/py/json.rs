//! JSON text of the plain types, without a detour over Python.
//!
//! It gives byte for byte what `json.dumps(value, ensure_ascii=False, allow_nan=False,
//! separators=(",", ":"))` gives, or `None`: subclasses, keys that are not text, integers beyond 64
//! bits, NaN, lone surrogates, cycles and deep nesting are left to Python, which encodes them or
//! says what is wrong.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

const DEPTH_MAX: usize = 100;

#[pyfunction]
pub fn encode_plain<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(256);
    write(&mut out, value, 0)?;
    Some(PyBytes::new(value.py(), &out))
}

fn write(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        write_text(out, text)
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        out.extend_from_slice(number.extract::<i64>().ok()?.to_string().as_bytes());
        Some(())
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        out.push(b'{');
        for (index, (key, item)) in dict.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_text(out, key.cast_exact::<PyString>().ok()?)?;
            out.push(b':');
            write(out, &item, depth + 1)?;
        }
        out.push(b'}');
        Some(())
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_items(out, list.iter(), depth)
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        write_items(out, tuple.iter(), depth)
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        Some(())
    } else if value.is_none() {
        out.extend_from_slice(b"null");
        Some(())
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        // Python's own shortest form, so that either way gives the same bytes.
        number.value().is_finite().then_some(())?;
        out.extend_from_slice(number.repr().ok()?.to_str().ok()?.as_bytes());
        Some(())
    } else {
        None
    }
}

fn write_items<'py>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> Option<()> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, &item, depth + 1)?;
    }
    out.push(b']');
    Some(())
}

fn write_text(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> Option<()> {
    let bytes = text.to_str().ok()?.as_bytes();
    out.push(b'"');
    let mut plain = 0;
    for (index, byte) in bytes.iter().copied().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
    Some(())
}
