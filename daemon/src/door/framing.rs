//! Where syslog's messages begin and end in a stream: RFC 6587, both ways of it.
//!
//! A frame that begins with a length and a space (`123 <34>1 ...`) is as long as that says. Any
//! other one ends at the next LF or NUL, which is not a part of it: Python's `SysLogHandler` writes
//! NULs, and a line that has one has them between messages. A sender may change between them from
//! one message to the next. A line that is longer than `frame_bytes_max` is taken in pieces of that
//! size: nothing is lost, and nobody can make a reader hold more. A length beyond it cannot be
//! believed: where the next frame begins is not known any more.

/// What is at the front of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message; it may be empty.
    Whole(&'a [u8]),
    /// Its end has not come yet.
    Partial,
    /// The stream ended within a message that has its length before it.
    CutOff,
    /// The message says that it has more bytes than anybody takes.
    TooLong,
}

/// The frame at the front of `block`, and the bytes that it takes (0 where there is none).
///
/// `last`: nothing comes behind the block.
#[must_use]
pub fn next(block: &[u8], frame_bytes_max: usize, last: bool) -> (Frame<'_>, usize) {
    match counted(block, frame_bytes_max) {
        Length::Known(before, bytes) => match block.get(before..before + bytes) {
            Some(frame) => (Frame::Whole(frame), before + bytes),
            None if last => (Frame::CutOff, block.len()),
            None => (Frame::Partial, 0),
        },
        Length::TooLong => (Frame::TooLong, 0),
        Length::Unfinished if !last => (Frame::Partial, 0),
        Length::Unfinished | Length::None => line(block, frame_bytes_max, last),
    }
}

enum Length {
    /// Bytes of the length itself with its space, and of the message.
    Known(usize, usize),
    TooLong,
    /// Digits up to the end of the block.
    Unfinished,
    None,
}

fn counted(block: &[u8], frame_bytes_max: usize) -> Length {
    if !matches!(block.first(), Some(b'1'..=b'9')) {
        return Length::None;
    }
    let mut bytes = 0_usize;
    for (at, byte) in block.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                bytes = bytes.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
            }
            b' ' if bytes > frame_bytes_max => return Length::TooLong,
            b' ' => return Length::Known(at + 1, bytes),
            _ => return Length::None,
        }
        if at == frame_bytes_max {
            return Length::None;
        }
    }
    Length::Unfinished
}

fn line(block: &[u8], frame_bytes_max: usize, last: bool) -> (Frame<'_>, usize) {
    let within = &block[..block.len().min(frame_bytes_max + 1)];
    match within.iter().position(|byte| matches!(byte, b'\n' | 0)) {
        Some(end) => (Frame::Whole(&block[..end]), end + 1),
        None if block.len() > frame_bytes_max => {
            (Frame::Whole(&block[..frame_bytes_max]), frame_bytes_max)
        }
        None if last && !block.is_empty() => (Frame::Whole(block), block.len()),
        None => (Frame::Partial, 0),
    }
}
