//! `AnyValue` as the JSON that it stands for: what a user would have written, not what OTLP writes.
//!
//! | OTLP | here |
//! |---|---|
//! | string, bool, array | the same |
//! | int64 | a number |
//! | double | a number, always with a point or an exponent; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | bytes | base64, as text |
//! | kvlist, attributes | an object; a key twice is there twice (in `jsonb` the last counts) |
//! | nothing | `null` |

use certeus_ipc::verdict::Reason;
use serde_json::Value;

use super::message::{Document, Node, Read, Schema, Walk};
use crate::door::base64;

/// Values in values; protobuf's own readers stop at 100 messages, which is fewer.
const DEPTH_MAX: usize = 100;

const STRING: u32 = 1;
const BOOL: u32 = 2;
const INT: u32 = 3;
const DOUBLE: u32 = 4;
const ARRAY: u32 = 5;
const KVLIST: u32 = 6;
const BYTES: u32 = 7;

const ANY_VALUE: Schema = &[
    (STRING, "stringValue", false),
    (BOOL, "boolValue", false),
    (INT, "intValue", false),
    (DOUBLE, "doubleValue", false),
    (ARRAY, "arrayValue", false),
    (KVLIST, "kvlistValue", false),
    (BYTES, "bytesValue", false),
];
const VALUES: u32 = 1;
/// Of `ArrayValue` and `KeyValueList`.
const LIST: Schema = &[(VALUES, "values", true)];
const KEY: u32 = 1;
const VALUE: u32 = 2;
const KEY_VALUE: Schema = &[(KEY, "key", false), (VALUE, "value", false)];

/// Appends the object of all pairs that are field `number` of a message.
pub fn write_pairs(
    document: &Document<'_>,
    mut pairs: Walk,
    number: u32,
    out: &mut Vec<u8>,
) -> Read<()> {
    write_members(document, &mut pairs, number, 0, out)
}

/// Appends one value.
pub fn write(document: &Document<'_>, value: Node, out: &mut Vec<u8>) -> Read<()> {
    write_value(document, Some(value), 0, out)
}

/// The value that a message has; none: it is empty, or not there.
fn value_of(document: &Document<'_>, node: Option<Node>) -> Read<Option<(u32, Node)>> {
    let Some(node) = node else { return Ok(None) };
    let (mut fields, mut value) = (document.walk(node, ANY_VALUE)?, None);
    while let Some((number, node)) = fields.next(document)? {
        // A string by its index belongs to profiles, and is to be taken for nothing.
        if number <= BYTES {
            value = Some((number, node));
        }
    }
    Ok(value)
}

fn write_value(
    document: &Document<'_>,
    node: Option<Node>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Read<()> {
    if depth == DEPTH_MAX {
        return Err(Reason::TooDeep.into());
    }
    document.check_room(out, 0)?;
    let Some((kind, value)) = value_of(document, node)? else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    match kind {
        STRING => document.write_text(value, out)?,
        BOOL => out.extend_from_slice(if document.boolean(value)? { b"true" } else { b"false" }),
        INT => write_json(document.signed(value)?, out),
        DOUBLE => match document.double(value)? {
            value if value.is_finite() => write_json(value, out),
            value if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
            value if value > 0.0 => out.extend_from_slice(b"\"Infinity\""),
            _ => out.extend_from_slice(b"\"-Infinity\""),
        },
        ARRAY => {
            let mut values = document.walk(value, LIST)?;
            let mut next = b'[';
            while let Some(value) = values.next_of(document, VALUES)? {
                out.push(std::mem::replace(&mut next, b','));
                write_value(document, Some(value), depth + 1, out)?;
            }
            close(next, b'[', b']', out);
        }
        KVLIST => {
            let mut pairs = document.walk(value, LIST)?;
            write_members(document, &mut pairs, VALUES, depth + 1, out)?;
        }
        BYTES => {
            let blob = document.blob(value)?;
            document.check_room(out, blob.len())?;
            out.push(b'"');
            base64::encode(&blob, out);
            out.push(b'"');
        }
        other => unreachable!("field {other} was not chosen"),
    }
    Ok(())
}

fn write_members(
    document: &Document<'_>,
    pairs: &mut Walk,
    number: u32,
    depth: usize,
    out: &mut Vec<u8>,
) -> Read<()> {
    let mut next = b'{';
    while let Some(pair) = pairs.next_of(document, number)? {
        out.push(std::mem::replace(&mut next, b','));
        let (key, value) = parts(document, pair)?;
        match key {
            Some(key) => document.write_text(key, out)?,
            None => out.extend_from_slice(b"\"\""),
        }
        out.push(b':');
        write_value(document, value, depth, out)?;
    }
    close(next, b'{', b'}', out);
    Ok(())
}

fn close(next: u8, open: u8, close: u8, out: &mut Vec<u8>) {
    if next == open {
        out.push(open);
    }
    out.push(close);
}

/// Key and value of a pair.
fn parts(document: &Document<'_>, pair: Node) -> Read<(Option<Node>, Option<Node>)> {
    let (mut fields, mut key, mut value) = (document.walk(pair, KEY_VALUE)?, None, None);
    while let Some((number, node)) = fields.next(document)? {
        match number {
            KEY => key = Some(node),
            VALUE => value = Some(node),
            _ => {}
        }
    }
    Ok((key, value))
}

/// The text that the last pair with this key has; none: there is none, or it has another value.
pub fn text_of(
    document: &Document<'_>,
    mut pairs: Walk,
    number: u32,
    wanted: &str,
) -> Read<Option<String>> {
    let mut found = None;
    while let Some(pair) = pairs.next_of(document, number)? {
        let (Some(key), value) = parts(document, pair)? else { continue };
        if document.text(key)? != wanted {
            continue;
        }
        found = match value_of(document, value)? {
            Some((STRING, text)) => Some(document.text(text)?.into_owned()),
            _ => None,
        };
    }
    Ok(found)
}

pub fn write_json(value: impl Into<Value>, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value.into()).expect("memory takes it");
}
