//! What was trimmed, and what only looks so: the record of trims, and starts that compare with it.

use super::*;
use crate::board::{PAGE_FOLLOWER, follower};
use crate::disk::Disk;
use crate::log::recovery::{Gap, segment_name};
use crate::log::trim::{self, TrimPoint};

const LIVES: u64 = 7;
const EACH: u64 = 6;
/// The lowest segment that [`trimmed_log`] keeps.
const LOWEST: u64 = 4;

/// `LIVES` segments of `EACH` events, two a group; those below `LOWEST` are trimmed.
fn trimmed_log() -> SimDisk {
    let mut world = World::new(Setup::default());
    for life in 0..LIVES {
        let mut worker = world.attach();
        let session = world.connect(&mut worker, life as u8 + 1);
        for ticket in 1..=EACH {
            worker.event_with_id(&session, ticket, &format!("{life} {ticket}"), "x");
            if ticket % 2 == 0 {
                world.run();
            }
        }
        if life + 1 < LIVES {
            world = world.kill();
        }
    }
    world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, LOWEST);
    world.run();
    assert_eq!(world.segments()[0], segment_name(LOWEST));
    world.disk.after_kill()
}

fn path(segment_no: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(segment_no))
}

fn start(disk: &SimDisk) -> World {
    World::on(disk.after_kill(), Setup::default()).unwrap()
}

fn recorded(disk: &SimDisk) -> TrimPoint {
    trim::read(disk, Path::new(DIR)).unwrap().expect("a record").1
}

#[test]
fn what_was_trimmed_is_no_loss_and_the_record_says_where_the_log_begins() {
    let disk = trimmed_log();
    let point = recorded(&disk);
    assert_eq!((point.segment_no, point.next_seq), (LOWEST, (LOWEST - 1) * EACH + 1));
    assert_ne!(point.chain, [0; 32]);
    let world = start(&disk);
    assert_eq!(world.report.gaps, []);
    assert_eq!(recorded(&world.disk), point);
}

#[test]
fn the_oldest_segments_that_vanished_are_a_gap_of_exactly_their_numbers() {
    for gone in 1..LIVES - LOWEST {
        let disk = trimmed_log();
        (LOWEST..LOWEST + gone).for_each(|number| disk.unlink(&path(number)).unwrap());
        let mut world = start(&disk);
        let (first_seq, next) = ((LOWEST - 1) * EACH + 1, LOWEST + gone);
        // The last group of what is gone still stands in the next one.
        let last_seq = (next - 1) * EACH - 2;
        let gap = Gap { first_seq, last_seq, reason: "missing-segment" };
        assert_eq!(world.report.gaps, [gap], "{gone} gone");
        assert!((LOWEST..next).all(|number| world.report.older.contains(&(number, "missing"))));
        // Told once: from now on the log begins with what is there.
        for life in 0..2 {
            assert_eq!(recorded(&world.disk).segment_no, next, "life {life}");
            world = if life == 0 { world.kill() } else { world.cut_power() };
            assert_eq!(world.report.gaps, [], "life {life}");
        }
    }
}

#[test]
fn sidecars_that_stayed_do_not_hide_that_their_segments_vanished() {
    let disk = trimmed_log();
    disk.unlink(&path(LOWEST)).unwrap();
    assert!(disk.names().contains(&crate::log::sidecar::name(LOWEST)));
    assert_eq!(start(&disk).report.gaps.len(), 1);
    // A small window: what is older than it is known by headers alone.
    let setup = Setup { dedup_keys: 1, ..Setup::default() };
    assert_eq!(World::on(disk, setup).unwrap().report.gaps.len(), 1);
}

