//! The attributes of an event: lengths, text, media type.
//!
//! Text is what CloudEvents calls a String: UTF-8 without control characters (C0, DEL, C1) and
//! without Unicode's noncharacters. A NUL and broken UTF-8 are told by their own reasons.

use certeus_ipc::record::{Attributes, Tag};
use certeus_ipc::verdict::Reason;

use super::{extensions, time};

/// Checks every attribute that is given, and that `type` is.
pub fn check(attributes: &Attributes<'_>) -> Result<(), Reason> {
    if attributes.get(Tag::Type).is_none() {
        return Err(Reason::InvalidAttribute);
    }
    for tag in Tag::ALL {
        if let Some(value) = attributes.get(tag) {
            check_value(tag, value)?;
        }
    }
    Ok(())
}

fn check_value(tag: Tag, value: &[u8]) -> Result<(), Reason> {
    match tag {
        Tag::Time => time::parse_rfc3339(value).map(|_| ()).ok_or(Reason::InvalidTime),
        Tag::Extensions if value.len() > tag.bytes_max() => Err(Reason::InvalidExtensions),
        Tag::Extensions => extensions::check(value),
        _ if value.is_empty() || value.len() > tag.bytes_max() => Err(Reason::InvalidAttribute),
        Tag::ContentType => {
            check_text(value)?;
            is_media_type(value).then_some(()).ok_or(Reason::InvalidAttribute)
        }
        _ => check_text(value),
    }
}

/// Whether `value` is text as CloudEvents means it.
pub fn check_text(value: &[u8]) -> Result<(), Reason> {
    if value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Ok(());
    }
    if value.contains(&0) {
        return Err(Reason::NulCharacter);
    }
    let text = std::str::from_utf8(value).map_err(|_| Reason::InvalidUtf8)?;
    let improper = |character: char| {
        let code = character as u32;
        character.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    if text.chars().any(improper) { Err(Reason::InvalidAttribute) } else { Ok(()) }
}

/// `type/subtype` before any parameters, both of RFC 9110's token characters.
fn is_media_type(value: &[u8]) -> bool {
    let token = |part: &[u8]| {
        !part.is_empty()
            && part
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let essence = essence(value);
    let slash = essence.iter().position(|byte| *byte == b'/');
    slash.is_some_and(|at| token(&essence[..at]) && token(&essence[at + 1..]))
}

fn essence(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

/// Whether data of this content type is JSON: `application/json`, or anything that ends in `+json`,
/// whatever its case and parameters. (An event without content type is JSON too.)
#[must_use]
pub fn is_json_content_type(content_type: &[u8]) -> bool {
    let essence = essence(content_type);
    let suffix = essence.len().checked_sub(5).map(|at| &essence[at..]);
    essence.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(tag: Tag, value: &[u8]) -> Option<Reason> {
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        attributes.set(tag, Some(value));
        check(&attributes).err()
    }

    #[test]
    fn an_event_has_a_type() {
        assert_eq!(check(&Attributes::default()), Err(Reason::InvalidAttribute));
    }

    #[test]
    fn text_has_its_length() {
        let text = [Tag::Type, Tag::Id, Tag::Subject, Tag::Source, Tag::DataSchema];
        for tag in text {
            assert_eq!(reason(tag, b""), Some(Reason::InvalidAttribute), "{tag:?}");
            assert_eq!(reason(tag, b"x"), None, "{tag:?}");
            assert_eq!(reason(tag, &vec![b'x'; tag.bytes_max()]), None, "{tag:?}");
            let long = vec![b'x'; tag.bytes_max() + 1];
            assert_eq!(reason(tag, &long), Some(Reason::InvalidAttribute), "{tag:?}");
        }
    }

    #[test]
    fn text_is_utf8_without_control_characters() {
        for (value, expected) in [
            (&b"caf\xc3\xa9 \xf0\x9f\x98\x80"[..], None),
            (b"a\x00b", Some(Reason::NulCharacter)),
            (b"a\xffb", Some(Reason::InvalidUtf8)),
            (b"\xed\xa0\x80", Some(Reason::InvalidUtf8)),
            (b"a\nb", Some(Reason::InvalidAttribute)),
            (b"a\x7fb", Some(Reason::InvalidAttribute)),
            (b"a\xc2\x85b", Some(Reason::InvalidAttribute)),
            (b"a\xef\xb7\x90b", Some(Reason::InvalidAttribute)),
            (b"a\xef\xbf\xbfb", Some(Reason::InvalidAttribute)),
        ] {
            for tag in [Tag::Type, Tag::Id, Tag::Subject, Tag::Source, Tag::DataSchema] {
                assert_eq!(reason(tag, value), expected, "{tag:?} {value:?}");
            }
        }
    }

    #[test]
    fn content_type_is_a_media_type() {
        for value in ["text/plain", "application/vnd.x+json; charset=utf-8", "A/b ;q=1"] {
            assert_eq!(reason(Tag::ContentType, value.as_bytes()), None, "{value}");
        }
        for value in ["", "text", "/", "text/", "/plain", "te xt/plain", "text/pl\u{e4}in", ";a/b"]
        {
            let expected = Some(Reason::InvalidAttribute);
            assert_eq!(reason(Tag::ContentType, value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn time_and_extensions_have_their_own_reasons() {
        assert_eq!(reason(Tag::Time, b"2026-01-01T00:00:00Z"), None);
        assert_eq!(reason(Tag::Time, b"today"), Some(Reason::InvalidTime));
        assert_eq!(reason(Tag::Time, b""), Some(Reason::InvalidTime));
        assert_eq!(reason(Tag::Extensions, b"{\"a\":1}"), None);
        assert_eq!(reason(Tag::Extensions, b"{\"A\":1}"), Some(Reason::InvalidExtensions));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(Tag::Extensions.bytes_max()));
        assert_eq!(reason(Tag::Extensions, long.as_bytes()), Some(Reason::InvalidExtensions));
    }

    #[test]
    fn json_content_types_are_known_by_their_name() {
        for value in
            ["application/json", "Application/JSON;charset=utf-8", "a/b+json", "A/B+JSON ; x=1"]
        {
            assert!(is_json_content_type(value.as_bytes()), "{value}");
        }
        for value in ["text/json", "application/jsonl", "text/plain; x=+json", "json", ""] {
            assert!(!is_json_content_type(value.as_bytes()), "{value}");
        }
    }
}
