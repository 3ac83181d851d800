//! Payloads that somebody else has written: the events of a whole buffer, for one call of Python.
//!
//! A buffer is a sequence of `bytes u32, little-endian │ payload` (`record.rs`). Whoever writes one
//! is part of this program, so one that is wrong is a bug and is told as such; yet it is looked at
//! before a byte of it is in the ring, where the worker would end the session for it.

use crate::record::{Attributes, FLAG_OPAQUE, PREFIX_BYTES};

const LENGTH_BYTES: usize = 4;

/// The payload at `at`, and where the next one begins. The message says what is wrong.
pub fn next(payloads: &[u8], at: usize) -> Result<(&[u8], usize), &'static str> {
    let rest = payloads.get(at..).ok_or("it begins behind the end")?;
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or("its length is cut off")?;
    let length = u32::from_le_bytes(*length) as usize;
    let payload = rest.get(..length).ok_or("it reaches behind the end")?;
    Ok((payload, at + LENGTH_BYTES + length))
}

/// Bytes of the data of a payload whose framing is proper.
pub fn data_bytes(payload: &[u8]) -> Result<usize, &'static str> {
    let (prefix, body) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or("it has no prefix")?;
    let [length @ .., flags, 0, 0, 0] = prefix else {
        return Err("its prefix does not end in zeros");
    };
    if flags & !FLAG_OPAQUE != 0 {
        return Err("it has unknown flags");
    }
    let length = u32::from_le_bytes(*length) as usize;
    let attributes = body.get(..length).ok_or("its attributes are cut off")?;
    Attributes::parse(attributes).ok_or("its attributes cannot be parsed")?;
    Ok(body.len() - length)
}