#[test]
fn numbers_do_not_come_again_though_every_segment_vanished() {
    let disk = trimmed_log();
    for name in disk.names().iter().filter(|name| name.ends_with(".log") || name.contains("keys")) {
        disk.unlink(&Path::new(DIR).join(name)).unwrap();
    }
    let follower = FollowerPosition { group: 18, seq: 36, root: [1; 32] };
    let first_seq = (LOWEST - 1) * EACH + 1;
    let world = World::on(disk.after_kill(), Setup { follower, ..Setup::default() }).unwrap();
    let gap = Gap { first_seq, last_seq: 36, reason: "missing-segment" };
    assert_eq!((world.report.next_seq, &world.report.gaps[..]), (37, &[gap][..]));
    assert_eq!(start(&disk).report.next_seq, first_seq, "no less than what was trimmed");
}

#[test]
fn without_a_record_what_is_before_the_oldest_segment_counts_as_trimmed() {
    let disk = trimmed_log();
    let forgeries: [&dyn Fn(&SimDisk); 3] = [
        &|disk| disk.unlink(&Path::new(DIR).join(trim::NAME)).unwrap(),
        &|disk| disk.damage(trim::NAME, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1)),
        &|disk| {
            let mut record = trim::Record::open(disk, Path::new(DIR)).unwrap();
            record.write(TrimPoint { log_uuid: [7; 16], ..recorded(disk) }).unwrap();
        },
    ];
    for forge in forgeries {
        let damaged = disk.after_kill();
        forge(&damaged);
        damaged.unlink(&path(LOWEST)).unwrap();
        let world = start(&damaged);
        assert_eq!(world.report.gaps, []);
        assert_eq!(recorded(&world.disk).segment_no, LOWEST + 1, "from now on there is one");
    }
}

#[test]
fn a_record_that_tore_leaves_the_one_before() {
    let disk = trimmed_log();
    let mut record = trim::Record::open(&disk, Path::new(DIR)).unwrap();
    let before = recorded(&disk);
    for step in 1..5 {
        let point = TrimPoint { segment_no: before.segment_no + step, ..before };
        let old = recorded(&disk);
        let image = disk.read(trim::NAME);
        record.write(point).unwrap();
        assert_eq!(recorded(&disk), point);
        let written = disk.read(trim::NAME);
        let changed: Vec<usize> =
            (0..image.len()).filter(|at| image[*at] != written[*at]).collect();
        for at in changed {
            let torn = disk.after_kill();
            torn.damage(trim::NAME, |bytes| bytes[at] = !written[at]);
            assert_eq!(recorded(&torn), old, "step {step}, byte {at}");
        }
    }
}

/// At each call on the way the power goes, whatever reached the platter: a start finds no loss, for
/// nothing went whose going was not on the platter before.
#[test]
fn power_cuts_during_a_trim_lose_nothing_that_was_not_recorded() {
    for recycle in [false, true] {
        let setup = Setup { recycle, bytes_max: 3 * 64 * 1024, ..Setup::default() };
        let mut world = World::new(Setup { bytes_max: 1 << 40, ..setup });
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        for ticket in 1..=300 {
            worker.event(&session, ticket, &"x".repeat(900));
            world.run();
            worker.take();
        }
        let current = world.durability().get(durability::SEGMENT_NO);
        assert!(current > 3);
        // Everything so far is on the platter, the record too: only the trim's own syncs count.
        let start = world.disk.restart(|| true);
        for call in 1.. {
            let mut world = World::on(start.after_kill(), setup).unwrap();
            world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
            world.disk.die_after(call);
            let done = world.writer.cycle().is_ok();
            for names_survive in [false, true] {
                let names = if names_survive { usize::MAX } else { 0 };
                let world = World::on(world.disk.survive(names, &[]), setup).unwrap();
                let what = format!("call {call}, recycle {recycle}, names {names_survive}");
                assert_eq!(
                    (world.report.next_seq, &world.report.gaps[..]),
                    (301, &[][..]),
                    "{what}"
                );
            }
            if done {
                assert!(call > 10, "{call}");
                break;
            }
        }
    }
}
