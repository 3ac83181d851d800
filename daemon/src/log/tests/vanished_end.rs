//! The newest segments are deleted while no writer runs: nothing behind them tells what they held.

use super::gaps::{HELD_MAX, LIVES, log, numbers, path, records, records_once};
use super::*;
use crate::board::{PAGE_FOLLOWER, follower};
use crate::disk::Disk;
use crate::log::recovery::{Gap, segment_name};
use crate::log::trim;

fn has(disk: &SimDisk, segment_no: u64) -> bool {
    disk.names().contains(&segment_name(segment_no))
}

#[test]
fn the_newest_segments_that_vanished_are_told_and_their_numbers_do_not_come_again() {
    for gone in 1..=2 {
        for with_spare in [false, true] {
            let disk = log();
            assert!(has(&disk, LIVES + 1), "the spare");
            let first_gone = LIVES + 1 - gone;
            (first_gone..=LIVES).for_each(|number| disk.unlink(&path(number)).unwrap());
            if with_spare {
                disk.unlink(&path(LIVES + 1)).unwrap();
            }
            // That the spare was none, nobody can know when it is gone too.
            let segments = gone + u64::from(with_spare);
            let (first, _) = numbers(first_gone);
            let expected = (first, first - 1 + segments * HELD_MAX, "missing-segment");
            records_once(&disk, expected, &format!("{gone} gone, spare too: {with_spare}"));
        }
    }
}

#[test]
fn a_spare_that_vanished_counts_as_one_that_was_begun() {
    let disk = log();
    disk.unlink(&path(LIVES + 1)).unwrap();
    let (_, last) = numbers(LIVES);
    records_once(&disk, (last + 1, last + HELD_MAX, "missing-segment"), "spare");
}

#[test]
fn what_a_follower_has_of_a_segment_that_vanished_is_within_the_gap() {
    let disk = log();
    disk.unlink(&path(LIVES)).unwrap();
    let (first_seq, last) = numbers(LIVES);
    for seq in [first_seq, last, last + 2 * HELD_MAX] {
        let follower = FollowerPosition { group: 1000, seq, root: [1; 32] };
        let setup = Setup { follower, ..Setup::default() };
        let world = World::on(disk.after_kill(), setup).unwrap();
        let last_seq = seq.max(first_seq - 1 + HELD_MAX);
        assert_eq!(world.report.gaps, [Gap { first_seq, last_seq, reason: "missing-segment" }]);
    }
}

#[test]
fn without_a_record_of_what_was_made_the_log_ends_where_it_ends() {
    let disk = log();
    disk.unlink(&Path::new(DIR).join(trim::NAME)).unwrap();
    disk.unlink(&path(LIVES)).unwrap();
    let world = World::on(disk.after_kill(), Setup::default()).unwrap();
    assert_eq!(world.report.gaps, []);
}

/// Through rotations, recycled spares and starts: whenever the newest segment goes, what was told
/// of it is named, and without harm nothing is.
#[test]
fn at_no_moment_do_numbers_come_again_when_the_newest_segment_goes() {
    for recycle in [false, true] {
        let setup = Setup { recycle, bytes_max: 4 * 64 * 1024, ..Setup::default() };
        let mut world = World::new(setup);
        let mut rotated = 0;
        for life in 1..=3 {
            let mut worker = world.attach();
            let session = world.connect(&mut worker, life);
            for ticket in 1..=60 {
                worker.event(&session, ticket, &"x".repeat(3000));
                world.run();
                worker.take();
                let newest = world.durability().get(durability::SEGMENT_NO);
                let durable = world.durable_seq();
                // What is delivered goes, so that spares are recycled.
                world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, newest);
                for cut in [false, true] {
                    let restart = || match cut {
                        false => world.disk.after_kill(),
                        true => world.disk.restart(|| false),
                    };
                    let what = format!("life {life}, ticket {ticket}, cut {cut}");
                    let whole = World::on(restart(), setup).unwrap();
                    assert_eq!(
                        (whole.report.next_seq, &whole.report.gaps[..]),
                        (durable + 1, &[][..])
                    );
                    let disk = restart();
                    disk.unlink(&path(newest)).unwrap();
                    let harmed = World::on(disk, setup).unwrap();
                    assert!(harmed.report.next_seq > durable, "{what}");
                    let [gap] = harmed.report.gaps[..] else {
                        panic!("{what}: {:?} {}", harmed.report.gaps, harmed.report.label)
                    };
                    // It may just have been begun, and nothing of it be told.
                    assert!(gap.first_seq <= durable + 1 && durable <= gap.last_seq, "{what}");
                }
            }
            rotated = world.durability().get(durability::SEGMENT_NO);
            world = if life == 1 { world.kill() } else { world.cut_power() };
        }
        assert!(rotated > 9, "{rotated}");
    }
}

/// The start that finds the loss dies at each of its calls: the next one tells it all the same.
#[test]
fn a_start_that_dies_leaves_the_loss_to_the_next_one() {
    let disk = log();
    disk.unlink(&path(LIVES)).unwrap();
    let disk = disk.restart(|| true);
    let (first_seq, _) = numbers(LIVES);
    for call in 1.. {
        let dying = disk.after_kill();
        dying.die_after(call);
        let done = World::on(dying.clone(), Setup::default()).is_ok();
        for names in [0, usize::MAX] {
            let world = World::on(dying.survive(names, &[]), Setup::default()).unwrap();
            let kept = records(&world.disk);
            let told = kept.first().map(|gap| (gap.first_seq, gap.reason.word()));
            assert_eq!(told, Some((first_seq, "missing-segment")), "call {call}");
            // Should it be found twice, the second range is behind the first one.
            let last_seq = kept.last().unwrap().last_seq;
            assert_eq!(world.report.next_seq, last_seq + 1, "call {call}");
            assert!(last_seq >= first_seq - 1 + HELD_MAX, "call {call}");
        }
        if done {
            assert!(call > 10, "{call}");
            break;
        }
    }
}

#[test]
fn a_segment_that_no_spare_stands_behind_is_told_by_the_start_that_made_it() {
    let setup = Setup { bytes_max: 64 * 1024, ..Setup::default() };
    let mut world = World::new(setup);
    for life in 1..=3_u8 {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, life);
        worker.event(&session, 1, "x");
        world.run();
        let (newest, durable) =
            (world.durability().get(durability::SEGMENT_NO), world.durable_seq());
        assert_eq!((newest, has(&world.disk, newest + 1)), (u64::from(life), false));
        let disk = world.disk.after_kill();
        disk.unlink(&path(newest)).unwrap();
        let harmed = World::on(disk, setup).unwrap();
        let told = harmed.report.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq));
        assert_eq!(told.collect::<Vec<_>>(), [(durable, durable - 1 + HELD_MAX)]);
        world = world.kill();
    }
}
