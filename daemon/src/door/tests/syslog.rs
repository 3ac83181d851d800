//! Syslog: the examples of both RFCs, what senders really write, and frames of a stream.

use certeus_ipc::record::Tag;
use proptest::prelude::*;

use super::*;
use crate::door::framing::{Frame, next};
use crate::door::syslog::{Common, NoSuchFrame, message, stream};
use crate::validate::json;

const PLAIN: Common<'static> = Common { r#type: "syslog", source: None };

/// Data and time of the event that comes of a message.
fn told(text: &[u8]) -> (String, Option<String>) {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, text.len());
    message(&mut encoder, text, PLAIN);
    let event = events(&encoder).pop().expect("an event");
    assert_eq!((&event.attributes[0], event.opaque), (&(Tag::Type, "syslog".to_owned()), false));
    assert_eq!(json::check(&event.data, 4), Ok(()));
    let time = event.attributes.get(1).map(|(tag, time)| {
        assert_eq!(*tag, Tag::Time);
        time.clone()
    });
    (String::from_utf8(event.data).unwrap(), time)
}

#[test]
fn the_examples_of_rfc_5424_are_taken_apart() {
    let time = "2003-10-11T22:14:15.003Z";
    for (text, data, expected) in [
        (
            &b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \
               \xef\xbb\xbf'su root' \
               failed for lonvick on /dev/pts/8"[..],
            concat!(
                r#"{"priority":34,"facility":"auth","severity":"crit","#,
                r#""hostname":"mymachine.example.com","appname":"su","msgid":"ID47","#,
                r#""message":"'su root' failed for lonvick on /dev/pts/8"}"#,
            ),
            Some(time),
        ),
        (
            b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time",
            concat!(
                r#"{"priority":165,"facility":"local4","severity":"notice","#,
                r#""hostname":"192.0.2.1","appname":"myproc","procid":"8710","#,
                r#""message":"%% It's time"}"#,
            ),
            Some("2003-08-24T05:14:15.000003-07:00"),
        ),
        (
            b"<165>1 2003-10-11T22:14:15.003Z m evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
              eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
            concat!(
                r#"{"priority":165,"facility":"local4","severity":"notice","#,
                r#""hostname":"m","appname":"evntslog","msgid":"ID47","#,
                r#""structured_data":{"exampleSDID@32473":{"iut":"3","eventID":"1011"},"#,
                r#""examplePriority@32473":{"class":"high"}}}"#,
            ),
            Some(time),
        ),
        (
            br#"<165>1 - - - - - [a@1 b="]\"" b="\\x\x" c="\]"][empty] [x="y"] text"#,
            concat!(
                r#"{"priority":165,"facility":"local4","severity":"notice","#,
                r#""structured_data":{"a@1":{"b":["]\"","\\x\\x"],"c":"]"},"empty":{}},"#,
                r#""message":"[x=\"y\"] text"}"#,
            ),
            None,
        ),
        (b"<0>1 - - - - - -", r#"{"priority":0,"facility":"kern","severity":"emerg"}"#, None),
        (
            b"<191>1 2003-10-11T22:14:15.1234567890Z - - - - -  x ",
            concat!(
                r#"{"priority":191,"facility":"local7","severity":"debug","#,
                r#""timestamp":"2003-10-11T22:14:15.1234567890Z","message":" x "}"#,
            ),
            None,
        ),
    ] {
        assert_eq!(told(text), (data.to_owned(), expected.map(str::to_owned)));
    }
}

#[test]
fn what_senders_write_in_the_old_way_is_taken_apart() {
    let known = r#"{"priority":34,"facility":"auth","severity":"crit","#;
    for (text, data, time) in [
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
            concat!(
                r#""timestamp":"Oct 11 22:14:15","hostname":"mymachine","appname":"su","#,
                r#""message":"'su root' failed"}"#,
            ),
            None,
        ),
        (
            "<34>Oct  1 22:14:15 CRON[123]: (root) CMD\n",
            concat!(
                r#""timestamp":"Oct  1 22:14:15","appname":"CRON","procid":"123","#,
                r#""message":"(root) CMD"}"#,
            ),
            None,
        ),
        (
            "<34>Feb 29 2024 01:02:03.456: %ASA-6-302013: Built",
            concat!(
                r#""timestamp":"Feb 29 2024 01:02:03.456","appname":"%ASA-6-302013","#,
                r#""message":"Built"}"#,
            ),
            None,
        ),
        (
            "<34>2003-10-11T22:14:15.003-07:00 fe80::1 kernel: [1.5] up",
            r#""hostname":"fe80::1","appname":"kernel","message":"[1.5] up"}"#,
            Some("2003-10-11T22:14:15.003-07:00"),
        ),
        (
            "<34>Oct 11 22:14:15 host last message repeated 3 times",
            concat!(
                r#""timestamp":"Oct 11 22:14:15","hostname":"host","#,
                r#""message":"last message repeated 3 times"}"#,
            ),
            None,
        ),
        ("<34>Oct 11 22:14:15 up", r#""timestamp":"Oct 11 22:14:15","message":"up"}"#, None),
        ("<34>systemd[1]: x", r#""appname":"systemd","procid":"1","message":"x"}"#, None),
        ("<34>Use the BFG!", r#""message":"Use the BFG!"}"#, None),
        ("<34>http://x", r#""message":"http://x"}"#, None),
        ("<34>", r#""message":""}"#, None),
        ("<34>Oct 41 22:14:15 h x: y", r#""message":"Oct 41 22:14:15 h x: y"}"#, None),
        ("<34>Oct 11 22:14:1 h x: y", r#""message":"Oct 11 22:14:1 h x: y"}"#, None),
        ("<34>1 - - - - - [a] ", r#""structured_data":{"a":{}},"message":""}"#, None),
        ("<34>1 - - - - - [a x", r#""message":"1 - - - - - [a x"}"#, None),
        ("<34>1 - - - - - [a][a]", r#""message":"1 - - - - - [a][a]"}"#, None),
        ("<34>1 - - - - - [a]x", r#""message":"1 - - - - - [a]x"}"#, None),
        ("<34>1 - - - - - [a b=\"\\\"", r#""message":"1 - - - - - [a b=\"\\\""}"#, None),
        ("<34>1  - -", r#""message":"1  - -"}"#, None),
    ] {
        let expected = (format!("{known}{data}"), time.map(str::to_owned));
        assert_eq!(told(text.as_bytes()), expected, "{text}");
    }
    for text in ["plain", "<", "<>x", "<192>x", "<1234>x", "<-1>x", "<1", "<+1>x"] {
        assert_eq!(told(text.as_bytes()), (format!("{{\"message\":\"{text}\"}}"), None));
    }
}

#[test]
fn what_cannot_be_text_is_kept_beside_it() {
    let (data, _) = told(b"<34>su: a\xff\xfe\0b\x1b\t\"\r\n\0");
    let text = concat!(
        r#"{"priority":34,"facility":"auth","severity":"crit","appname":"su","#,
        r#""message":"a���b\u001b\t\"","raw_base64":"PDM0PnN1OiBh//4AYhsJIg=="}"#,
    );
    assert_eq!(data, text);
    let (data, _) = told(b"<34>1 - - - - - [a b=\"\xff\"]");
    assert!(data.contains(r#""structured_data":{"a":{"b":"�"}},"raw_base64":"PDM0"#), "{data}");
    assert_eq!(told("caf\u{e9}".as_bytes()).0, "{\"message\":\"caf\u{e9}\"}");
}

#[test]
fn more_parameters_than_anybody_sends_are_only_text() {
    let many = |count| format!("<34>1 - - - - - [a{}]", " b=\"1\"".repeat(count));
    assert!(told(many(255).as_bytes()).0.contains("structured_data"));
    assert!(!told(many(256).as_bytes()).0.contains("structured_data"));
}

#[test]
fn an_empty_message_is_no_event() {
    let rules = rules();
    let mut encoder = Encoder::new(&rules, 0);
    for text in [&b""[..], b"\n", b"\r\n\0"] {
        message(&mut encoder, text, PLAIN);
    }
    assert_eq!((encoder.seen, encoder.count), (0, 0));
    message(&mut encoder, b"x", Common { source: Some("other"), ..PLAIN });
    assert_eq!(words(&encoder), [(0, "source-not-allowed")]);
}

#[test]
fn a_frame_ends_where_its_length_or_its_line_does() {
    for (block, last, expected) in [
        (&b"3 abcdef"[..], false, (Frame::Whole(&b"abc"[..]), 5)),
        (b"3 a\nb<34>", false, (Frame::Whole(b"a\nb"), 5)),
        (b"3 ab", false, (Frame::Partial, 0)),
        (b"3 ab", true, (Frame::CutOff, 4)),
        (b"3", false, (Frame::Partial, 0)),
        (b"3", true, (Frame::Whole(b"3"), 1)),
        (b"10 0123456789", false, (Frame::Whole(b"0123456789"), 13)),
        (b"11 0", false, (Frame::TooLong, 0)),
        (b"99999999999999999999999999 0", false, (Frame::Whole(b"9999999999"), 10)),
        (b"03 abc\n", false, (Frame::Whole(b"03 abc"), 7)),
        (b"3abc\nd", false, (Frame::Whole(b"3abc"), 5)),
        (b"<34>x\n<34>", false, (Frame::Whole(b"<34>x"), 6)),
        (b"<34>x\0<34>\n", false, (Frame::Whole(b"<34>x"), 6)),
        (b"3 a\0b<34>", false, (Frame::Whole(b"a\0b"), 5)),
        (b"<34>x", false, (Frame::Partial, 0)),
        (b"<34>x", true, (Frame::Whole(b"<34>x"), 5)),
        (b"\nx", false, (Frame::Whole(b""), 1)),
        (b"abcdefghij", false, (Frame::Partial, 0)),
        (b"abcdefghij\n", false, (Frame::Whole(b"abcdefghij"), 11)),
        (b"abcdefghijk", false, (Frame::Whole(b"abcdefghij"), 10)),
        (b"", true, (Frame::Partial, 0)),
    ] {
        let text = String::from_utf8_lossy(block);
        assert_eq!(next(block, 10, last), expected, "{text:?}");
    }
}

#[test]
fn a_stream_may_change_its_framing_and_ends_with_an_impossible_length() {
    let rules = rules();
    let block = b"<34>a: 1\n\n9 <34>a: 2\n<34>a: 3\n100 x";
    let mut encoder = Encoder::new(&rules, block.len());
    assert_eq!(stream(&mut encoder, block, PLAIN, 50, false), Ok(()));
    assert_eq!((encoder.count, &block[encoder.consumed..]), (3, &b"100 x"[..]));
    let mut encoder = Encoder::new(&rules, 0);
    assert_eq!(stream(&mut encoder, b"100 x", PLAIN, 50, false), Err(NoSuchFrame));
    let mut encoder = Encoder::new(&rules, 0);
    assert_eq!(stream(&mut encoder, b"<34>x\n9 <34>", PLAIN, 50, true), Ok(()));
    assert_eq!((words(&encoder), encoder.consumed), (vec![(1, "cut-off")], 12));
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(&[
            "<34>", "1 ", "- ", "Oct 11 22:14:15 ", "2003-10-11T22:14:15Z ", "host ", "su: ",
            "su[1]: ", "[a b=\"", "c\\\"\"]", "\"]", "[a]", "\n", "\0", "12 ", "5 ",
            "\u{feff}", "é", "x",
        ][..]).prop_map(|it| it.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_message_is_an_event_that_the_worker_takes(text in noise()) {
        let rules = rules();
        let mut encoder = Encoder::new(&rules, 0);
        message(&mut encoder, &text, PLAIN);
        for event in events(&encoder) {
            prop_assert_eq!(json::check(&event.data, 4), Ok(()));
        }
    }

    #[test]
    fn blocks_of_a_stream_may_end_anywhere(
        whole in noise(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let rules = rules();
        let take = |block: &[u8], last: bool| {
            let mut encoder = Encoder::new(&rules, 0);
            let outcome = stream(&mut encoder, block, PLAIN, 40, last);
            (events(&encoder), encoder.seen, encoder.consumed, outcome)
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.push(whole.len());
        cuts.sort_unstable();
        let (mut from, mut found, mut seen) = (0, Vec::new(), 0);
        for (at, to) in cuts.iter().enumerate() {
            let (events, more, consumed, _) = take(&whole[from..*to], at + 1 == cuts.len());
            found.extend(events);
            seen += more;
            from += consumed;
        }
        let (events, count, consumed, _) = take(&whole, true);
        prop_assert_eq!((found, seen, from), (events, count, consumed));
    }
}
