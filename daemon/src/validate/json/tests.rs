use super::*;
use proptest::prelude::*;

fn reason(text: impl AsRef<[u8]>) -> Option<Reason> {
    check(text.as_ref(), 3).err()
}

#[test]
fn well_formed_texts_pass() {
    for text in [
        "0",
        "-0",
        "1",
        "-1.5e+3",
        "1E5",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "\t\r\n{ } ",
        "[1,2]",
        "{\"a\":1,\"a\":2}",
        "[[[]]]",
        "{\"a\":{\"b\":[1]}}",
        "\"\\u0041\"",
        "\"\\ud83d\\ude00\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"äöü €😀\u{7f}\u{10ffff}\"",
        "\"1234567\\\"\"",
        "\"12345678\"",
    ] {
        assert_eq!(reason(text), None, "{text}");
    }
}

#[test]
fn each_failure_has_its_reason() {
    use Reason::{InvalidJson, InvalidUtf8, LoneSurrogate, NulCharacter, TooDeep};
    let table: &[(&[u8], Reason)] = &[
        (b"", InvalidJson),
        (b" ", InvalidJson),
        (b"\xef\xbb\xbf1", InvalidJson),
        (b"\xff", InvalidJson),
        (b"01", InvalidJson),
        (b"-", InvalidJson),
        (b"-a", InvalidJson),
        (b"+1", InvalidJson),
        (b".5", InvalidJson),
        (b"1.", InvalidJson),
        (b"1e", InvalidJson),
        (b"1e+", InvalidJson),
        (b"0x1", InvalidJson),
        (b"NaN", InvalidJson),
        (b"Infinity", InvalidJson),
        (b"tru", InvalidJson),
        (b"truth", InvalidJson),
        (b"True", InvalidJson),
        (b"1 2", InvalidJson),
        (b"[1,]", InvalidJson),
        (b"[,1]", InvalidJson),
        (b"[1 2]", InvalidJson),
        (b"[1}", InvalidJson),
        (b"[", InvalidJson),
        (b"]", InvalidJson),
        (b"{", InvalidJson),
        (b"{\"a\"}", InvalidJson),
        (b"{\"a\":}", InvalidJson),
        (b"{\"a\":1,}", InvalidJson),
        (b"{a:1}", InvalidJson),
        (b"{1:1}", InvalidJson),
        (b"{\"a\":1]", InvalidJson),
        (b"'a'", InvalidJson),
        (b"\"", InvalidJson),
        (b"\"abc", InvalidJson),
        (b"\"a\nb\"", InvalidJson),
        (b"\"1234567\x1f\"", InvalidJson),
        (b"\"\\x41\"", InvalidJson),
        (b"\"\\u12\"", InvalidJson),
        (b"\"\\u12g4\"", InvalidJson),
        (b"\"\\ud83d\\u12g4\"", InvalidJson),
        (b"// no\n1", InvalidJson),
        (b"\"\x80\"", InvalidUtf8),
        (b"\"\xc0\xaf\"", InvalidUtf8),
        (b"\"\xe0\x80\xaf\"", InvalidUtf8),
        (b"\"\xed\xa0\x80\"", InvalidUtf8),
        (b"\"\xf4\x90\x80\x80\"", InvalidUtf8),
        (b"\"\xf8\x88\x80\x80\x80\"", InvalidUtf8),
        (b"\"\xe2\x82\"", InvalidUtf8),
        (b"\"\xe2\x82", InvalidUtf8),
        (b"\"M\xfcller\"", InvalidUtf8),
        (b"\x00", NulCharacter),
        (b"1\x00", NulCharacter),
        (b"-\x00", NulCharacter),
        (b"1.\x00", NulCharacter),
        (b"\"a\x00b\"", NulCharacter),
        (b"\"\\u0000\"", NulCharacter),
        (b"{\"\\u0000\":1}", NulCharacter),
        (b"\"\\ud83d\"", LoneSurrogate),
        (b"\"\\ud83dx\"", LoneSurrogate),
        (b"\"\\ud83d\\n\"", LoneSurrogate),
        (b"\"\\ud83d\\u0041\"", LoneSurrogate),
        (b"\"\\ud83d\\ud83d\"", LoneSurrogate),
        (b"\"\\ude00\"", LoneSurrogate),
        (b"[[[[]]]]", TooDeep),
        (b"{\"a\":{\"b\":{\"c\":{}}}}", TooDeep),
    ];
    for (text, expected) in table {
        assert_eq!(reason(text), Some(*expected), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn numbers_are_those_that_postgresql_holds() {
    let nines = |count: usize| "9".repeat(count);
    let zeros = |count: usize| "0".repeat(count);
    // Each line as PostgreSQL 15 answered to `TEXT::jsonb`.
    for text in [
        "1e131071".into(),
        "-9.99e131071".into(),
        "0.1e131072".into(),
        "0.00001e131076".into(),
        "1e-16383".into(),
        "1.0e-16382".into(),
        "0e131073".into(),
        "0e1000000".into(),
        "0e-16383".into(),
        "0e1073741822".into(),
        "0.000e5".into(),
        "100000000e-16383".into(),
        nines(131_072),
        format!("{}e1", nines(131_071)),
        format!("{}e-16383", nines(147_455)),
        format!("0.{}", nines(16_383)),
        format!("1.{}", zeros(16_383)),
        format!("1.{}e4000", nines(20_000)),
        format!("0.{}1e20000", zeros(20_000)),
    ] {
        assert_eq!(reason(&text), None, "{text:.30}");
    }
    for text in [
        "1e131072".into(),
        "10e131071".into(),
        "0.1e131073".into(),
        "0.00001e131077".into(),
        "1e-16384".into(),
        "1.0e-16383".into(),
        "0e-16384".into(),
        "0.0e-16383".into(),
        "0e1073741823".into(),
        "0e-1073741823".into(),
        "0e99999999999999999999".into(),
        "1e-99999999999999999999".into(),
        "100000000e-16391".into(),
        nines(131_073),
        format!("{}e2", nines(131_071)),
        format!("{}e-16383", nines(147_456)),
        format!("0.{}", nines(16_384)),
        format!("1.{}", zeros(16_384)),
        format!("1.{}e3000", nines(20_000)),
        format!("0.{}1e3000", zeros(20_000)),
    ] {
        assert_eq!(reason(&text), Some(Reason::NumberOutOfRange), "{text:.30}");
    }
}

#[test]
fn depth_counts_open_brackets_up_to_the_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for limit in [1, 63, 64, 65, 128, DEPTH_LIMIT] {
        assert_eq!(check(nested(limit as usize).as_bytes(), limit), Ok(()));
        let deeper = nested(limit as usize + 1);
        assert_eq!(check(deeper.as_bytes(), limit), Err(Reason::TooDeep));
    }
    let mixed = format!("{}1{}", "{\"a\":[".repeat(100), "]}".repeat(100));
    assert_eq!(check(mixed.as_bytes(), 200), Ok(()));
    assert_eq!(check(&mixed.as_bytes()[..mixed.len() - 1], 200), Err(Reason::InvalidJson));
}

/// The grammar written down once more, slowly: recursive, over characters, by the RFC's
/// productions. Gives what is left behind the production.
mod reference {
    pub fn accepts(text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        let characters: Vec<char> = text.chars().collect();
        value(space(&characters)).is_some_and(|rest| space(rest).is_empty())
    }

    fn space(text: &[char]) -> &[char] {
        let count = text.iter().take_while(|c| " \t\r\n".contains(**c)).count();
        &text[count..]
    }

    fn literal<'a>(text: &'a [char], word: &str) -> Option<&'a [char]> {
        let word: Vec<char> = word.chars().collect();
        text.strip_prefix(word.as_slice())
    }

    fn value(text: &[char]) -> Option<&[char]> {
        match text.first()? {
            '"' => string(text),
            '[' => list(text, ']', value),
            '{' => list(text, '}', |text| value(space(literal(space(string(text)?), ":")?))),
            't' => literal(text, "true"),
            'f' => literal(text, "false"),
            'n' => literal(text, "null"),
            _ => number(text),
        }
    }

    fn list(
        text: &[char],
        close: char,
        item: impl Fn(&[char]) -> Option<&[char]>,
    ) -> Option<&[char]> {
        let mut rest = space(&text[1..]);
        if rest.first() == Some(&close) {
            return Some(&rest[1..]);
        }
        loop {
            rest = space(item(rest)?);
            match rest.first()? {
                ',' => rest = space(&rest[1..]),
                c if *c == close => return Some(&rest[1..]),
                _ => return None,
            }
        }
    }

    fn hex(text: &[char]) -> Option<u32> {
        let word: String = text.get(..4)?.iter().collect();
        word.chars().all(|c| c.is_ascii_hexdigit()).then(|| u32::from_str_radix(&word, 16).unwrap())
    }

    fn string(text: &[char]) -> Option<&[char]> {
        let mut rest = literal(text, "\"")?;
        loop {
            match rest {
                ['"', rest @ ..] => return Some(rest),
                ['\\', 'u', more @ ..] => {
                    let unit = hex(more)?;
                    rest = &more[4..];
                    if (0xd800..0xdc00).contains(&unit) {
                        let low = hex(literal(rest, "\\u")?)?;
                        if !(0xdc00..0xe000).contains(&low) {
                            return None;
                        }
                        rest = &rest[6..];
                    } else if unit == 0 || (0xdc00..0xe000).contains(&unit) {
                        return None;
                    }
                }
                ['\\', c, more @ ..] if "\"\\/bfnrt".contains(*c) => rest = more,
                ['\\', ..] => return None,
                [c, more @ ..] if *c >= ' ' => rest = more,
                _ => return None,
            }
        }
    }

    fn digits(text: &[char]) -> Option<&[char]> {
        let count = text.iter().take_while(|c| c.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }

    fn number(text: &[char]) -> Option<&[char]> {
        let text = text.strip_prefix(&['-']).unwrap_or(text);
        let mut rest = if let ['0', rest @ ..] = text { rest } else { digits(text)? };
        if let ['.', more @ ..] = rest {
            rest = digits(more)?;
        }
        if let ['e' | 'E', more @ ..] = rest {
            let more = if let ['+' | '-', more @ ..] = more { more } else { more };
            rest = digits(more)?;
        }
        Some(rest)
    }
}

/// Texts that are JSON, or nearly: pieces of the grammar, joined at random.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"b\":", " ", "\n", "0", "12", "-", ".5",
            "e3", "E-2", "true", "null", "\\", "\\u0000", "\\ud83d", "\\ude00", "\\n", "é", "😀",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Texts that are JSON.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        "[ -!#-\\[\\]-~é€😀]{0,20}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|all| format!("[{}]", all.join(" , "))),
            prop::collection::vec(inner, 0..6).prop_map(|all| {
                let members: Vec<_> = all
                    .iter()
                    .enumerate()
                    .map(|(at, value)| format!("\"k{at}\": {value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_checker_agrees_with_the_grammar_on_near_misses(text in nearly_json()) {
        prop_assume!(check(&text, 64) != Err(Reason::NumberOutOfRange));
        prop_assert_eq!(check(&text, 64).is_ok(), reference::accepts(&text));
    }

    #[test]
    fn the_checker_agrees_with_the_grammar_on_json_with_one_byte_changed(
        text in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        prop_assert_eq!(check(text.as_bytes(), 64), Ok(()));
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // A digit that became an `e` is JSON, but may be beyond `numeric`.
        prop_assume!(check(&bytes, 64) != Err(Reason::NumberOutOfRange));
        prop_assert_eq!(check(&bytes, 64).is_ok(), reference::accepts(&bytes));
        prop_assert_eq!(check(&bytes[..at], 64).is_ok(), reference::accepts(&bytes[..at]));
    }

    #[test]
    fn utf8_is_what_the_standard_library_says(bytes in prop::collection::vec(0x70_u8.., 0..9)) {
        let mut text = b"\"".to_vec();
        text.extend_from_slice(&bytes);
        text.push(b'"');
        let proper = std::str::from_utf8(&bytes).is_ok();
        prop_assert_eq!(check(&text, 1), if proper { Ok(()) } else { Err(Reason::InvalidUtf8) });
    }
}
