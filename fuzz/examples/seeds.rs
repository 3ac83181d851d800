//! Makes the seeds in `corpus/` again: `cargo run --release --example seeds`, in `fuzz/`.
//!
//! Each is small, is named for what it shows, and goes through its target once.

use std::path::Path;

use certeus_core::envelope::{Bye, Envelope, Hello};
use certeus_core::format::{GroupHeader, LogEntry, SegmentHeader, VerdictEntry};
use certeus_core::gap::{GapEntry, GapReason};
use certeus_ipc::record::{Attributes, FLAG_OPAQUE, Tag, write_payload};
use certeus_ipc::verdict::{Reason, Verdict};

type Target = (&'static str, fn(&[u8]), Vec<Seed>);

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets: [Target; 6] = [
        ("ring", certeus_fuzz::ring::run, rings()),
        ("event", certeus_fuzz::event::run, events()),
        ("frames", certeus_fuzz::frames::run, frames()),
        ("segments", certeus_fuzz::segments::run, segments()),
        ("door", certeus_fuzz::door::run, doors()),
        ("otlp", certeus_fuzz::otlp::run, otlp()),
    ];
    for (target, run, seeds) in targets {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir).expect("a directory for the seeds");
        for (name, bytes) in &seeds {
            run(bytes);
            std::fs::write(dir.join(name), bytes).expect("a seed is written");
        }
        println!("{target}: {} seeds", seeds.len());
    }
}

