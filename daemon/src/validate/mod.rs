//! What an event must be before it is logged: what is logged always fits PostgreSQL.
//!
//! [`json`] checks data, [`time`] the one attribute that PostgreSQL has a type for, [`attributes`]
//! and [`extensions`] the rest. All of it borrows, allocates nothing, and names the first failure
//! found, in the order: framing, attributes by tag, data. It runs on the worker's private copy
//! only: a client may change its own ring at any time.

pub mod attributes;
pub mod extensions;
pub mod json;
pub mod time;

use certeus_ipc::record::{Attributes, FLAG_OPAQUE, Tag};
use certeus_ipc::verdict::Reason;

/// Limits of a session, fixed when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of data; the attributes have their own, by tag.
    pub event_bytes_max: usize,
    /// Open brackets in JSON data, at most [`json::DEPTH_LIMIT`].
    pub depth_max: u32,
}

/// Checks one event, all but whether its source is allowed.
///
/// Args: `attributes` and `data` as the record will hold them, `flags` of the payload.
pub fn check<'a>(
    attributes: &'a [u8],
    flags: u8,
    data: &[u8],
    limits: Limits,
) -> Result<Attributes<'a>, Reason> {
    if flags & !FLAG_OPAQUE != 0 {
        return Err(Reason::MalformedEvent);
    }
    let parsed = Attributes::parse(attributes).ok_or(Reason::MalformedEvent)?;
    attributes::check(&parsed)?;
    if data.len() > limits.event_bytes_max {
        return Err(Reason::TooLarge);
    }
    if flags & FLAG_OPAQUE == 0 {
        json::check(data, limits.depth_max)?;
    } else if parsed.get(Tag::ContentType).is_none_or(attributes::is_json_content_type) {
        // Opaque bytes that call themselves JSON would hide from every check and query of JSON.
        return Err(Reason::InvalidAttribute);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use certeus_ipc::record::write_payload;

    const LIMITS: Limits = Limits { event_bytes_max: 64, depth_max: 4 };

    fn event<'a>(values: &[(Tag, &'a [u8])]) -> Attributes<'a> {
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        for (tag, value) in values {
            attributes.set(*tag, Some(value));
        }
        attributes
    }

    fn verdict(values: &[(Tag, &[u8])], flags: u8, data: &[u8]) -> Result<(), Reason> {
        let mut bytes = Vec::new();
        write_payload(&mut bytes, &event(values), flags, data);
        let (attributes, data) = bytes[8..].split_at(bytes.len() - 8 - data.len());
        check(attributes, flags, data, LIMITS).map(|_| ())
    }

    #[test]
    fn opaque_data_is_any_bytes_but_needs_another_content_type() {
        let binary: (Tag, &[u8]) = (Tag::ContentType, b"application/octet-stream");
        assert_eq!(verdict(&[binary], FLAG_OPAQUE, b"\x00\xff{"), Ok(()));
        assert_eq!(verdict(&[binary], FLAG_OPAQUE, b""), Ok(()));
        assert_eq!(verdict(&[], FLAG_OPAQUE, b"1"), Err(Reason::InvalidAttribute));
        for json in [&b"application/json"[..], b"Application/JSON; charset=utf-8", b"a/b+json"] {
            let values = [(Tag::ContentType, json)];
            assert_eq!(verdict(&values, FLAG_OPAQUE, b"1"), Err(Reason::InvalidAttribute));
            assert_eq!(verdict(&values, 0, b"1"), Ok(()));
        }
    }

    #[test]
    fn data_that_is_not_opaque_is_json_whatever_its_content_type() {
        let text: (Tag, &[u8]) = (Tag::ContentType, b"text/plain");
        assert_eq!(verdict(&[text], 0, b"\"text\""), Ok(()));
        assert_eq!(verdict(&[text], 0, b"text"), Err(Reason::InvalidJson));
        assert_eq!(verdict(&[], 0, b""), Err(Reason::InvalidJson));
        assert_eq!(verdict(&[], 0, b"[[[[[]]]]]"), Err(Reason::TooDeep));
    }

    #[test]
    fn size_is_that_of_the_data() {
        let binary: (Tag, &[u8]) = (Tag::ContentType, b"application/octet-stream");
        let subject: (Tag, &[u8]) = (Tag::Subject, &[b'x'; 1024]);
        assert_eq!(verdict(&[binary, subject], FLAG_OPAQUE, &[0; 64]), Ok(()));
        assert_eq!(verdict(&[binary], FLAG_OPAQUE, &[0; 65]), Err(Reason::TooLarge));
    }

    #[test]
    fn broken_framing_is_malformed() {
        let flags = 2;
        assert_eq!(verdict(&[], flags, b"1"), Err(Reason::MalformedEvent));
        for attributes in
            [&b"\x01"[..], b"\x01\x05\x00t", b"\x09\x01\x00t", b"\x02\x01\x00i\x01\x01\x00t"]
        {
            let result = check(attributes, 0, b"1", LIMITS);
            assert_eq!(result, Err(Reason::MalformedEvent), "{attributes:?}");
        }
    }
}
