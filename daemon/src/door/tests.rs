//! Tests of the encoder; each format has its own file.

mod cloudevents;
mod journal;
mod lines;
mod otlp;
mod random;
mod syslog;

use certeus_ipc::record::{Attributes, FLAG_OPAQUE, PREFIX_BYTES, Tag};
use certeus_ipc::verdict::Reason;

use super::{Encoder, Refusal, Rules};
use crate::worker::Sources;

const EVENT_BYTES_MAX: usize = 4096;

/// One event as a payload has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    attributes: Vec<(Tag, String)>,
    opaque: bool,
    data: Vec<u8>,
}

fn rules() -> Rules {
    Rules {
        event_bytes_max: EVENT_BYTES_MAX,
        source: b"door".to_vec(),
        sources: Sources::new(["door", "sensor/*", "/mycontext*", "s"]),
    }
}

fn events(encoder: &Encoder<'_>) -> Vec<Event> {
    let (mut rest, mut events) = (&encoder.payloads[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (payload, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        rest = behind;
        let (prefix, body) = payload.split_at(PREFIX_BYTES);
        let length = u32::from_le_bytes(prefix[..4].try_into().unwrap()) as usize;
        assert_eq!((prefix[4] & !FLAG_OPAQUE, &prefix[5..]), (0, &[0; 3][..]));
        let (attributes, data) = body.split_at(length);
        let attributes = Attributes::parse(attributes).expect("framing is proper");
        let attribute = |tag| {
            let value = attributes.get(tag)?;
            assert!((1..=tag.bytes_max()).contains(&value.len()));
            Some((tag, String::from_utf8(value.to_vec()).unwrap()))
        };
        let attributes = Tag::ALL.into_iter().filter_map(attribute).collect();
        events.push(Event { attributes, opaque: prefix[4] == FLAG_OPAQUE, data: data.to_vec() });
    }
    assert!(rest.is_empty());
    assert_eq!(events.len(), encoder.count);
    assert_eq!(encoder.count + encoder.refused.len(), encoder.seen);
    events
}

fn words<'a>(encoder: &'a Encoder<'_>) -> Vec<(usize, &'a str)> {
    encoder.refused.iter().map(|(index, refusal)| (*index, refusal.word())).collect()
}

fn event(attributes: &[(Tag, &str)], data: &[u8]) -> Event {
    let attributes = attributes.iter().map(|(tag, text)| (*tag, (*text).into())).collect();
    Event { attributes, opaque: false, data: data.to_vec() }
}

#[test]
fn an_event_is_written_as_its_payload() {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, 0);
    let mut attributes = Attributes::default();
    attributes.set(Tag::Type, Some(b"t"));
    attributes.set(Tag::Source, Some(b"sensor/1"));
    let outcome = encoder.push(&attributes, FLAG_OPAQUE, b"\x00");
    encoder.note(outcome.map_err(Refusal::from));
    let expected = b"\x18\0\0\0\x0f\0\0\0\x01\0\0\0\x01\x01\0t\x05\x08\0sensor/1\x00";
    assert_eq!(encoder.payloads, expected);
}

#[test]
fn the_source_of_an_event_is_the_sessions_or_one_that_may_be_claimed() {
    let other = Rules { source: b"other".to_vec(), ..rules() };
    let rules = rules();
    for (rules, source, expected) in [
        (&rules, None, Ok(None)),
        (&rules, Some("door"), Ok(None)),
        (&other, None, Ok(None)),
        (&other, Some("other"), Err(Reason::SourceNotAllowed)),
        (&rules, Some("sensor/1"), Ok(Some("sensor/1"))),
        (&rules, Some("s"), Ok(Some("s"))),
        (&rules, Some("doors"), Err(Reason::SourceNotAllowed)),
        (&rules, Some("sensor"), Err(Reason::SourceNotAllowed)),
        (&rules, Some("xsensor/1"), Err(Reason::SourceNotAllowed)),
        (&rules, Some(""), Err(Reason::InvalidAttribute)),
    ] {
        let mut encoder = Encoder::new(rules, 0);
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        attributes.set(Tag::Source, source.map(str::as_bytes));
        let outcome = encoder.push(&attributes, 0, b"1");
        encoder.note(outcome.map_err(Refusal::from));
        let told = events(&encoder).pop().map(|event| {
            event.attributes.into_iter().find(|(tag, _)| *tag == Tag::Source).map(|(_, it)| it)
        });
        assert_eq!(outcome.map(|()| told.unwrap()), expected.map(|it| it.map(str::to_owned)));
    }
}

#[test]
fn what_no_payload_can_hold_is_refused_and_nothing_is_written() {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, 0);
    for tag in Tag::ALL {
        let reason = match tag {
            Tag::Time => Reason::InvalidTime,
            Tag::Extensions => Reason::InvalidExtensions,
            _ => Reason::InvalidAttribute,
        };
        for bytes in [0, tag.bytes_max() + 1, 1 << 16] {
            let value = vec![b's'; bytes];
            let mut attributes = Attributes::default();
            attributes.set(tag, Some(&value));
            assert_eq!(encoder.push(&attributes, 0, b"1"), Err(reason), "{tag:?}");
        }
    }
    let data = vec![b'1'; EVENT_BYTES_MAX + 1];
    assert_eq!(encoder.push(&Attributes::default(), 0, &data), Err(Reason::TooLarge));
    assert_eq!((encoder.payloads.len(), encoder.count), (0, 0));
    assert_eq!(encoder.push(&Attributes::default(), 0, &data[1..]), Ok(()));
}

#[test]
fn no_payload_is_longer_than_the_rules_say() {
    let rules = Rules { source: b"other".to_vec(), sources: Sources::new(["*"]), ..rules() };
    let values: Vec<_> = Tag::ALL.into_iter().map(|tag| vec![b'x'; tag.bytes_max()]).collect();
    let mut attributes = Attributes::default();
    for (tag, value) in Tag::ALL.into_iter().zip(&values) {
        attributes.set(tag, Some(value));
    }
    let mut encoder = Encoder::new(&rules, 0);
    assert_eq!(encoder.push(&attributes, 0, &[b'1'; EVENT_BYTES_MAX]), Ok(()));
    assert_eq!(encoder.payloads.len(), 4 + rules.payload_bytes_max());
}
