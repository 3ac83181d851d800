//! One log record as one event, and what its resource and its scope add to it.

use std::borrow::Cow;

use certeus_ipc::record::{Attributes, Tag};
use certeus_ipc::verdict::Reason;

use super::message::{Document, Node, Read, Schema, Walk};
use super::value;
use crate::door::Encoder;
use crate::door::writer::Object;
use crate::reader::batch::day_of;
use crate::validate::attributes::check_text;

/// The type of a record without a name of its own.
const TYPE: &str = "otel.log";
/// The source of a record whose resource names no service.
const SOURCE: &str = "otel";
/// Of the text of a severity that is an extension, too.
const SEVERITY_TEXT_BYTES_MAX: usize = 255;

const TIME: u32 = 1;
const SEVERITY_NUMBER: u32 = 2;
const SEVERITY_TEXT: u32 = 3;
const BODY: u32 = 5;
const ATTRIBUTES: u32 = 6;
const DROPPED: u32 = 7;
const FLAGS: u32 = 8;
const TRACE_ID: u32 = 9;
const SPAN_ID: u32 = 10;
const OBSERVED_TIME: u32 = 11;
const EVENT_NAME: u32 = 12;
const FIELDS: usize = 13;

const LOG_RECORD: Schema = &[
    (TIME, "timeUnixNano", false),
    (SEVERITY_NUMBER, "severityNumber", false),
    (SEVERITY_TEXT, "severityText", false),
    (BODY, "body", false),
    (ATTRIBUTES, "attributes", true),
    (DROPPED, "droppedAttributesCount", false),
    (FLAGS, "flags", false),
    (TRACE_ID, "traceId", false),
    (SPAN_ID, "spanId", false),
    (OBSERVED_TIME, "observedTimeUnixNano", false),
    (EVENT_NAME, "eventName", false),
];

/// Of `Resource` and `InstrumentationScope`, which have their fields under other numbers.
pub struct Origin {
    member: &'static str,
    schema: Schema,
    /// Text by its name here.
    texts: &'static [(u32, &'static [u8])],
    attributes: u32,
    dropped: u32,
}

pub const RESOURCE: Origin = Origin {
    member: "resource",
    schema: &[(1, "attributes", true), (2, "droppedAttributesCount", false)],
    texts: &[],
    attributes: 1,
    dropped: 2,
};
pub const SCOPE: Origin = Origin {
    member: "scope",
    schema: &[
        (1, "name", false),
        (2, "version", false),
        (3, "attributes", true),
        (4, "droppedAttributesCount", false),
    ],
    texts: &[(1, b"name"), (2, b"version")],
    attributes: 3,
    dropped: 4,
};

/// Writes a member whose value is text, as the document has it; none where there is none.
fn text(
    object: &mut Object<'_>,
    name: &[u8],
    document: &Document<'_>,
    node: Option<Node>,
) -> Read<()> {
    match node {
        Some(node) if !document.text(node)?.is_empty() => {
            document.write_text(node, object.member(name))
        }
        _ => Ok(()),
    }
}

/// Writes a member whose value is a number; none where it is 0.
fn number(object: &mut Object<'_>, name: &[u8], number: u64) {
    if number != 0 {
        value::write_json(number, object.member(name));
    }
}

/// Writes the attributes that are field `field` of a message; none where there are none.
fn pairs(object: &mut Object<'_>, document: &Document<'_>, all: Walk, field: u32) -> Read<()> {
    let mut rest = all;
    match rest.next_of(document, field)? {
        Some(_) => value::write_pairs(document, all, field, object.member(b"attributes")),
        None => Ok(()),
    }
}

fn hex(object: &mut Object<'_>, name: &[u8], bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        let out = object.member(name);
        out.push(b'"');
        write_hex(bytes, out);
        out.push(b'"');
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
}

