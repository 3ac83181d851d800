//! JSON text of the plain types, without a detour over Python.
//!
//! It gives byte for byte what `json.dumps(value, ensure_ascii=False, allow_nan=False,
//! separators=(",", ":"))` gives, or `None`: subclasses, keys that are not text, integers beyond 64
//! bits, NaN, lone surrogates, cycles and deep nesting are left to Python, which encodes them or
//! says what is wrong.

use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

const DEPTH_MAX: usize = 100;
/// Room that most events need.
const TEXT_BYTES: usize = 512;

#[pyfunction]
pub fn encode_plain<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(TEXT_BYTES);
    write(&mut out, value, 0)?;
    Some(PyBytes::new(value.py(), &out))
}

/// An event's data as JSON text: bytes as they are, a plain value encoded into `buffer`. `None`: it
/// is neither. Runs no code of Python's.
pub fn json_text<'a>(data: &'a Bound<'_, PyAny>, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Some(bytes.as_bytes());
    }
    buffer.clear();
    buffer.reserve(TEXT_BYTES);
    write(buffer, data, 0)?;
    Some(buffer)
}

fn write(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        write_text(out, text)
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        write!(out, "{}", number.extract::<i64>().ok()?).ok()
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
        if !write_short_decimal(out, number.value()) {
            // Python's own shortest form, so that either way gives the same bytes.
            number.value().is_finite().then_some(())?;
            out.extend_from_slice(number.repr().ok()?.to_str().ok()?.as_bytes());
        }
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
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // All bytes, without an early end: the compiler then looks at many at once.
    if bytes.iter().fold(false, |found, byte| found | is_escaped(*byte)) {
        write_escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
    Some(())
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut plain = 0;
    for (index, byte) in bytes.iter().copied().enumerate() {
        if !is_escaped(byte) {
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
}

/// Writes a number of at most six decimals and fifteen digits; false: it is another one.
///
/// No two decimals of fifteen digits are the same double, so what reads back as this number is its
/// shortest text, and so Python's. Below 1e-4 Python writes an exponent.
fn write_short_decimal(out: &mut Vec<u8>, number: f64) -> bool {
    let millionths = (number.abs() * 1e6).round();
    let has_point = number == 0.0 || number.abs() >= 1e-4;
    if !has_point || millionths >= 1e15 || millionths / 1e6 != number.abs() {
        return false;
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let (whole, decimals) = (millionths as u64 / 1_000_000, millionths as u64 % 1_000_000);
    write!(out, "{sign}{whole}.{decimals:06}").expect("memory");
    let zeros = out.iter().rev().take(5).take_while(|digit| **digit == b'0').count();
    out.truncate(out.len() - zeros);
    true
}
