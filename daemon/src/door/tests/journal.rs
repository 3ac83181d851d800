//! The journal's export format: fields of every kind, blocks that end anywhere, large entries.

use certeus_ipc::record::Tag;
use proptest::prelude::*;

use super::*;
use crate::door::journal::{Journal, NotExported};
use crate::validate::{self, Limits, json};

const CURSOR: &str = "s=1d9f;i=1;b=0123;m=f4240;t=60a24181e4000;x=1507";
const PLACE: &str = "__CURSOR=s=1d9f;i=1;b=0123;m=f4240;t=60a24181e4000;x=1507\n\
                     __REALTIME_TIMESTAMP=1700000000123456\n__MONOTONIC_TIMESTAMP=1000000\n";

fn journal() -> Journal {
    Journal::new(EVENT_BYTES_MAX, "journal", Some("/system.slice/own.service"), None)
}

fn binary(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
}

fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let is_plain = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let text = || [name.as_bytes(), b"=", value, b"\n"].concat();
    if is_plain { text() } else { binary(name, value) }
}

fn entry(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    [PLACE.as_bytes(), &fields, b"\n"].concat()
}

fn taken(journal: &mut Journal, block: &[u8]) -> Vec<Event> {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, block.len());
    assert_eq!(journal.take(&mut encoder, block), Ok(()));
    assert_eq!(encoder.consumed, block.len());
    for event in events(&encoder) {
        assert_eq!(json::check(&event.data, 4), Ok(()));
    }
    events(&encoder)
}

fn data(fields: &[(&str, &[u8])]) -> String {
    let event = taken(&mut journal(), &entry(fields)).pop().expect("an event");
    String::from_utf8(event.data).unwrap()
}

