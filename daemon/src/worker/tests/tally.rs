use super::*;
use crate::worker::Seen;

fn all(world: &World) -> Vec<Seen> {
    let (seen, next) = world.kernel.seen(0, usize::MAX);
    assert_eq!(next, None);
    seen
}

#[test]
fn each_session_has_its_own_sums() {
    let mut world = World::new();
    let (mut busy, quiet) = (world.connect(1), world.connect(2));
    busy.append("1");
    busy.append("{");
    busy.append("2");
    busy.append("3");
    world.run();
    world.log.take();
    world.log.answer(busy.accepted(1, 1));
    world.log.answer(busy.rejected(2, Reason::InvalidJson));
    world.log.answer(busy.rejected(3, Reason::IdConflict));
    world.run();
    let seen = all(&world);
    let numbers: Vec<u32> = seen.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [busy.number, quiet.number]);
    let tally = &seen[0].tally;
    assert_eq!((tally.events, tally.settled, tally.duplicates), (4, 3, 0));
    assert_eq!(tally.bytes, world.page.get(worker::BYTES_TOTAL));
    assert_eq!(tally.rejected.iter().sum::<u64>(), 2);
    assert_eq!(tally.rejected[Reason::InvalidJson as usize], 1, "the worker's own");
    assert_eq!(tally.rejected[Reason::IdConflict as usize], 1, "the log writer's");
    assert_eq!(seen[0].in_flight, 1);
    assert_eq!(seen[0].ring_used, busy.ring.committed() - busy.ring.head());
    assert_eq!(seen[0].ack_buckets.iter().sum::<u64>(), 3);
    assert_eq!((seen[1].tally.events, seen[1].ring_used), (0, 0));
}

#[test]
fn sessions_are_told_page_by_page() {
    let mut world = World::new();
    let clients: Vec<Client> = (1..=5).map(|producer| world.connect(producer)).collect();
    let (first, next) = world.kernel.seen(0, 2);
    assert_eq!(first.len(), 2);
    world.kernel.end_session(clients[3].number, false);
    world.run();
    let (second, next) = world.kernel.seen(next.unwrap(), 2);
    assert_eq!(next, None);
    let numbers: Vec<u32> = first.iter().chain(&second).map(|one| one.number).collect();
    let expected = [0, 1, 2, 4].map(|at: usize| clients[at].number);
    assert_eq!(numbers, expected, "who is gone is left out");
    let waiting = Client::add(&mut world.kernel, 9, None, 0);
    world.run();
    assert!(all(&world).iter().all(|one| one.number != waiting.number), "not welcome yet");
    assert_eq!(world.kernel.seen(1 << 20, 2).0.len(), 0);
}
