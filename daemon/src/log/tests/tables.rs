//! The decision tables: every observation has exactly one row, every row an observation, and the
//! README draws what the code does.

use std::fmt::Write;

use crate::log::beginning::{BEGINNING, beginning_row};
use crate::log::decision::{
    Begins, End, FILES, From, Gap, Groups, Header, NEWEST, Newest, OLDER, Older, Place, Quarantine,
    Reach, Reading, Recorded, Seen, Sidecar, Take, Use, file_row, newest_row, older_row,
};

fn every_file() -> Vec<(Header, Place, bool)> {
    let mut all = Vec::new();
    for header in Header::ALL {
        for place in Place::ALL {
            all.extend([false, true].map(|last| (*header, *place, last)));
        }
    }
    all
}

fn every_beginning() -> Vec<(Recorded, Begins)> {
    let begins = |recorded: Recorded| Begins::ALL.iter().map(move |begins| (recorded, *begins));
    Recorded::ALL.iter().flat_map(|recorded| begins(*recorded)).collect()
}

fn every_older() -> Vec<Older> {
    let mut all = Vec::new();
    for header in Header::ALL {
        for sidecar in Sidecar::ALL {
            for groups in Groups::ALL {
                all.extend(Reach::ALL.iter().map(|reach| Older {
                    header: *header,
                    sidecar: *sidecar,
                    groups: *groups,
                    reach: *reach,
                }));
            }
        }
    }
    all
}

fn every_newest() -> Vec<Newest> {
    let mut all = Vec::new();
    for header in Header::ALL {
        for groups in Groups::ALL {
            all.extend(End::ALL.iter().map(|end| Newest {
                header: *header,
                groups: *groups,
                end: *end,
            }));
        }
    }
    all
}

fn fits<T: PartialEq>(wanted: &[T], seen: &T) -> bool {
    wanted.is_empty() || wanted.contains(seen)
}

#[test]
fn every_observation_has_exactly_one_row_and_every_row_an_observation() {
    let mut reached = Vec::new();
    for (header, place, last) in every_file() {
        let rows = FILES.iter().filter(|row| {
            fits(row.header, &header) && fits(row.place, &place) && fits(row.last, &last)
        });
        let labels: Vec<&str> = rows.map(|row| row.label).collect();
        assert_eq!(labels, [file_row(header, place, last).label], "{header:?} {place:?} {last}");
        reached.push(labels[0]);
    }
    assert!(FILES.iter().all(|row| reached.contains(&row.label)));
    let mut reached = Vec::new();
    for (recorded, begins) in every_beginning() {
        let rows = BEGINNING
            .iter()
            .filter(|row| fits(row.recorded, &recorded) && fits(row.begins, &begins));
        let labels: Vec<&str> = rows.map(|row| row.label).collect();
        assert_eq!(labels, [beginning_row(recorded, begins).label], "{recorded:?} {begins:?}");
        reached.push(labels[0]);
    }
    assert!(BEGINNING.iter().all(|row| reached.contains(&row.label)));
    let mut reached = Vec::new();
    for seen in every_older() {
        let rows = OLDER.iter().filter(|row| row.matches(&seen));
        let labels: Vec<&str> = rows.map(|row| row.label).collect();
        assert_eq!(labels, [older_row(seen).label], "{seen:?}");
        reached.push(labels[0]);
    }
    assert!(OLDER.iter().all(|row| reached.contains(&row.label)));
    let mut reached = Vec::new();
    for seen in every_newest() {
        let rows = NEWEST.iter().filter(|row| row.matches(&seen));
        let labels: Vec<&str> = rows.map(|row| row.label).collect();
        assert_eq!(labels, [newest_row(seen).label], "{seen:?}");
        reached.push(labels[0]);
    }
    assert!(NEWEST.iter().all(|row| reached.contains(&row.label)));
}