/// RFC 3339 in UTC, with all nine digits.
fn time_of(unix_ns: u64) -> String {
    let (day, ns) = (day_of(unix_ns), unix_ns % 86_400_000_000_000);
    let (year, month, day) = (day / 10_000, day / 100 % 100, day % 100);
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// `,"resource":{...}` or `,"scope":{...}`; nothing, where nothing is known of it.
pub fn origin(
    document: &Document<'_>,
    origin: &Origin,
    node: Option<Node>,
    schema_url: Option<Node>,
) -> Read<Vec<u8>> {
    let mut out = format!(",\"{}\":", origin.member).into_bytes();
    let mut object = Object::begin(&mut out);
    if let Some(node) = node {
        let all = document.walk(node, origin.schema)?;
        let (mut rest, mut fields) = (all, [None; 5]);
        while let Some((number, node)) = rest.next(document)? {
            if let Some(place) = fields.get_mut(number as usize) {
                *place = Some(node);
            }
        }
        for (number, name) in origin.texts {
            text(&mut object, name, document, fields[*number as usize])?;
        }
        pairs(&mut object, document, all, origin.attributes)?;
        let dropped = fields[origin.dropped as usize];
        let dropped = dropped.map_or(Ok(0), |node| document.unsigned(node))?;
        number(&mut object, b"dropped_attributes_count", dropped);
    }
    text(&mut object, b"schema_url", document, schema_url)?;
    let is_empty = object.is_empty();
    object.end();
    Ok(if is_empty { Vec::new() } else { out })
}

/// The source of what a resource logs: its service's namespace and name.
pub fn source_of(document: &Document<'_>, resource: Option<Node>) -> Read<String> {
    let Some(resource) = resource else { return Ok(SOURCE.into()) };
    let pairs = document.walk(resource, RESOURCE.schema)?;
    let text = |key| -> Read<Option<String>> {
        let text = value::text_of(document, pairs, RESOURCE.attributes, key)?;
        Ok(text.filter(|text| !text.is_empty()))
    };
    Ok(match (text("service.namespace")?, text("service.name")?) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name,
        (_, None) => SOURCE.into(),
    })
}

/// What all records of one scope have in common.
pub struct Common<'c> {
    pub source: &'c str,
    /// `,"resource":{...}` and `,"scope":{...}`, as far as something is known of them.
    pub origins: [&'c [u8]; 2],
}

/// Buffers that are used again for each record.
#[derive(Debug, Default)]
pub struct Buffers {
    data: Vec<u8>,
    extensions: Vec<u8>,
}

/// A record whose fields were found, and its numbers read.
struct LogRecord<'d, 'a> {
    document: &'d Document<'a>,
    all: Walk,
    /// By number; of repeated ones any.
    fields: [Option<Node>; FIELDS],
    severity: i32,
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
}

impl<'d, 'a> LogRecord<'d, 'a> {
    fn read(document: &'d Document<'a>, node: Node) -> Read<Self> {
        let all = document.walk(node, LOG_RECORD)?;
        let (mut rest, mut fields) = (all, [None; FIELDS]);
        while let Some((number, node)) = rest.next(document)? {
            if let Some(place) = fields.get_mut(number as usize) {
                *place = Some(node);
            }
        }
        let field = |number: u32| fields[number as usize];
        let severity = field(SEVERITY_NUMBER).map_or(Ok(0), |node| document.signed(node))?;
        Ok(Self {
            document,
            all,
            fields,
            // As every reader of this extension takes it, SQL's int among them.
            severity: i32::try_from(severity).map_err(|_| document.broken())?,
            trace_id: field(TRACE_ID).map_or(Ok(None), |node| document.id(node))?,
            span_id: field(SPAN_ID).map_or(Ok(None), |node| document.id(node))?,
        })
    }

    fn field(&self, number: u32) -> Option<Node> {
        self.fields[number as usize]
    }

    fn unsigned(&self, number: u32) -> Read<u64> {
        self.field(number).map_or(Ok(0), |node| self.document.unsigned(node))
    }

