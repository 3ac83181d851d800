//! The extension attributes of an event: one flat JSON object.
//!
//! At most 32 names of 1..20 characters `[a-z0-9]`, each once, none of CloudEvents' own; values are
//! strings, booleans, or integers of 64 bits (CloudEvents says 32: sequence numbers need more).

use certeus_ipc::record::EXTENSIONS_COUNT_MAX;
use certeus_ipc::verdict::Reason;

use super::json;

const NAME_BYTES_MAX: usize = 20;
/// What CloudEvents calls its own attributes: an extension of that name would be told twice.
const RESERVED: [&[u8]; 10] = [
    b"specversion",
    b"id",
    b"source",
    b"type",
    b"subject",
    b"time",
    b"dataschema",
    b"datacontenttype",
    b"data",
    b"database64",
];

/// Checks `text`. A NUL, a lone surrogate and broken UTF-8 keep their own reasons.
pub fn check(text: &[u8]) -> Result<(), Reason> {
    json::check(text, 1).map_err(|reason| match reason {
        Reason::InvalidUtf8 | Reason::NulCharacter | Reason::LoneSurrogate => reason,
        _ => Reason::InvalidExtensions,
    })?;
    proper(text).then_some(()).ok_or(Reason::InvalidExtensions)
}

/// Walks `text`, which is known to be JSON without nesting below its outermost bracket.
fn proper(text: &[u8]) -> bool {
    let Some(mut rest) = text.trim_ascii().strip_prefix(b"{") else {
        return false;
    };
    let mut names: [&[u8]; EXTENSIONS_COUNT_MAX] = [&[]; EXTENSIONS_COUNT_MAX];
    let mut count = 0;
    loop {
        rest = rest.trim_ascii_start();
        let Some((name, behind)) = string(rest) else {
            return count == 0 && rest == b"}";
        };
        if !proper_name(name) || count == EXTENSIONS_COUNT_MAX || names[..count].contains(&name) {
            return false;
        }
        names[count] = name;
        count += 1;
        rest = behind.trim_ascii_start()[1..].trim_ascii_start();
        let Some(behind) = value(rest) else {
            return false;
        };
        match behind.trim_ascii_start() {
            [b',', more @ ..] => rest = more,
            _ => return true,
        }
    }
}

fn proper_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && !RESERVED.contains(&name)
}

/// What stands between the quotes of the string at the front, escapes as they are, and what
/// follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    while inner[at] != b'"' {
        at += if inner[at] == b'\\' { 2 } else { 1 };
    }
    Some((&inner[..at], &inner[at + 1..]))
}

/// What follows a value that extensions may have.
fn value(text: &[u8]) -> Option<&[u8]> {
    if let Some((_, rest)) = string(text) {
        return Some(rest);
    }
    let end =
        text.iter().position(|byte| matches!(byte, b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))?;
    let (word, rest) = text.split_at(end);
    let integer = || std::str::from_utf8(word).is_ok_and(|word| word.parse::<i64>().is_ok());
    (matches!(word, b"true" | b"false") || integer()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> String {
        let members: Vec<_> = (0..count).map(|at| format!("\"n{at}\":{at}")).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn flat_objects_with_proper_names_pass() {
        for text in [
            "{}".to_string(),
            " { } ".into(),
            "{\"a\":\"\"}".into(),
            "{ \"a\" : \"x\\\",}\" , \"b2\":-1,\"c\" :true\n}".into(),
            "{\"a\":9223372036854775807,\"b\":-9223372036854775808}".into(),
            "{\"abcdefghij0123456789\":false}".into(),
            "{\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}".into(),
            names(EXTENSIONS_COUNT_MAX),
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "".to_string(),
            "1".into(),
            "[]".into(),
            "null".into(),
            "{".into(),
            "{\"\":1}".into(),
            "{\"A\":1}".into(),
            "{\"a-b\":1}".into(),
            "{\"\\u0061\":1}".into(),
            "{\"abcdefghij0123456789x\":1}".into(),
            "{\"a\":1,\"a\":1}".into(),
            "{\"source\":\"x\"}".into(),
            "{\"a\":null}".into(),
            "{\"a\":1.0}".into(),
            "{\"a\":1e2}".into(),
            "{\"a\":9223372036854775808}".into(),
            "{\"a\":{}}".into(),
            "{\"a\":[]}".into(),
            "[1]".into(),
            names(EXTENSIONS_COUNT_MAX + 1),
        ] {
            assert_eq!(check(text.as_bytes()), Err(Reason::InvalidExtensions), "{text}");
        }
        for (text, reason) in [
            (&b"{\"a\":\"\\u0000\"}"[..], Reason::NulCharacter),
            (b"{\"a\":\"\\ud800\"}", Reason::LoneSurrogate),
            (b"{\"a\":\"\xff\"}", Reason::InvalidUtf8),
        ] {
            assert_eq!(check(text), Err(reason));
        }
    }
}
