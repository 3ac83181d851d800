use std::os::fd::AsRawFd;

use super::*;
use crate::worker::forward::TURN_RECORDS_MAX;
use crate::{keyed, merkle};

#[test]
fn events_arrive_in_order_and_whole() {
    let mut world = World::new();
    let mut client = world.connect(1);
    for number in 1..=100 {
        client.append(&format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(number)));
    }
    world.run();
    let frames = world.log.take();
    assert_eq!(tickets(&frames), (1..=100).collect::<VecDeque<_>>());
    for (frame, number) in frames.iter().zip(1_u64..) {
        let Forward::Event { ticket, envelope, leaf, record } = frame else { panic!("{frame:?}") };
        assert_eq!(*ticket, number);
        assert_eq!(record.len() % 8, 0, "padded");
        let parsed = Record::parse(record).unwrap();
        assert!(record[parsed.bytes.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(parsed.attributes.get(Tag::Type), Some(&b"t"[..]));
        assert!(parsed.data.starts_with(format!("{{\"n\":{number},").as_bytes()));
        assert_eq!((parsed.header.ticket, parsed.header.tenant_no), (number, 3));
        assert_eq!(parsed.header.producer_no, client.welcome.producer_no);
        let salt = merkle::salt(&LOG_KEY, client.welcome.producer_no, number);
        assert_eq!(*leaf, merkle::leaf(&salt, parsed.bytes));
        assert_eq!(envelope.epoch, client.welcome.epoch);
        assert_eq!(envelope.session, client.number);
        assert!(!envelope.has_key);
    }
    assert_eq!(world.page.get(worker::FORWARDED_TOTAL), 100);
}

#[test]
fn what_an_earlier_event_left_in_the_ring_is_not_logged_with_a_later_one() {
    let mut world = World::new();
    let mut client = world.connect(1);
    for round in 0..200 {
        client.append(&format!("\"{}\"", "secret".repeat(300)));
        client.append(&format!("\"{}\"", "x".repeat(round % 9)));
        world.run();
        for frame in world.log.take() {
            let Forward::Event { ticket, record, .. } = frame else { panic!() };
            let bytes = Record::parse(&record).unwrap().bytes.len();
            assert!(record[bytes..].iter().all(|byte| *byte == 0), "ticket {ticket}");
        }
        let last = client.ticket;
        world.log.answer(client.accepted(last - 1, 2));
        world.run();
        client.read_verdicts();
    }
}

#[test]
fn rejections_travel_in_ticket_order_as_an_envelope_alone() {
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append("1");
    client.append("{");
    client.append("2");
    client.append_with(&[(Tag::Time, "yesterday")], "3").unwrap();
    client.append_with(&[(Tag::Source, "theirs")], "4").unwrap();
    client.append_with(&[(Tag::Source, "other/1")], "5").unwrap();
    client.append(&format!("\"{}\"", "x".repeat(5000)));
    client.append_payload(b"short").unwrap();
    client.append_payload(b"\xff\xff\xff\x7f\0\0\0\0x").unwrap();
    client.append_payload(b"\x04\0\0\0\0\0\0\x01\x01\x01\0t1").unwrap();
    client.append("6");
    world.run();
    let expected = [
        None,
        Some(Reason::InvalidJson),
        None,
        Some(Reason::InvalidTime),
        Some(Reason::SourceNotAllowed),
        None,
        Some(Reason::TooLarge),
        Some(Reason::MalformedEvent),
        Some(Reason::MalformedEvent),
        Some(Reason::MalformedEvent),
        None,
    ];
    let frames = world.log.take();
    assert_eq!(tickets(&frames), (1..=11).collect::<VecDeque<_>>());
    for (frame, expected) in frames.iter().zip(expected) {
        let reason = match frame {
            Forward::Reject { reason, .. } => Some(*reason),
            _ => None,
        };
        assert_eq!(reason, expected, "{frame:?}");
    }
    assert_eq!(world.page.get(worker::REJECTED_TOTAL), 7);
    assert_eq!(world.page.get(worker::MALFORMED_EVENT_TOTAL), 3);
    assert_eq!(world.page.get(worker::SOURCE_NOT_ALLOWED_TOTAL), 1);
}

#[test]
fn an_id_has_its_key_and_digest() {
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append_with(&[(Tag::Id, "o-1")], "1").unwrap();
    client.append_with(&[(Tag::Id, "o-1"), (Tag::Source, "other/1")], "1").unwrap();
    world.run();
    let frames = world.log.take();
    for (frame, source) in frames.iter().zip(["check", "other/1"]) {
        let Forward::Event { envelope, record, .. } = frame else { panic!("{frame:?}") };
        let record = Record::parse(record).unwrap();
        assert!(envelope.has_key);
        assert_eq!(envelope.key, keyed::dedup_key(&LOG_KEY, b"default", source.as_bytes(), b"o-1"));
        let digest = keyed::content_digest(&LOG_KEY, &record.attributes, 0, record.data);
        assert_eq!(envelope.digest, digest);
    }
}

#[test]
fn verdicts_settle_release_and_ring_once_for_each_awaited_value() {
    let mut world = World::new();
    let mut client = world.connect(1);
    for _ in 0..4 {
        client.append("1");
    }
    world.run();
    world.log.take();
    assert_eq!(world.kernel.in_flight(), 4);
    client.wake_at(3, u64::MAX);
    world.log.answer(client.accepted(1, 2));
    world.run();
    assert_eq!((client.settled(), client.bells()), (2, 0));
    world.log.answer(client.rejected(3, Reason::IdConflict));
    world.run();
    assert_eq!((client.settled(), client.bells()), (3, 1));
    let head = client.ring.committed();
    client.wake_at(3, head);
    world.log.answer(client.accepted(4, 1));
    world.run();
    assert_eq!((client.settled(), client.bells()), (4, 1), "for the head; 3 was rung for");
    assert_eq!(client.ring.head(), head);
    assert_eq!(world.kernel.in_flight(), 0);
    let verdicts: Vec<_> =
        client.read_verdicts().iter().map(|entry| (entry.ticket, entry.count, entry.seq)).collect();
    assert_eq!(verdicts, [(1, 2, 1001), (3, 1, 0), (4, 1, 1004)]);
    client.append("1");
    world.run();
    let frames = world.log.take();
    let Forward::Event { envelope, .. } = &frames[0] else { panic!() };
    assert_eq!(envelope.settled_read, 4);
    world.log.answer(client.accepted(5, 1));
    world.run();
    assert_eq!((client.settled(), client.bells()), (5, 0), "both wishes were rung for");
}

#[test]
fn verdicts_then_settled_then_head_become_visible() {
    use crate::failpoint::watch;
    use certeus_ipc::layout::{C_HEAD, C_SETTLED};
    use std::cell::RefCell;
    use std::rc::Rc;
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append("1");
    world.run();
    world.log.take();
    let c = client.ring.memory().c.clone();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let out = seen.clone();
    watch::with(move |name| {
        let words = [C_SETTLED, C_HEAD].map(|at| c.word(at).load(Ordering::SeqCst) > 0);
        out.borrow_mut().push((name.to_owned(), words));
    });
    world.log.answer(client.rejected(1, Reason::IdConflict));
    world.run();
    watch::clear();
    let seen = seen.borrow();
    let at = |name: &str| seen.iter().find(|(known, _)| known == name).expect(name).1;
    assert_eq!(at("worker-after-verdicts"), [false, false], "neither settled nor head");
    assert_eq!(at("worker-after-settled"), [true, false], "settled, with its verdict");
    assert_eq!(at("worker-after-head"), [true, true], "and then the bytes are free");
}

#[test]
fn a_full_forward_ring_is_back_pressure_and_nothing_is_lost() {
    let mut world = World::with_rings(16 * 1024, RING_BYTES);
    let mut clients = [world.connect(1), world.connect(2)];
    for number in 0..200 {
        for client in &mut clients {
            client.append(&format!("{{\"n\":{number}}}"));
        }
    }
    let mut seen: [VecDeque<u64>; 2] = Default::default();
    let mut rounds = 0;
    while seen.iter().any(|tickets| tickets.len() < 200) {
        world.run();
        rounds += 1;
        let frames = world.log.take();
        assert!(!frames.is_empty(), "it goes on when there is room");
        for frame in frames {
            let Forward::Event { ticket, envelope, .. } = frame else { panic!() };
            let index = clients.iter().position(|client| client.number == envelope.session);
            seen[index.unwrap()].push_back(ticket);
        }
    }
    assert!(rounds > 2, "the ring was full in between");
    assert!(world.page.get(worker::FORWARD_FULL_TOTAL) > 0);
    assert!(seen.iter().all(|tickets| *tickets == (1..=200).collect::<VecDeque<_>>()));
}

#[test]
fn busy_clients_take_turns() {
    let mut world = World::with_rings(1 << 20, RING_BYTES);
    let mut clients = [world.connect(1), world.connect(2)];
    for client in &mut clients {
        while client.append_with(&[], "{\"load\":true}").is_some() {}
        assert!(client.ticket > 2 * TURN_RECORDS_MAX);
    }
    world.run();
    let session = |frame: &Forward| {
        let Forward::Event { envelope, .. } = frame else { panic!("{frame:?}") };
        envelope.session
    };
    let sessions: Vec<u32> = world.log.take().iter().map(session).collect();
    let turns: Vec<usize> = sessions.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
    let whole = usize::try_from(TURN_RECORDS_MAX).unwrap();
    assert_eq!(turns[1..4], [whole; 3], "the first one had two before the other rang: {turns:?}");
    assert!(turns[0] <= 2 * whole);
}

#[test]
fn a_kernel_that_waits_for_room_is_woken_when_there_is_some() {
    let mut world = World::with_rings(4096, RING_BYTES);
    let mut client = world.connect(1);
    let (stop, stopped) = rustix::pipe::pipe().unwrap();
    let mut kernel = world.kernel;
    kernel.watch(stop.as_fd(), stop.as_raw_fd()).unwrap();
    let thread = std::thread::spawn(move || kernel.run(3_600_000).unwrap());
    let log = &mut world.log;
    let mut taken = 0;
    for _ in 0..20 {
        // More than the forward ring holds at a time, in one publication.
        (0..100).for_each(|_| assert!(client.append_quietly("{\"room\":1}")));
        client.publish();
        while taken < client.ticket {
            taken += tickets(&log.take_sleepily()).len() as u64;
        }
        log.answer(client.accepted(client.ticket - 99, 100));
        client.wake_at(client.ticket, u64::MAX);
        while client.settled() < client.ticket {
            wait_for_bell(&client.socket);
        }
        client.read_verdicts();
    }
    rustix::io::write(&stopped, b"x").unwrap();
    thread.join().unwrap();
}

#[test]
fn a_session_does_not_rest_while_there_is_something_to_do() {
    let mut world = World::new();
    let mut client = world.connect(1);
    let session = world.kernel.session(client.number);
    assert_eq!(session.arm(), Ok(true));
    client.append("1");
    assert_eq!(session.arm(), Ok(false), "an event came");
    let full = certeus_ipc::layout::VERDICT_COUNT as u64;
    for ticket in 1..=full + 1 {
        world.run();
        world.log.take();
        world.log.answer(client.rejected(ticket, Reason::InvalidJson));
        world.run();
        client.append("1");
    }
    world.run();
    let session = world.kernel.session(client.number);
    assert!(session.is_stalled());
    assert_eq!(session.arm(), Ok(true), "nothing can be done before the client reads");
    client.settled();
    client.verdicts.next().unwrap();
    let _ = client.verdicts.acknowledge(1);
    let session = world.kernel.session(client.number);
    assert_eq!(session.arm(), Ok(false), "a verdict that waits has room");
}

#[test]
fn a_full_verdict_ring_drops_accepted_runs_and_keeps_everything_else() {
    let mut world = World::new();
    let mut client = world.connect(1);
    let full = certeus_ipc::layout::VERDICT_COUNT as u64;
    for ticket in 1..=full + 20 {
        client.append("1");
        world.run();
        world.log.take();
        let answer = match ticket {
            ticket if ticket <= full => client.rejected(ticket, Reason::InvalidJson),
            ticket if ticket <= full + 10 => client.accepted(ticket, 1),
            ticket => client.rejected(ticket, Reason::TooLarge),
        };
        world.log.answer(answer);
        world.run();
    }
    assert_eq!(client.settled(), full + 10, "accepted runs go by, a rejection waits");
    assert_eq!(world.kernel.in_flight(), 10, "and head with it");
    assert_eq!(client.bells(), 1, "who sleeps on a ticket behind it has to make room first");
    assert_eq!(client.read_verdicts().len() as u64, full);
    world.run();
    assert_eq!(client.settled(), full + 20);
    let rest: Vec<_> = client.read_verdicts().iter().map(|entry| entry.ticket).collect();
    assert_eq!(rest, (full + 11..=full + 20).collect::<Vec<_>>());
    assert_eq!(world.kernel.in_flight(), 0);
}

#[test]
fn a_sleeping_kernel_is_woken_by_a_doorbell_and_by_the_log_writer() {
    let mut world = World::new();
    let mut client = world.connect(1);
    quiet(&world.log.forward_bell);
    // Without a wake-up `run` would not come back to look before its hour is over.
    let mut kernel = world.kernel;
    let (stop, stopped) = rustix::pipe::pipe().unwrap();
    kernel.watch(stop.as_fd(), stop.as_raw_fd()).unwrap();
    let thread = std::thread::spawn(move || kernel.run(3_600_000).unwrap());
    let log = &mut world.log;
    for ticket in 1..=200 {
        client.append("1");
        assert_eq!(tickets(&log.take_sleepily()), [ticket]);
        client.wake_at(ticket, u64::MAX);
        log.answer(client.accepted(ticket, 1));
        while client.settled() < ticket {
            wait_for_bell(&client.socket);
        }
    }
    rustix::io::write(&stopped, b"x").unwrap();
    assert_eq!(thread.join().unwrap(), [Event::Readable(stop.as_raw_fd())]);
}

fn wait_for_bell(socket: &OwnedFd) {
    poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
    let mut byte = [0; 8];
    let _ = recv(socket, &mut byte, RecvFlags::DONTWAIT);
}