type Seed = (&'static str, Vec<u8>);

fn rings() -> Vec<Seed> {
    // Length (base 24) and kind of a frame, its ticket (base 1), the tail, a poll, a frame.
    let frame = |ticket: u8| vec![1, 0, 1, ticket, 4, 5, 6];
    let mut full = vec![0];
    (0..30).for_each(|ticket| full.extend(frame(ticket)));
    let mut released = vec![0];
    (0..60).for_each(|ticket| {
        released.extend(frame(ticket));
        released.extend([8, 0, 0]);
    });
    vec![
        ("one-frame", [vec![0], frame(0)].concat()),
        ("a-full-ring", full),
        ("around-the-end", released),
        ("a-tail-that-goes-back", [vec![0], frame(0), vec![3, 0xfd, 16, 0, 4, 5]].concat()),
        ("read-again", [vec![0], frame(0), vec![9, 6, 8, 0, 0]].concat()),
        ("a-producer", [vec![1], [1, 100, 0, 50, 0, 3, 0, 0x80].repeat(9)].concat()),
        ("a-head-that-lies", vec![1, 1, 100, 0, 50, 0, 0, 0xfe, 11, 0, 1, 100, 0, 50, 0]),
        ("verdicts-written", [vec![2], [2, 3, 0, 0].repeat(9)].concat()),
        ("verdicts-read", vec![3, 0, 0, 0, 0, 0, 3, 0, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3, 4]),
    ]
}

fn event(attributes: &[(Tag, &str)], flags: u8, data: &[u8]) -> Vec<u8> {
    let mut values = Attributes::default();
    values.set(Tag::Type, Some(b"payment"));
    for (tag, value) in attributes {
        values.set(*tag, Some(value.as_bytes()));
    }
    let mut out = vec![16];
    write_payload(&mut out, &values, flags, data);
    out
}

fn events() -> Vec<Seed> {
    let all = [
        (Tag::Id, "o-17"),
        (Tag::Subject, "order/17"),
        (Tag::Time, "2026-02-28T23:59:60.123456789+01:30"),
        (Tag::Source, "checkout"),
        (Tag::DataSchema, "https://example.org/schema"),
        (Tag::ContentType, "application/json"),
        (Tag::Extensions, r#"{"traceparent":"00-1","flag":true,"count":1}"#),
    ];
    let opaque = [(Tag::ContentType, "application/octet-stream")];
    vec![
        ("small", event(&[], 0, br#"{"amount":1500,"currency":"USD"}"#)),
        ("all-attributes", event(&all, 0, b"[1,2.5e-3,-0,null,true]")),
        ("opaque", event(&opaque, FLAG_OPAQUE, b"\x00\xff\xfe")),
        ("escapes", event(&[], 0, br#""\u00e9\ud83d\ude00\n\"\\\/""#)),
        ("lone-surrogate", event(&[], 0, br#""\ud83d""#)),
        ("zero", event(&[], 0, br#"{"\u0000":1}"#)),
        ("numeric", event(&[], 0, b"[1e131071,1.5e-16382,0e99999999999]")),
        ("deep", event(&[], 0, b"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]")),
        ("not-utf8", event(&[], 0, b"\"\xed\xa0\x80\"")),
    ]
}

fn frames() -> Vec<Seed> {
    let hello = Hello {
        session: 1,
        uid: 1000,
        producer: [3; 16],
        birth_seq: Some(9),
        settled: 4,
        tenant: "default".into(),
        source: "checkout".into(),
    };
    let gap = GapEntry {
        first_seq: 10,
        last_seq: 20,
        segment_no: 1,
        offset: 4096,
        bytes: 8192,
        reason: GapReason::Damaged,
    };
    let verdict = VerdictEntry {
        producer_no: 1,
        ticket: 2,
        seq: 3,
        verdict: Verdict::Rejected,
        reason: Reason::IdConflict,
    };
    let mut entries = vec![3];
    [LogEntry::Gap(gap), LogEntry::Verdict(verdict)]
        .iter()
        .for_each(|entry| entry.write(&mut entries));
    let mut gaps = vec![4];
    for (first_seq, last_seq) in [(10, 20), (12, 13), (19, 30)] {
        GapEntry { first_seq, last_seq, ..gap }.write(&mut gaps);
    }
    let mut envelope = vec![2; 1 + Envelope::BYTES];
    Envelope { session: 1, has_key: true, ..Envelope::default() }
        .write(&[8; 32], &mut envelope[1..]);
    let bye = Bye { session: 1, clean: true, epoch: 2, producer_no: 3 };
    let mut record = vec![7, 38, 0, 0, 0, 1, 1, 0, 0];
    record.extend([1, 0, 0, 0, 4, 0, 0, 0]);
    record.extend([0; 16]);
    record.extend(b"\x01\x01\0t{}");
    vec![
        ("hello", [vec![0], hello.encode()].concat()),
        ("welcome", [vec![1, 2], vec![5; 56]].concat()),
        ("refused", vec![1, 3, 1, 0, 0, 0, 1, 0, 0, 0]),
        ("end", vec![1, 4, 1, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
        ("envelope", envelope),
        ("bye", [vec![2], bye.encode().to_vec()].concat()),
        ("entries", entries),
        ("gaps", gaps),
        ("group", [vec![5], group().encode().to_vec()].concat()),
        ("segment", [vec![6], segment().encode()[..164].to_vec()].concat()),
        ("record", record),
        ("attributes", b"\x08\x01\x01\0t\x02\x02\0id".to_vec()),
    ]
}

fn group() -> GroupHeader {
    GroupHeader {
        salt: 1,
        group: 2,
        first_seq: 3,
        count: 4,
        entries_bytes: 8,
        records_bytes: 16,
        body_crc: 5,
        recorded_at_ns: 6,
        epoch: 7,
        chain: [8; 32],
        root: [9; 32],
    }
}

fn segment() -> SegmentHeader {
    SegmentHeader {
        log_uuid: [1; 16],
        segment_no: 2,
        salt: 3,
        created_at_ns: 4,
        epoch: 5,
        before_segment_no: 6,
        before_end_offset: 7,
        before_group: 8,
        before_next_seq: 9,
        before_chain: [10; 32],
        before_root: [11; 32],
    }
}

fn segments() -> Vec<Seed> {
    let group = [2, 1, 0, 4, b'd', b'a', b't', b'a'];
    let with = |parts: &[&[u8]]| [&[0][..], &parts.concat()].concat();
    vec![
        ("two-groups", with(&[&group, &group])),
        ("rotated", with(&[&group, &[0], &group, &[0], &group])),
        ("started-again", with(&[&group, &[1], &group, &[1], &group])),
        ("a-damaged-body", with(&[&group, &group, &[7, 0, 0, 1, 0, 200, 0, 1], &[1], &group])),
        ("a-damaged-header", with(&[&group, &[0], &group, &[7, 1, 0, 0, 0, 20, 0, 4]])),
        ("a-torn-end", with(&[&group, &group, &[8, 0, 0, 0, 9]])),
        ("a-missing-segment", with(&[&group, &[0], &group, &[0], &group, &[8, 1, 0, 0, 0]])),
        ("a-forged-number", with(&[&group, &[4, 2, 0xfe, 11, 0, 1, 0]])),
        ("a-forged-segment", with(&[&group, &[6, 7, 9], &group])),
        ("any-body", with(&[&group, &[5, 1, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]])),
    ]
}

fn doors() -> Vec<Seed> {
    let seed = |form: u8, text: &str| [&[form, 9][..], text.as_bytes()].concat();
    let with = |members: &str| {
        format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"t"{members}}}"#)
    };
    let all = r#","subject":"x\u00e9","time":"2026-01-01T00:00:00Z","dataschema":"d:e",
        "datacontenttype":"application/json","level":3,"on":true,"unset":null,"data":{"a":[1.50]}"#;
    let shown = r#","seq":7,"recorded_at":"x","tenant":"default","verdict":"accepted""#;
    let (plain, all, shown) = (with(""), with(all), with(shown));
    let bytes = with(r#","datacontenttype":"text\/plain","data_base64":"AAH\/""#);
    vec![
        ("data-lines", seed(0, "{\"a\":1}\n\n [] \r\n{\"a\": 2}")),
        ("fields", seed(1, "{\"id\":1,\"type\":\"\\u0041\"}\n{\"id\":null}\n{\"id\":-0}")),
        ("a-form-feed", seed(1, "\x0c{\"id\":1}\n")),
        ("cloudevents-lines", seed(2, &format!("{plain}\r\n{{\n{bytes}\n"))),
        ("a-batch", seed(3, &format!("[{plain}, 1 ,{{\"a\":}},{bytes}]"))),
        ("all-members", seed(4, &all)),
        ("shown", seed(4, &shown)),
        ("bytes", seed(4, &bytes)),
        ("syslog", seed(5, "<34>1 2003-10-11T22:14:15Z h su 1 I [a@1 b=\"\\]\" b=\"\"] x\n<1>x\n")),
        ("syslog-old", seed(5, "38 <34>Oct 11 22:14:15 host su[1]: it failed<13>a: b\n9 <1")),
        ("twice", seed(4, &with(r#","id":"j""#))),
        ("text", seed(4, &with(r#","datacontenttype":"text/plain","data":"]},\"{""#))),
    ]
}

/// A field of a protobuf message that has a length below 128.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

fn otlp() -> Vec<Seed> {
    let text = |value: &str| field(1, value.as_bytes());
    let pair = |key: &str, value: &[u8]| [text(key), field(2, value)].concat();
    let request = |resource: &[u8], scope: &[u8], record: &[u8]| {
        let scope_logs = [field(1, scope), field(2, record)].concat();
        let body = field(1, &[field(1, resource), field(2, &scope_logs)].concat());
        [&[0], &body[..]].concat()
    };
    let service = field(1, &pair("service.name", &text("s")));
    let ids = [field(9, &[1; 16]), field(10, &[2; 8]), vec![8 << 3 | 5, 1, 0, 0, 0]].concat();
    let severity = [vec![2 << 3, 9], field(3, b"INFO"), field(12, b"a.name")].concat();
    let times = [[1 << 3 | 1], [11 << 3 | 1]].map(|key| [&key[..], &[7; 8]].concat()).concat();
    let list = field(5, &[field(1, &text("a")), field(1, &[3 << 3, 1]), field(1, b"")].concat());
    let nested = field(5, &field(6, &field(1, &pair("k", &list))));
    let others = [vec![4 << 3 | 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f], field(7, b"\xff")];
    let others: Vec<u8> = others.iter().flat_map(|it| field(6, &pair("a", it))).collect();
    let json = |text: &str| [b"\x01", text.as_bytes()].concat();
    vec![
        ("a-service", request(&service, &[text("lib"), field(2, b"1")].concat(), &ids)),
        ("severity", request(b"", b"", &severity)),
        ("times", request(b"", &field(3, &pair("a", b"")), &times)),
        ("nested", request(b"", b"", &nested)),
        ("others", request(b"", b"", &others)),
        ("a-bad-record", request(b"", b"", &field(5, &field(1, b"\xff")))),
        (
            "json",
            json(
                r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name",
            "value":{"stringValue":"s"}}]},"scopeLogs":[{"scope":{"name":"l"},"logRecords":[{
            "timeUnixNano":"7","severityNumber":9,"body":{"stringValue":"\u00e9"},"x":[1],
            "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}]}]}]}"#,
            ),
        ),
        (
            "json-values",
            json(
                r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":
            {"arrayValue":{"values":[{"intValue":"-1"},{"doubleValue":"NaN"},{"boolValue":true},
            {"bytesValue":"AA=="},{"kvlistValue":{"values":[{"key":"\u006b","value":null}]}}]}}
            }]}]}]}"#,
            ),
        ),
    ]
}
