//! OTLP: a request to export logs becomes an event for each of its records.
//!
//! `ExportLogsServiceRequest` nests: resource, scope, record. Each record is one event, in the
//! order in which they stand; its data is the whole record, so that nothing of it is lost, and its
//! attributes are taken from there, so that nobody needs to know OTLP to find it.
//!
//! | event | of the record |
//! |---|---|
//! | `type` | `event_name`, where it has one that is a proper type; else `otel.log` |
//! | `source` | `service.namespace/service.name` of its resource, or the name alone; else `otel` |
//! | `time` | `time_unix_nano`, else `observed_time_unix_nano`; all nine digits |
//! | extension `traceparent` | `00-trace_id-span_id-flags`, where both ids are there |
//! | extensions `severitynumber`, `severitytext` | `severity_number`, `severity_text` |
//! | `data` | an object of its fields by protobuf's names, with `resource` and `scope` |
//! | `id`, `subject` | none: OTLP has no key by which a record could be known again |
//!
//! What is not given, or is 0 or empty, which is the same in proto3, is left out. An `event_name`
//! or a `severity_text` that no attribute can hold is in the data alone; a source that none can
//! hold is refused, since it decides who may append.
//!
//! A request comes in parts ([`Logs::fill`]): two bytes can be a record, and each record repeats
//! what its resource says, so a body of some megabytes may stand for terabytes. No more than a part
//! is ever in memory, and who takes it decides how fast they come.
//!
//! A body is refused as a whole where its frame is not in its notation; what is wrong within a
//! record, a resource or a scope is told of each record that has it.
//!
//! Source: opentelemetry-proto 1.x; CloudEvents' extensions "Distributed Tracing" and "Severity".

mod index;
mod message;
mod record;
mod value;

use self::index::Index;
use self::message::{Document, Node, Read, Schema, Walk};
use self::record::{Buffers, Common, RESOURCE, SCOPE, origin, push, source_of};
use super::Encoder;
use super::cloudevents::NoSuchBody;

/// Of one part, after which nothing more is put into it.
pub const PART_BYTES: usize = 1024 * 1024;
/// Records, scopes and resources of one part: empty ones, too, are some work.
pub const PART_STEPS: usize = 8192;

const RESOURCE_LOGS: u32 = 1;
const REQUEST: Schema = &[(RESOURCE_LOGS, "resourceLogs", true)];

/// `ResourceLogs` and `ScopeLogs` have the same numbers.
const ORIGIN: u32 = 1;
const CHILDREN: u32 = 2;
const SCHEMA_URL: u32 = 3;
const RESOURCE_FIELDS: Schema =
    &[(ORIGIN, "resource", false), (CHILDREN, "scopeLogs", true), (SCHEMA_URL, "schemaUrl", false)];
const SCOPE_FIELDS: Schema =
    &[(ORIGIN, "scope", false), (CHILDREN, "logRecords", true), (SCHEMA_URL, "schemaUrl", false)];

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    Binary,
    Json,
}

/// Resources or scopes: what is in one of them, found in one pass.
struct Group {
    origin: Option<Node>,
    schema_url: Option<Node>,
    /// Goes on to other fields, too.
    children: Walk,
}

impl Group {
    fn read(document: &Document<'_>, node: Node, schema: Schema) -> Read<Self> {
        let all = document.walk(node, schema)?;
        let mut group = Self { origin: None, schema_url: None, children: all };
        let mut fields = all;
        while let Some((number, node)) = fields.next(document)? {
            match number {
                ORIGIN => group.origin = Some(node),
                SCHEMA_URL => group.schema_url = Some(node),
                _ => {}
            }
        }
        Ok(group)
    }
}

/// The resource whose scopes are read.
struct Resource {
    scopes: Walk,
    /// Its source and its JSON.
    told: Read<(String, Vec<u8>)>,
}

/// The scope whose records are read.
struct Scope {
    records: Walk,
    json: Read<Vec<u8>>,
}

/// A request of which a part was read.
pub struct Logs {
    brackets: Option<Index>,
    resources: Walk,
    resource: Option<Resource>,
    scope: Option<Scope>,
    buffers: Buffers,
}

