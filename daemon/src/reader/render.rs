//! Events as text: JSON, one line each, or a stream of server-sent events.
//!
//! ```text
//! lines  {"seq": 7, ..., "data": {...}}⏎         {"gap": {"first_seq": 8, ...}}⏎
//! events the same, as CloudEvents whose extensions are named as that specification wants
//! sse    id: 7⏎ data: an event⏎ ⏎                event: gap⏎ id: 9⏎ data: {...}⏎ ⏎       id: 12⏎ ⏎
//! ```
//!
//! Attributes have CloudEvents' names, of which only `lines` has one that its clients would refuse:
//! `recorded_at`, elsewhere `recordedat`. `data` is the logged text itself: parsing it would change
//! numbers and order. Raw line ends in it are white space between tokens and become spaces; in
//! every other text they are escaped. So a producer cannot end a line, nor a server-sent event.
//!
//! What is not taken is still looked at: `last_seq` says how far, and a server-sent stream ends in
//! an `id:` without data, which moves the client's `Last-Event-ID` and dispatches nothing. Gaps
//! pass every filter: nobody knows whose events they were.

use std::io::Write;

use certeus_ipc::record::{FLAG_OPAQUE, Tag};
use serde_json::{Deserializer, Value};

use super::batch::{Batch, Gap, RowView, day_of};

/// Of what is printed for programs; the same as the command line's.
pub const SCHEMA_VERSION: u32 = 1;

/// What an extension cannot pass for.
const OWN_NAMES: [&str; 16] = [
    "schema_version",
    "seq",
    "recorded_at",
    "recordedat",
    "specversion",
    "source",
    "id",
    "type",
    "subject",
    "time",
    "dataschema",
    "datacontenttype",
    "tenant",
    "verdict",
    "data",
    "data_base64",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lines,
    Events,
    Sse,
}

impl Form {
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "lines" => Some(Self::Lines),
            "events" => Some(Self::Events),
            "sse" => Some(Self::Sse),
            _ => None,
        }
    }

    fn recorded_at(self) -> &'static str {
        if self == Self::Lines { "recorded_at" } else { "recordedat" }
    }
}

/// A value, or with a trailing `*` the beginning of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Match {
    #[default]
    Any,
    Exact(String),
    Prefix(String),
}

impl Match {
    #[must_use]
    pub fn of_pattern(pattern: &str) -> Self {
        match pattern.strip_suffix('*') {
            Some("") => Self::Any,
            Some(prefix) => Self::Prefix(prefix.to_string()),
            None => Self::Exact(pattern.to_string()),
        }
    }

    fn takes(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => value == Some(wanted.as_bytes()),
            Self::Prefix(prefix) => value.is_some_and(|value| value.starts_with(prefix.as_bytes())),
        }
    }
}

/// Which events are taken. One whose producer is not known, after damage, belongs to no tenant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub tenant: Option<String>,
    pub event_type: Match,
    pub source: Match,
}

impl Filter {
    fn takes(&self, row: &RowView<'_>) -> bool {
        let tenant = || row.producer.map(|producer| producer.tenant.as_str());
        self.tenant.as_deref().is_none_or(|wanted| tenant() == Some(wanted))
            && self.event_type.takes(row.record.attributes.get(Tag::Type))
            && self.source.takes(source_of(row))
    }
}

/// Which part of a batch is rendered, and how.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub form: Form,
    pub after_seq: u64,
    /// Included.
    pub until_seq: u64,
    pub events_max: usize,
    /// Kept but for an event that is larger by itself, and for the last `id:`.
    pub bytes_max: usize,
    pub versioned: bool,
    /// Whether gaps stand in the text too.
    pub gaps: bool,
}

impl Scope {
    #[must_use]
    pub fn whole(form: Form) -> Self {
        Self {
            form,
            after_seq: 0,
            until_seq: u64::MAX,
            events_max: usize::MAX,
            bytes_max: usize::MAX,
            versioned: false,
            gaps: true,
        }
    }
}

