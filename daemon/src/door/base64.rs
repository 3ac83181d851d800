//! RFC 4648's base64, strictly: its first alphabet, padded, nothing between, no stray bits.
//!
//! What is decoded has exactly one encoding, so an event that is shown and sent again is the same.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < 64 {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// Appends the base64 of `bytes` to `out`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= three.len() { digit } else { b'=' });
        }
    }
}

/// Appends what `text` stands for to `out`; `None`: it is not base64, and `out` holds a part of it.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let Some(last) = text.len().checked_sub(4) else {
        return text.is_empty().then_some(());
    };
    if last % 4 != 0 {
        return None;
    }
    let (whole, last) = text.split_at(last);
    out.reserve(text.len() / 4 * 3);
    for four in whole.chunks_exact(4) {
        out.extend_from_slice(&three([four[0], four[1], four[2], four[3]])?);
    }
    let (kept, four) = match *last {
        [a, b, b'=', b'='] => (1, [a, b, b'A', b'A']),
        [a, b, c, b'='] => (2, [a, b, c, b'A']),
        [a, b, c, d] => (3, [a, b, c, d]),
        _ => unreachable!("four bytes"),
    };
    let bytes = three(four)?;
    out.extend_from_slice(&bytes[..kept]);
    bytes[kept..].iter().all(|byte| *byte == 0).then_some(())
}

fn three(four: [u8; 4]) -> Option<[u8; 3]> {
    let [a, b, c, d] = four.map(|byte| VALUES[byte as usize]);
    let proper = (a | b | c | d) < 64;
    proper.then_some([a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| out)
    }

    #[test]
    fn the_vectors_of_rfc_4648_are_decoded_and_encoded() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decoded(text.as_bytes()), Some(bytes.into()), "{text}");
            let mut encoded = Vec::new();
            encode(bytes.as_bytes(), &mut encoded);
            assert_eq!(encoded, text.as_bytes());
        }
        let (text, bytes) = (b"+/+/AP8=", [0xfb, 0xff, 0xbf, 0x00, 0xff]);
        assert_eq!(decoded(text), Some(bytes.into()));
        let mut encoded = Vec::new();
        encode(&bytes, &mut encoded);
        assert_eq!(encoded, text);
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "Z",
            "Zg",
            "Zg=",
            "Z===",
            "====",
            "=",
            "Zm9v=",
            "Zg==Zg==",
            "Zm8=Zm8=",
            "Zh==",
            "Zm9=",
            "Zm 9",
            "Zm9v\n",
            "-_-_",
            "Zm\u{e9}v",
            "Zm=v",
        ] {
            assert_eq!(decoded(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_byte_is_known_or_not() {
        assert_eq!(VALUES.iter().filter(|value| **value != NONE).count(), 64);
    }
}