impl Logs {
    /// Looks whether the frame of `body` is in its notation, down to where each record begins and
    /// ends; `body` is given again to [`Logs::fill`].
    pub fn new(body: &[u8], notation: Notation) -> Result<Self, NoSuchBody> {
        let brackets = match notation {
            Notation::Binary => None,
            Notation::Json => Some(Index::new(body).ok_or(NoSuchBody)?),
        };
        let document = Document { text: body, brackets: brackets.as_ref(), bytes_max: 0 };
        let resources = check(&document).map_err(|_| NoSuchBody)?;
        let buffers = Buffers::default();
        Ok(Self { brackets, resources, resource: None, scope: None, buffers })
    }

    /// The most that is held beside a body while parts are made of it.
    #[must_use]
    pub fn held_bytes_max(body: &[u8], notation: Notation) -> usize {
        match notation {
            Notation::Binary => 0,
            Notation::Json => Index::bytes_max(body),
        }
    }

    /// Puts the next part into an encoder, perhaps an empty one; false: nothing is left.
    pub fn fill(&mut self, body: &[u8], encoder: &mut Encoder<'_>) -> bool {
        let bytes_max = encoder.event_bytes_max();
        let document = Document { text: body, brackets: self.brackets.as_ref(), bytes_max };
        for _ in 0..PART_STEPS {
            if encoder.payloads.len() >= PART_BYTES {
                break;
            }
            match (&mut self.scope, &mut self.resource) {
                (Some(scope), Some(resource)) => {
                    match checked(scope.records.next_of(&document, CHILDREN)) {
                        Some(record) => {
                            let outcome = common(resource, scope).and_then(|common| {
                                push(encoder, &document, record, &common, &mut self.buffers)
                            });
                            encoder.note(outcome);
                        }
                        None => self.scope = None,
                    }
                }
                (_, Some(resource)) => {
                    match checked(resource.scopes.next_of(&document, CHILDREN)) {
                        Some(scope) => self.scope = Some(Scope::read(&document, scope)),
                        None => self.resource = None,
                    }
                }
                _ => match checked(self.resources.next_of(&document, RESOURCE_LOGS)) {
                    Some(resource) => self.resource = Some(Resource::read(&document, resource)),
                    None => return false,
                },
            }
        }
        true
    }
}

impl Resource {
    fn read(document: &Document<'_>, node: Node) -> Self {
        let group = checked(Group::read(document, node, RESOURCE_FIELDS));
        let told = origin(document, &RESOURCE, group.origin, group.schema_url)
            .and_then(|json| Ok((source_of(document, group.origin)?, json)));
        Self { scopes: group.children, told }
    }
}

impl Scope {
    fn read(document: &Document<'_>, node: Node) -> Self {
        let group = checked(Group::read(document, node, SCOPE_FIELDS));
        let json = origin(document, &SCOPE, group.origin, group.schema_url);
        Self { records: group.children, json }
    }
}

fn common<'c>(resource: &'c Resource, scope: &'c Scope) -> Read<Common<'c>> {
    match (&resource.told, &scope.json) {
        (Ok((source, resource)), Ok(scope)) => Ok(Common { source, origins: [resource, scope] }),
        (Err(refusal), _) | (_, Err(refusal)) => Err(refusal.clone()),
    }
}

/// Walks through the whole frame; its resources.
fn check(document: &Document<'_>) -> Read<Walk> {
    let all = document.walk(document.root(), REQUEST)?;
    let mut resources = all;
    while let Some(resource) = resources.next_of(document, RESOURCE_LOGS)? {
        let mut scopes = Group::read(document, resource, RESOURCE_FIELDS)?.children;
        while let Some(scope) = scopes.next_of(document, CHILDREN)? {
            Group::read(document, scope, SCOPE_FIELDS)?;
        }
    }
    Ok(all)
}

fn checked<T>(read: Read<T>) -> T {
    read.unwrap_or_else(|refusal| panic!("the frame was checked: {}", refusal.word()))
}