#[test]
fn no_row_drops_acknowledged_groups_in_silence() {
    for (header, place, last) in every_file() {
        let row = file_row(header, place, last);
        // Only what nobody has written anything into may be overwritten.
        assert_eq!(row.becomes == Use::Spare, header == Header::Unwritten && last);
        let odd = header == Header::Valid && place != Place::Fits;
        assert_eq!(row.becomes == Use::Aside, odd, "{header:?} {place:?}");
    }
    for (recorded, begins) in every_beginning() {
        let row = beginning_row(recorded, begins);
        // What the record does not let go is told when it is not there.
        let vanished =
            recorded == Recorded::Good && matches!(begins, Begins::Behind | Begins::Nowhere);
        let told = row.from == From::Record && row.gap == Gap::IfMissing;
        assert_eq!(told, vanished, "{recorded:?} {begins:?}");
    }
    for seen in every_older() {
        let row = older_row(seen);
        let read =
            seen.sidecar == Sidecar::Lost && matches!(seen.header, Header::Valid | Header::Damaged);
        assert_eq!(matches!(row.reading, Reading::Groups | Reading::Aside), read, "{seen:?}");
        let whole = seen.header == Header::Valid
            && seen.groups != Groups::Holed
            && seen.reach == Reach::Reached;
        if read && !whole {
            // Bytes that cannot be read are kept for a look, and numbers missing there are told.
            let kept = row.quarantine != Quarantine::Nothing || row.reading == Reading::Aside;
            assert!(kept && row.gap == Gap::IfMissing, "{seen:?}");
        }
    }
    for seen in every_newest() {
        let row = newest_row(seen);
        if !matches!(seen.header, Header::Valid | Header::Damaged) {
            assert_eq!((row.take, row.quarantine), (Take::Start, Quarantine::Nothing));
            continue;
        }
        assert_eq!(row.take == Take::Predecessor, seen.groups == Groups::None, "{seen:?}");
        let unreadable =
            seen.header == Header::Damaged || seen.groups == Groups::Holed || seen.end == End::Torn;
        assert_eq!(row.quarantine != Quarantine::Nothing, unreadable, "{seen:?}");
        if seen.groups == Groups::Holed {
            assert_ne!(row.gap, Gap::No, "{seen:?}");
        }
    }
}

fn cell<T: Seen>(wanted: &[T]) -> String {
    if wanted.is_empty() {
        return "any".into();
    }
    wanted.iter().map(|value| value.word()).collect::<Vec<_>>().join(", ")
}

/// The tables as `daemon/README.md` has them.
fn drawing() -> String {
    let mut out = String::new();
    let mut table = |heads: &[&str], rows: Vec<Vec<String>>| {
        writeln!(out, "| {} |", heads.join(" | ")).unwrap();
        writeln!(out, "|{}", "---|".repeat(heads.len())).unwrap();
        for row in rows {
            writeln!(out, "| {} |", row.join(" | ")).unwrap();
        }
        out.push('\n');
    };
    let label = |label: &str| format!("`{label}`");
    let last = |last: &[bool]| match last {
        [] => "any".to_owned(),
        some => some.iter().map(|yes| if *yes { "nothing" } else { "segments" }).collect(),
    };
    table(
        &["file", "its header", "its place", "behind it", "is"],
        FILES
            .iter()
            .map(|row| {
                let is = row.becomes.word().to_owned();
                vec![label(row.label), cell(row.header), cell(row.place), last(row.last), is]
            })
            .collect(),
    );
    table(
        &["beginning", "record of trims", "the oldest segment is", "counted from", "gap"],
        BEGINNING
            .iter()
            .map(|row| {
                let [from, gap] = [row.from.word(), row.gap.word()].map(str::to_owned);
                vec![label(row.label), cell(row.recorded), cell(row.begins), from, gap]
            })
            .collect(),
    );
    table(
        &[
            "older segment",
            "header",
            "sidecar",
            "groups",
            "its end",
            "is read",
            "quarantine",
            "gap",
        ],
        OLDER
            .iter()
            .map(|row| {
                let [reading, copied, gap] =
                    [row.reading.word(), row.quarantine.word(), row.gap.word()].map(str::to_owned);
                let (sidecar, groups) = (cell(row.sidecar), cell(row.groups));
                let reach = cell(row.reach);
                vec![
                    label(row.label),
                    cell(row.header),
                    sidecar,
                    groups,
                    reach,
                    reading,
                    copied,
                    gap,
                ]
            })
            .collect(),
    );
    table(
        &["newest segment", "header", "groups", "behind them", "the log ends", "quarantine", "gap"],
        NEWEST
            .iter()
            .map(|row| {
                let [take, copied, gap] =
                    [row.take.word(), row.quarantine.word(), row.gap.word()].map(str::to_owned);
                let (groups, end) = (cell(row.groups), cell(row.end));
                vec![label(row.label), cell(row.header), groups, end, take, copied, gap]
            })
            .collect(),
    );
    out
}

#[test]
fn the_readme_draws_the_tables_of_the_code() {
    let readme = include_str!("../../../README.md");
    let drawn = drawing();
    for table in drawn.trim_end().split("\n\n") {
        assert!(readme.contains(table), "daemon/README.md must have:\n\n{drawn}");
    }
}