#[test]
fn an_entry_is_an_event_whose_id_is_its_cursor() {
    let mut journal = journal();
    let found = taken(&mut journal, &entry(&[("MESSAGE", b"hello"), ("_SYSTEMD_UNIT", b"x")]));
    let attributes = [
        (Tag::Type, "journal"),
        (Tag::Id, CURSOR),
        (Tag::Subject, "x"),
        (Tag::Time, "2023-11-14T22:13:20.123456Z"),
    ];
    let mut expected = event(&attributes, br#"{"MESSAGE":"hello","_SYSTEMD_UNIT":"x"}"#);
    let mut found = found;
    for one in found.iter_mut().chain([&mut expected]) {
        one.attributes.sort_by_key(|(tag, _)| *tag as u8);
    }
    assert_eq!(found, [expected]);
    assert_eq!(journal.cursor(), Some(CURSOR));
}

#[test]
fn values_are_text_or_base64_and_those_of_one_name_a_list() {
    for (fields, expected) in [
        (&[("A", &b"x=y \"z\""[..])][..], r#"{"A":"x=y \"z\""}"#),
        (&[("A", b"")], r#"{"A":""}"#),
        (&[("A", b"two\nlines\t\xc3\xa9")], "{\"A\":\"two\\nlines\\t\u{e9}\"}"),
        (&[("A", b"\x00")], r#"{"A":{"base64":"AA=="}}"#),
        (&[("A", b"\xff\n")], r#"{"A":{"base64":"/wo="}}"#),
        (&[("A", b"1"), ("B", b"2"), ("A", b"\xff")], r#"{"A":["1",{"base64":"/w=="}],"B":"2"}"#),
        (&[("__SEQNUM", b"7"), ("_A", b"1")], r#"{"_A":"1"}"#),
    ] {
        assert_eq!(data(fields), expected);
    }
}

#[test]
fn the_subject_is_the_unit_or_the_identifier_if_it_is_proper() {
    let long = vec![b'u'; 1025];
    for (fields, expected) in [
        (&[("SYSLOG_IDENTIFIER", &b"cron"[..]), ("_SYSTEMD_UNIT", b"u")][..], Some("u")),
        (&[("SYSLOG_IDENTIFIER", b"cron")], Some("cron")),
        (&[("SYSLOG_IDENTIFIER", b"cron"), ("_SYSTEMD_UNIT", b"")], Some("cron")),
        (&[("SYSLOG_IDENTIFIER", b"cron"), ("_SYSTEMD_UNIT", &long)], Some("cron")),
        (&[("SYSLOG_IDENTIFIER", b"a\nb")], None),
        (&[("SYSLOG_IDENTIFIER", b"\xff")], None),
        (&[("A", b"x")], None),
    ] {
        let event = taken(&mut journal(), &entry(fields)).pop().unwrap();
        let told = event.attributes.iter().find(|(tag, _)| *tag == Tag::Subject);
        assert_eq!(told.map(|(_, text)| text.as_str()), expected, "{fields:?}");
    }
}

#[test]
fn own_entries_and_the_one_to_begin_behind_are_no_events_and_move_the_cursor() {
    let own = entry(&[("_SYSTEMD_CGROUP", b"/system.slice/own.service")]);
    let mut journal = journal();
    assert_eq!(taken(&mut journal, &own), []);
    assert_eq!((journal.cursor(), journal.left_out), (Some(CURSOR), 1));
    let other = entry(&[("_SYSTEMD_CGROUP", b"/system.slice/own.service2")]);
    assert_eq!(taken(&mut journal, &other).len(), 1);
    let claimed = entry(&[("SYSTEMD_CGROUP", b"/system.slice/own.service")]);
    assert_eq!(taken(&mut journal, &claimed).len(), 1);
    let mut behind = Journal::new(EVENT_BYTES_MAX, "journal", None, Some(CURSOR));
    assert_eq!(taken(&mut behind, &own), []);
    assert_eq!(taken(&mut Journal::new(EVENT_BYTES_MAX, "j", None, None), &own).len(), 1);
}

#[test]
fn an_entry_without_a_cursor_is_refused() {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, 0);
    assert_eq!(journal().take(&mut encoder, b"A=1\n\n\n__CURSOR=\nA=1\n\n"), Ok(()));
    assert_eq!(words(&encoder), [(0, "missing-id"), (1, "missing-id")]);
}

#[test]
fn what_is_not_the_format_ends_the_stream() {
    let mut endless = binary("A", b"");
    endless[2..10].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut without_end = binary("A", b"xx");
    *without_end.last_mut().unwrap() = b'x';
    for block in [&b"=\n"[..], &[b'A'; 300], &endless, &without_end] {
        let rules = rules();
        let mut encoder = Encoder::new(&rules, 0);
        assert_eq!(journal().take(&mut encoder, block), Err(NotExported));
    }
}

#[test]
fn an_entry_that_is_too_large_is_cut_and_says_so() {
    let large = vec![b'c'; 3 * EVENT_BYTES_MAX];
    let text = data(&[("COREDUMP", &large), ("MESSAGE", b"crashed")]);
    let cut = format!(r#","MESSAGE":"crashed","certeus_cut":{{"COREDUMP":{}}}}}"#, large.len());
    assert!(text.ends_with(&cut), "{text}");
    assert!((EVENT_BYTES_MAX / 2..=EVENT_BYTES_MAX).contains(&text.len()));
    // Characters are not cut apart.
    let text = data(&[("A", "é".repeat(EVENT_BYTES_MAX).as_bytes())]);
    assert!(text.starts_with(r#"{"A":"éé"#) && text.contains(r#"é","certeus_cut":{"A":8192}"#));
    // Many large ones: each keeps a part.
    let many: Vec<_> = (0..9).map(|_| ("A", &large[..])).collect();
    let text = data(&[&many[..], &[("MESSAGE", b"crashed")]].concat());
    assert!(text.contains(r#""MESSAGE":"crashed","certeus_cut":{"A":110592}"#), "{text}");
    // Bytes too.
    let text = data(&[("A", &vec![0xff; EVENT_BYTES_MAX])]);
    assert!(text.contains(r#"8="},"certeus_cut":{"A":4096}"#), "{text}");
}

#[test]
fn fields_that_have_no_room_at_all_are_counted() {
    let names: Vec<String> = (0..3000).map(|at| format!("FIELD_{at}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let text = data(&fields);
    assert!(text.starts_with(r#"{"FIELD_0":"x","#));
    let shown = text.matches("FIELD_").count();
    assert!(shown > 200);
    assert!(text.ends_with(&format!(r#","certeus_left_out":{}}}"#, 3000 - shown)), "{text}");
    // Names and shortest values have room, and what would have to be said of them has none.
    let fields: Vec<_> = names[..100].iter().map(|name| (name.as_str(), &[b'x'; 99][..])).collect();
    let text = data(&[&fields[..], &[("A", b"short")]].concat());
    assert_eq!(text, r#"{"A":"short","certeus_left_out":100}"#);
}

proptest! {
    #[test]
    fn blocks_that_end_anywhere_are_the_same_events(
        entries in prop::collection::vec(
            prop::collection::vec(("[A-Z_]{1,4}", prop::collection::vec(any::<u8>(), 0..40)), 1..6),
            1..4,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text: Vec<u8> = entries
            .iter()
            .flat_map(|fields| {
                let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), &v[..])).collect();
                entry(&fields)
            })
            .collect();
        let whole = taken(&mut journal(), &text);
        prop_assert_eq!(whole.len(), entries.len());
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let (mut journal, mut parts) = (journal(), Vec::new());
        for pair in at.windows(2) {
            parts.extend(taken(&mut journal, &text[pair[0]..pair[1]]));
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn whatever_comes_is_an_event_that_the_worker_takes(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        names in prop::collection::vec("[A-Z_]{1,9}", 1..6),
        size in 0..(2 * EVENT_BYTES_MAX),
    ) {
        let rules = rules();
        let mut encoder = Encoder::new(&rules, 0);
        let _ = journal().take(&mut encoder, &bytes);
        let large = [&bytes[..], &vec![b'"'; size]].concat();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), &large[..])).collect();
        for event in taken(&mut journal(), &entry(&fields)) {
            let limits = Limits { event_bytes_max: EVENT_BYTES_MAX, depth_max: 4 };
            let mut attributes = Attributes::default();
            for (tag, text) in &event.attributes {
                attributes.set(*tag, Some(text.as_bytes()));
            }
            let mut written = Vec::new();
            certeus_ipc::record::write_payload(&mut written, &attributes, 0, &event.data);
            let body = &written[PREFIX_BYTES..written.len() - event.data.len()];
            prop_assert_eq!(validate::check(body, 0, &event.data, limits).err(), None);
        }
    }
}