#[derive(Debug, Default)]
pub struct Rendered {
    pub bytes: Vec<u8>,
    /// How many were taken.
    pub events: usize,
    /// The last number that was looked at; never less than `after_seq`.
    pub last_seq: u64,
    /// The batch goes on behind `last_seq`.
    pub more: bool,
    /// Those of the numbers that were looked at.
    pub gaps: Vec<Gap>,
}

/// Renders what the filter takes of the batch, from `after_seq` on.
#[must_use]
pub fn render(batch: &Batch, filter: &Filter, scope: &Scope) -> Rendered {
    let mut told = Rendered { last_seq: scope.after_seq, ..Rendered::default() };
    let end = batch.last_seq.min(scope.until_seq);
    let mut told_seq = scope.after_seq;
    let mut gaps = batch.gaps.iter().peekable();
    let mut index = batch.row_behind(scope.after_seq);
    while told.last_seq < end && told.events < scope.events_max {
        let row = (index < batch.rows()).then(|| batch.row(index)).filter(|row| row.seq <= end);
        let before = told.bytes.len();
        let row_seq = row.as_ref().map_or(u64::MAX, |row| row.seq);
        if let Some(gap) = gaps.next_if(|gap| gap.first_seq < row_seq) {
            let first_seq = gap.first_seq.max(told.last_seq + 1);
            let gap = Gap { first_seq, last_seq: gap.last_seq.min(end), ..*gap };
            if first_seq > gap.last_seq {
                continue;
            }
            if scope.gaps {
                write_gap(&gap, scope, &mut told.bytes);
                if before > 0 && told.bytes.len() > scope.bytes_max {
                    told.bytes.truncate(before);
                    break;
                }
                told_seq = gap.last_seq;
            }
            told.last_seq = gap.last_seq;
            told.gaps.push(gap);
            continue;
        }
        let Some(row) = row else {
            told.last_seq = end;
            break;
        };
        if filter.takes(&row) {
            write_event(&row, scope, &mut told.bytes);
            if before > 0 && told.bytes.len() > scope.bytes_max {
                told.bytes.truncate(before);
                break;
            }
            told.events += 1;
            told_seq = row.seq;
        }
        told.last_seq = row.seq;
        index += 1;
    }
    if scope.form == Form::Sse && told.last_seq > told_seq {
        put(&mut told.bytes, format_args!("id: {}\n\n", told.last_seq));
    }
    told.more = told.last_seq < end;
    told
}

fn put(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("memory takes it");
}

fn write_gap(gap: &Gap, scope: &Scope, out: &mut Vec<u8>) {
    let Gap { first_seq, last_seq, reason } = gap;
    let range = format!(
        "{{\"first_seq\": {first_seq}, \"last_seq\": {last_seq}, \"reason\": \"{reason}\"}}"
    );
    match scope.form {
        Form::Sse => put(out, format_args!("event: gap\nid: {last_seq}\ndata: {range}\n\n")),
        Form::Lines | Form::Events if scope.versioned => {
            put(out, format_args!("{{\"schema_version\": {SCHEMA_VERSION}, \"gap\": {range}}}\n"));
        }
        Form::Lines | Form::Events => put(out, format_args!("{{\"gap\": {range}}}\n")),
    }
}

fn write_event(row: &RowView<'_>, scope: &Scope, out: &mut Vec<u8>) {
    if scope.form == Form::Sse {
        put(out, format_args!("id: {}\ndata: ", row.seq));
    }
    out.push(b'{');
    if scope.versioned {
        put(out, format_args!("\"schema_version\": {SCHEMA_VERSION}, "));
    }
    write_attributes(row, scope.form, out);
    if let Some(text) = row.record.attributes.get(Tag::Extensions) {
        write_extensions(text, out);
    }
    write_data(row, out);
    out.extend_from_slice(if scope.form == Form::Sse { b"}\n\n" } else { b"}\n" });
}