    /// A text that an attribute can hold; none: there is none, or only data can hold it.
    fn proper(&self, number: u32, bytes_max: usize) -> Read<Option<Cow<'a, str>>> {
        let Some(node) = self.field(number) else { return Ok(None) };
        let text = self.document.text(node)?;
        let fits = (1..=bytes_max).contains(&text.len()) && check_text(text.as_bytes()).is_ok();
        Ok(fits.then_some(text))
    }

    /// Appends the whole record as one object, but for what it has in common with others.
    fn write_data(&self, out: &mut Vec<u8>) -> Read<()> {
        let document = self.document;
        let mut object = Object::begin(out);
        if let Some(body) = self.field(BODY) {
            value::write(document, body, object.member(b"body"))?;
        }
        pairs(&mut object, document, self.all, ATTRIBUTES)?;
        if self.severity != 0 {
            value::write_json(self.severity, object.member(b"severity_number"));
        }
        text(&mut object, b"severity_text", document, self.field(SEVERITY_TEXT))?;
        text(&mut object, b"event_name", document, self.field(EVENT_NAME))?;
        number(&mut object, b"time_unix_nano", self.unsigned(TIME)?);
        number(&mut object, b"observed_time_unix_nano", self.unsigned(OBSERVED_TIME)?);
        hex(&mut object, b"trace_id", self.trace_id.as_ref().map(|id| &id[..]));
        hex(&mut object, b"span_id", self.span_id.as_ref().map(|id| &id[..]));
        number(&mut object, b"flags", self.unsigned(FLAGS)?);
        number(&mut object, b"dropped_attributes_count", self.unsigned(DROPPED)?);
        object.end();
        Ok(())
    }

    /// Appends the object of extensions; false: there are none.
    fn write_extensions(&self, out: &mut Vec<u8>) -> Read<bool> {
        let mut object = Object::begin(out);
        if let (Some(trace_id), Some(span_id)) = (self.trace_id, self.span_id) {
            let out = object.member(b"traceparent");
            out.extend_from_slice(b"\"00-");
            write_hex(&trace_id, out);
            out.push(b'-');
            write_hex(&span_id, out);
            out.push(b'-');
            write_hex(&self.unsigned(FLAGS)?.to_le_bytes()[..1], out);
            out.push(b'"');
        }
        if self.severity != 0 {
            value::write_json(self.severity, object.member(b"severitynumber"));
        }
        if let Some(text) = self.proper(SEVERITY_TEXT, SEVERITY_TEXT_BYTES_MAX)? {
            value::write_json(&*text, object.member(b"severitytext"));
        }
        let is_empty = object.is_empty();
        object.end();
        Ok(!is_empty)
    }
}

/// Makes one record an event.
pub fn push(
    encoder: &mut Encoder<'_>,
    document: &Document<'_>,
    node: Node,
    common: &Common<'_>,
    buffers: &mut Buffers,
) -> Read<()> {
    let Buffers { data, extensions } = buffers;
    data.clear();
    extensions.clear();
    let record = LogRecord::read(document, node)?;
    record.write_data(data)?;
    // Nothing is copied only to be refused: a resource may be large, and its records many.
    let origins_bytes = common.origins.iter().map(|origin| origin.len()).sum::<usize>();
    if data.len() + origins_bytes > encoder.event_bytes_max() {
        return Err(Reason::TooLarge.into());
    }
    for origin in common.origins.iter().filter(|origin| !origin.is_empty()) {
        let is_empty = data == b"{}";
        data.pop();
        data.extend_from_slice(&origin[usize::from(is_empty)..]);
        data.push(b'}');
    }
    let has_extensions = record.write_extensions(extensions)?;
    let name = record.proper(EVENT_NAME, Tag::Type.bytes_max())?;
    let time = match record.unsigned(TIME)? {
        0 => record.unsigned(OBSERVED_TIME)?,
        time => time,
    };
    let time = (time != 0).then(|| time_of(time));
    let mut attributes = Attributes::default();
    attributes.set(Tag::Type, Some(name.as_deref().unwrap_or(TYPE).as_bytes()));
    attributes.set(Tag::Source, Some(common.source.as_bytes()));
    attributes.set(Tag::Time, time.as_deref().map(str::as_bytes));
    attributes.set(Tag::Extensions, has_extensions.then_some(&extensions[..]));
    Ok(encoder.push(&attributes, 0, data)?)
}
