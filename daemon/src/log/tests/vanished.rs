//! A segment is deleted under a running writer.

use super::*;
use crate::disk::Disk;

fn deleted_after(tickets: u64, in_flight: bool) -> (World, Vec<u64>) {
    let mut world = World::new(Setup::default());
    let mut worker = world.attach();
    let session = world.connect(&mut worker, 1);
    for ticket in 1..=tickets {
        worker.event(&session, ticket, &"x".repeat(3000));
        world.run();
    }
    let segment_no = world.durability().get(durability::SEGMENT_NO);
    let path = Path::new(DIR).join(crate::log::recovery::segment_name(segment_no));
    world.disk.unlink(&path).unwrap();
    world.disk.sync_dir(Path::new(DIR)).unwrap();
    if in_flight {
        worker.event(&session, tickets + 1, "y");
    }
    worker.take();
    let error = world.writer.cycle().unwrap_err().to_string();
    assert!(error.contains("was deleted under us: it was put back"), "{error}");
    assert_eq!(worker.take(), [], "nothing is told that no name has");
    (world, (1..=tickets).collect())
}

#[test]
fn a_segment_that_is_deleted_under_its_writer_is_put_back_whole() {
    for tickets in [1, 5, 20, 33] {
        for in_flight in [false, true] {
            for cut in [false, true] {
                let (world, acknowledged) = deleted_after(tickets, in_flight);
                let world = if cut { world.cut_power() } else { world.kill() };
                assert_eq!(world.report.gaps, []);
                let found: Vec<u64> = world.read().iter().map(|row| row.ticket).collect();
                assert_eq!(found, acknowledged, "cut: {cut}");
            }
        }
    }
}

#[test]
fn a_log_that_is_not_there_is_not_begun_anew() {
    let (world, _) = deleted_after(1, false);
    let served = Some(world.report.log_uuid);
    for follower in
        [FollowerPosition::default(), FollowerPosition { group: 3, seq: 9, root: [1; 32] }]
    {
        let (setup, empty) = (Setup { served, follower, ..Setup::default() }, SimDisk::new());
        let error = World::on(empty.clone(), setup).err().expect("nothing is there").to_string();
        assert!(error.ends_with("is not in /log: there is none"), "{error}");
        assert_eq!(empty.list(Path::new(DIR)).unwrap(), [""; 0]);
    }
    let (other, _) = deleted_after(1, false);
    let before = other.disk.list(Path::new(DIR)).unwrap();
    let disk = other.disk.after_kill();
    let setup = Setup { served, ..Setup::default() };
    let error = World::on(disk.clone(), setup).err().expect("it is another one").to_string();
    assert!(error.contains("is not in /log: there is log "), "{error}");
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), before);
    assert_eq!(World::on(world.disk.after_kill(), setup).unwrap().report.gaps, []);
}
