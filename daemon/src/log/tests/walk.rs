//! Which group may follow which, by hand-made segments; and what the helper may let go.

use super::*;
use crate::disk::{Disk, DiskFile};
use crate::format::{ALIGN, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::log::group::Group;
use crate::log::keeper::Keeper;
use crate::log::sidecar::Sidecar;
use crate::log::walk::{Position, Tail, walk};

const SALT: u64 = 77;

fn segment() -> SegmentHeader {
    SegmentHeader {
        log_uuid: [1; 16],
        segment_no: 1,
        salt: SALT,
        created_at_ns: 0,
        epoch: 1,
        before_segment_no: 0,
        before_end_offset: 0,
        before_group: 4,
        before_next_seq: 10,
        before_chain: [5; 32],
        before_root: [6; 32],
    }
}

/// The header of a group of two records behind `position`.
fn group_after(position: &Position) -> (GroupHeader, Vec<u8>) {
    let mut group = Group::default();
    group.push_record(b"record 1", [1; 32]);
    group.push_record(b"record 2", [2; 32]);
    let header = group.header(position, SALT, 1, 1);
    let body = group.body_bytes();
    (header, group.close(&header, None)[128..][..body].to_vec())
}

/// Writes groups one behind the other and walks them: how many are taken, where it ends.
fn walked(groups: &[(GroupHeader, Vec<u8>)]) -> (u64, u64, Tail) {
    let disk = SimDisk::new();
    let file = disk.open(Path::new("segment"), true).unwrap();
    let mut offset = SEGMENT_HEADER_BYTES;
    for (header, body) in groups {
        file.write_at(offset, &[&header.encode()[..], body].concat()).unwrap();
        offset += header.group_bytes();
    }
    file.truncate(offset + ALIGN).unwrap();
    let walk = walk(&file, &segment(), u64::MAX, |_| ()).unwrap();
    assert_eq!(walk.holes, []);
    (walk.groups, walk.position.next_seq, walk.tail)
}

#[test]
fn a_group_follows_only_the_one_whose_hash_number_and_seq_it_names() {
    let before = Position::before(&segment());
    let first = group_after(&before);
    let second = group_after(&Position::after(&first.0));
    assert_eq!(walked(&[first.clone(), second.clone()]), (2, 14, Tail::Unwritten));
    let changes: [fn(&mut GroupHeader); 4] = [
        |header| header.chain[0] ^= 1,
        |header| header.group -= 1,
        |header| header.first_seq -= 1,
        |header| header.salt += 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = second.clone();
        change(&mut other.0);
        let (groups, next_seq, _) = walked(&[first.clone(), other]);
        assert_eq!((groups, next_seq), (1, 12), "change {index}");
    }
}

#[test]
fn the_first_group_may_be_the_copy_of_the_last_one_and_nothing_else() {
    let copied = group_after(&Position { group: 3, next_seq: 8, ..Position::start() });
    let mut header = segment();
    header.before_chain = copied.0.hash();
    let count = |first: &(GroupHeader, Vec<u8>), header: &SegmentHeader| {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("segment"), true).unwrap();
        file.write_at(SEGMENT_HEADER_BYTES, &[&first.0.encode()[..], &first.1].concat()).unwrap();
        walk(&file, header, u64::MAX, |_| ()).unwrap().groups
    };
    assert_eq!(count(&copied, &header), 1);
    assert_eq!(count(&copied, &segment()), 0, "of another chain");
}

#[test]
fn groups_behind_the_end_that_the_successor_tells_are_not_the_logs() {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let (one, two) = (world.connect(&mut worker, 1), world.connect(&mut worker, 2));
    worker.event(&one, 1, "one");
    worker.event(&two, 1, "two");
    world.run();
    worker.event(&one, 2, "never synced");
    world.disk.die_after(2);
    assert!(world.writer.cycle().is_err());
    let name = world.segments()[0].clone();
    let with_it = world.disk.read(&name);
    let mut world = world.cut_power();
    let mut worker = world.attach();
    let (two, _) = world.resume(&mut worker, 2, Some(0), 1);
    worker.event(&two, 2, "instead");
    world.run();
    // The bytes turn up again, and the sidecar is gone.
    world.disk.damage(&name, |bytes| *bytes = with_it);
    let keys = name.replace(".log", ".keys");
    world.disk.damage(&keys, |bytes| bytes.clear());
    let mut world = world.kill();
    let mut worker = world.attach();
    assert_eq!(world.resume(&mut worker, 1, Some(0), 0).0.high, 1);
    assert_eq!(world.resume(&mut worker, 2, Some(0), 0).0.high, 2);
    assert_eq!(world.durable_seq(), 3);
    assert_eq!(Files::of(&world.disk).rows(3)[2].data, "instead");
}

#[test]
fn the_helper_keeps_what_has_no_durable_sidecar_and_what_a_follower_needs() {
    let world = World::new(Setup::default());
    let limits = world.setup.options(Path::new("/quarantine")).segments;
    let keeper = Keeper::start(Arc::new(world.disk.clone()), PathBuf::from(DIR), limits, 5);
    keeper.add(1, limits.segment_bytes, 1, false);
    keeper.add(2, limits.segment_bytes, 1, true);
    keeper.add(3, limits.segment_bytes, 1, false);
    for number in [2, 3] {
        let name = crate::log::recovery::segment_name(number);
        world.disk.open(&Path::new(DIR).join(name), true).unwrap();
    }
    keeper.trim_below(2, 0);
    keeper.step().unwrap();
    assert_eq!(keeper.size().segments, 3);
    keeper.add(1, limits.segment_bytes, 1, true);
    keeper.step().unwrap();
    assert_eq!(keeper.size().segments, 2);
    world.disk.set_free_bytes(0);
    keeper.step().unwrap();
    assert_eq!(keeper.size().segments, 2, "however short the disk is");
}

#[test]
fn a_sidecar_of_an_earlier_life_of_a_number_is_not_believed() {
    let world = World::new(Setup::default());
    let stale = Sidecar::new(1, 1, 1, &world.writer.producers);
    stale.write(&world.disk, Path::new(DIR)).unwrap();
    // Nothing was logged: the number comes again, and this time its segment is filled.
    let mut world = world.kill();
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    let mut ticket = 0;
    while world.durability().get(durability::SEGMENT_NO) == 1 {
        ticket += 1;
        worker.event_with_id(&session, ticket, &ticket.to_string(), &"x".repeat(1000));
        world.writer.cycle().unwrap();
    }
    // Killed before the helper has written the sidecar.
    let mut world = world.kill();
    assert_eq!(world.writer.window.len() as u64, ticket);
    let mut worker = world.attach();
    assert_eq!(world.resume(&mut worker, 1, Some(0), 0).0.high, ticket);
}