fn source_of<'a>(row: &RowView<'a>) -> Option<&'a [u8]> {
    let own = row.record.attributes.get(Tag::Source);
    own.or(row.producer.map(|producer| producer.source.as_bytes()))
}

fn write_attributes(row: &RowView<'_>, form: Form, out: &mut Vec<u8>) {
    let (header, attributes) = (&row.record.header, &row.record.attributes);
    put(out, format_args!("\"seq\": {}, \"{}\": \"", row.seq, form.recorded_at()));
    write_time(row.recorded_at_ns, out);
    out.extend_from_slice(b"\", \"specversion\": \"1.0\"");
    let id = attributes.get(Tag::Id);
    let tenant = row.producer.map(|producer| producer.tenant.as_bytes());
    for (name, value) in [
        ("source", source_of(row)),
        ("id", id),
        ("type", attributes.get(Tag::Type)),
        ("subject", attributes.get(Tag::Subject)),
        ("time", attributes.get(Tag::Time)),
        ("dataschema", attributes.get(Tag::DataSchema)),
        ("datacontenttype", attributes.get(Tag::ContentType)),
        ("tenant", tenant),
        ("verdict", Some(header.verdict.word().as_bytes())),
    ] {
        if let Some(value) = value {
            put(out, format_args!(", \"{name}\": "));
            write_string(&String::from_utf8_lossy(value), out);
        }
    }
    // Readers see an id in every event: what has none of its own gets producer and ticket.
    if id.is_none() {
        put(out, format_args!(", \"id\": \"{}:{}\"", header.producer_no, header.ticket));
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("memory takes it");
}

/// RFC 3339 in UTC; what is below a millisecond is cut off, so that no time moves into the future.
fn write_time(unix_ns: u64, out: &mut Vec<u8>) {
    let day = day_of(unix_ns);
    let ms = unix_ns / 1_000_000 % 86_400_000;
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let (year, month, day, ms) = (day / 10_000, day / 100 % 100, day % 100, ms % 1000);
    put(
        out,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"),
    );
}

/// Merges a flat JSON object.
fn write_extensions(text: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    if walk_extensions(text, out).is_none() {
        // It was checked before it was logged: what is none cannot be told as one.
        out.truncate(before);
    }
}

fn walk_extensions(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    while rest != b"}" {
        let (name, _, behind) = value_at(rest)?;
        let (value, raw, behind) = value_at(behind.trim_ascii_start().strip_prefix(b":")?)?;
        let name = name.as_str()?;
        if !OWN_NAMES.contains(&name) {
            out.extend_from_slice(b", ");
            write_string(name, out);
            out.extend_from_slice(b": ");
            match value {
                Value::String(value) => write_string(&value, out),
                _ => write_on_one_line(raw.trim_ascii(), out),
            }
        }
        rest = behind.trim_ascii_start();
        rest = rest.strip_prefix(b",").map_or(rest, <[u8]>::trim_ascii_start);
    }
    Some(())
}

/// The value at the front, its text, and what follows.
fn value_at(text: &[u8]) -> Option<(Value, &[u8], &[u8])> {
    let mut stream = Deserializer::from_slice(text).into_iter::<Value>();
    let value = stream.next()?.ok()?;
    let (raw, behind) = text.split_at(stream.byte_offset());
    Some((value, raw, behind))
}

fn write_data(row: &RowView<'_>, out: &mut Vec<u8>) {
    let data = row.record.data;
    if row.record.header.flags & FLAG_OPAQUE != 0 || std::str::from_utf8(data).is_err() {
        out.extend_from_slice(b", \"data_base64\": \"");
        write_base64(data, out);
        out.push(b'"');
    } else if !data.trim_ascii().is_empty() {
        out.extend_from_slice(b", \"data\": ");
        write_on_one_line(data, out);
    }
}

/// Raw line ends in JSON text are white space between tokens.
fn write_on_one_line(text: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    out.extend_from_slice(text);
    for byte in &mut out[before..] {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// RFC 4648, section 4.
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS[(bits >> shift & 63) as usize];
            out.push(if at <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests;
