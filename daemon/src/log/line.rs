//! Which of the files with a segment's name are this log's, in their place: by their headers alone.
//!
//! Headers of one log, in the order of their numbers, never go back: neither in epoch nor in group
//! nor in `seq`, and each names as its predecessor the one before it or a number between the two
//! (that one is missing, or has lost its header). Where files contradict each other, the longest
//! line that holds this is the log's; what is not in it was put there by somebody, and is set
//! aside.

use super::decision::Place;
use crate::format::SegmentHeader;

/// Whether `later` can stand behind `earlier` in one log. If it can behind that, it can behind
/// everything that `earlier` can stand behind.
#[must_use]
pub fn follows(earlier: &SegmentHeader, later: &SegmentHeader) -> bool {
    earlier.segment_no < later.segment_no
        && later.before_segment_no >= earlier.segment_no
        && later.before_segment_no < later.segment_no
        && later.epoch >= earlier.epoch
        && later.before_group >= earlier.before_group
        && later.before_next_seq >= earlier.before_next_seq
}

/// The place of each file, given its number and its valid header, in the order of the numbers.
#[must_use]
pub fn places(headers: &[(u64, SegmentHeader)]) -> Vec<Place> {
    let mut places: Vec<Place> = headers
        .iter()
        .map(
            |(number, header)| {
                if header.segment_no == *number { Place::Fits } else { Place::OtherNumber }
            },
        )
        .collect();
    let Some(uuid) = uuid_of(headers, &places) else { return places };
    for ((_, header), place) in headers.iter().zip(&mut places) {
        if *place == Place::Fits && header.log_uuid != uuid {
            *place = Place::OtherLog;
        }
    }
    let ours: Vec<usize> = (0..headers.len()).filter(|at| places[*at] == Place::Fits).collect();
    let line = longest_line(&ours.iter().map(|at| headers[*at].1).collect::<Vec<_>>());
    for (at, in_line) in ours.into_iter().zip(line) {
        if !in_line {
            places[at] = Place::OutOfLine;
        }
    }
    places
}

/// The log's uuid: what most of the files in their own name say; of as many, the older ones.
fn uuid_of(headers: &[(u64, SegmentHeader)], places: &[Place]) -> Option<[u8; 16]> {
    let mut counts: Vec<([u8; 16], usize)> = Vec::new();
    for ((_, header), place) in headers.iter().zip(places) {
        if *place == Place::Fits {
            match counts.iter_mut().find(|(uuid, _)| *uuid == header.log_uuid) {
                Some((_, count)) => *count += 1,
                None => counts.push((header.log_uuid, 1)),
            }
        }
    }
    // The last maximum of the reversed list is the first one.
    counts.iter().rev().max_by_key(|(_, count)| *count).map(|(uuid, _)| *uuid)
}

/// Which headers are in the longest line; of as long ones, in that which ends with the newest
/// epoch.
fn longest_line(headers: &[SegmentHeader]) -> Vec<bool> {
    if headers.windows(2).all(|pair| follows(&pair[0], &pair[1])) {
        return vec![true; headers.len()];
    }
    // For each header, the longest line that ends with it: its length, and the one before.
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(headers.len());
    for (at, header) in headers.iter().enumerate() {
        let before = (0..at).filter(|before| follows(&headers[*before], header));
        let before = before.max_by_key(|before| best[*before].0);
        best.push((before.map_or(1, |before| best[before].0 + 1), before));
    }
    let mut in_line = vec![false; headers.len()];
    let mut next = (0..headers.len()).max_by_key(|at| (best[*at].0, headers[*at].epoch));
    while let Some(at) = next {
        in_line[at] = true;
        next = best[at].1;
    }
    in_line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(segment_no: u64) -> SegmentHeader {
        SegmentHeader {
            log_uuid: [1; 16],
            segment_no,
            salt: segment_no,
            created_at_ns: 0,
            epoch: 10 + segment_no,
            before_segment_no: segment_no - 1,
            before_end_offset: 4096,
            before_group: 10 * segment_no,
            before_next_seq: 100 * segment_no,
            before_chain: [0; 32],
            before_root: [0; 32],
        }
    }

    fn log() -> Vec<(u64, SegmentHeader)> {
        (3..9).map(|number| (number, header(number))).collect()
    }

    #[test]
    fn a_whole_log_fits() {
        assert_eq!(places(&log()), [Place::Fits; 6]);
        assert_eq!(places(&[]), []);
        // Numbers between may be missing, and an epoch may have many segments.
        let mut some = log();
        some.remove(2);
        some.iter_mut().for_each(|(_, header)| header.epoch = 1);
        assert_eq!(places(&some), [Place::Fits; 5]);
    }

    #[test]
    fn each_field_that_contradicts_its_place_takes_that_one_segment_out() {
        type Change = fn(&mut SegmentHeader);
        let changes: [(Change, Place); 9] = [
            (|header| header.segment_no += 20, Place::OtherNumber),
            (|header| header.log_uuid[3] ^= 1, Place::OtherLog),
            (|header| header.epoch += 5, Place::OutOfLine),
            (|header| header.epoch -= 5, Place::OutOfLine),
            (|header| header.before_group += 25, Place::OutOfLine),
            (|header| header.before_group -= 25, Place::OutOfLine),
            (|header| header.before_next_seq += 250, Place::OutOfLine),
            (|header| header.before_next_seq -= 250, Place::OutOfLine),
            (|header| header.before_segment_no -= 2, Place::OutOfLine),
        ];
        for (number, (change, place)) in changes.into_iter().enumerate() {
            for at in 2..4 {
                let mut changed = log();
                change(&mut changed[at].1);
                let mut expected = [Place::Fits; 6];
                expected[at] = place;
                assert_eq!(places(&changed), expected, "change {number} at {at}");
            }
        }
    }

    #[test]
    fn the_newest_segment_is_no_more_believed_than_others() {
        for change in [
            (|header: &mut SegmentHeader| header.epoch = 1) as fn(&mut SegmentHeader),
            |header| header.before_next_seq = 5,
            |header| header.before_segment_no = 2,
            |header| header.before_segment_no = 99,
        ] {
            let mut changed = log();
            change(&mut changed[5].1);
            assert_eq!(places(&changed)[..5], [Place::Fits; 5]);
            assert_eq!(places(&changed)[5], Place::OutOfLine);
        }
    }

    #[test]
    fn of_two_that_contradict_each_other_the_later_life_counts() {
        let (mut old, mut new) = (header(3), header(4));
        old.epoch = 9;
        new.before_next_seq = 1;
        assert_eq!(places(&[(3, old), (4, new)]), [Place::OutOfLine, Place::Fits]);
    }
}
