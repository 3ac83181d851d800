use super::*;
use certeus_ipc::layout::{P_SETTLED_READ, P_TAIL, P_VERDICTS_READ};

/// Lets `harm` write into the ring of one of two clients, and gives how that one's session ended.
fn ended_by(harm: impl FnOnce(&mut Client)) -> &'static str {
    let mut world = World::new();
    let mut victim = world.connect(1);
    let mut other = world.connect(2);
    victim.append("1");
    world.run();
    world.log.take();
    harm(&mut victim);
    victim.ring_doorbell();
    other.append("2");
    let events = world.run();
    let [Event::Ended(number, reason)] = events[..] else { panic!("{events:?}") };
    assert_eq!(number, victim.number);
    let frames = world.log.take();
    let bye = Bye {
        session: victim.number,
        clean: false,
        epoch: victim.welcome.epoch,
        producer_no: victim.welcome.producer_no,
    };
    assert!(frames.contains(&Forward::Bye(bye)), "{frames:?}");
    assert_eq!(world.page.get(worker::VIOLATIONS_TOTAL), 1);
    assert_eq!(world.page.get(worker::SESSIONS), 1);
    // The other session does not notice, and late answers for the ended one find nobody.
    other.append("3");
    world.run();
    let mut arrived = tickets(&frames);
    arrived.extend(tickets(&world.log.take()));
    assert_eq!(arrived, [1, 2]);
    world.log.answer(victim.accepted(1, 1));
    world.log.answer(other.accepted(1, 2));
    assert_eq!(world.run(), []);
    assert_eq!((victim.settled(), other.settled()), (0, 2));
    assert_eq!(world.kernel.in_flight(), 0);
    reason
}

fn set_tail(client: &Client, tail: u64) {
    client.p.word(P_TAIL).store(tail, Ordering::SeqCst);
}

/// Puts `header` and `ticket` where the next frame begins, and makes them visible.
fn write_frame(client: &Client, header: u64, ticket: u64, size: u64) {
    let at = PAGE_BYTES + client.ring.committed() as usize;
    client.p.word(at).store(header, Ordering::SeqCst);
    client.p.word(at + 8).store(ticket, Ordering::SeqCst);
    set_tail(client, client.ring.committed() + size);
}

const EVENT: u64 = 1 << 32;

#[test]
fn impossible_tails_end_the_session() {
    assert_eq!(ended_by(|client| set_tail(client, client.ring.committed() + 8)), "ring-position");
    assert_eq!(ended_by(|client| set_tail(client, 0)), "ring-position");
    assert_eq!(ended_by(|client| set_tail(client, u64::MAX - 15)), "ring-position");
    assert_eq!(ended_by(|client| set_tail(client, RING_BYTES + 16)), "ring-position");
}

#[test]
fn impossible_lengths_end_the_session() {
    assert_eq!(ended_by(|client| write_frame(client, EVENT | 100, 2, 32)), "ring-length");
    assert_eq!(ended_by(|client| write_frame(client, EVENT | 0xffff_ffff, 2, 32)), "ring-length");
    let large = RING_BYTES / 8;
    assert_eq!(ended_by(|client| write_frame(client, EVENT | large, 2, large + 16)), "ring-length");
}

#[test]
fn unknown_kinds_flags_and_bits_end_the_session() {
    for header in [0, 2 << 32, EVENT | 1 << 40, EVENT | 1 << 48, 0xff << 32] {
        let reason = ended_by(|client| write_frame(client, header | 16, 2, 32));
        assert_eq!(reason, "ring-kind", "{header:x}");
    }
}

#[test]
fn a_ticket_that_is_not_the_next_ends_the_session() {
    for ticket in [0, 1, 3, u64::MAX] {
        let reason = ended_by(|client| write_frame(client, EVENT | 16, ticket, 32));
        assert_eq!(reason, "ring-ticket", "{ticket}");
    }
}

#[test]
fn words_of_the_client_that_cannot_be_true_harm_nobody() {
    let mut world = World::new();
    let mut client = world.connect(1);
    for lie in [0, 5, u64::MAX] {
        client.p.word(P_SETTLED_READ).store(lie, Ordering::SeqCst);
        client.p.word(P_VERDICTS_READ).store(lie, Ordering::SeqCst);
        client.wake_at(lie, lie);
        let ticket = client.append("1");
        world.run();
        let frames = world.log.take();
        let Forward::Event { envelope, .. } = &frames[0] else { panic!("{frames:?}") };
        assert!(envelope.settled_read < ticket);
        world.log.answer(client.accepted(ticket, 1));
        assert_eq!(world.run(), []);
        assert_eq!(client.settled(), ticket);
    }
}

#[test]
fn a_payload_that_changes_after_it_was_copied_changes_nothing() {
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append("123456");
    world.run();
    for offset in (0..128).step_by(8) {
        client.p.word(PAGE_BYTES + offset).store(u64::MAX, Ordering::SeqCst);
    }
    let frames = world.log.take();
    assert_eq!(frames[0].data(), b"123456");
    world.log.answer(client.accepted(1, 1));
    assert_eq!(world.run(), [], "positions are private");
    assert_eq!(client.ring.head(), client.ring.committed());
}

#[test]
fn a_payload_that_changes_while_it_is_checked_is_logged_as_it_was_checked() {
    use crate::failpoint::watch;
    let mut world = World::new();
    let mut client = world.connect(1);
    client.append("123456");
    let before = client.p.word(PAGE_BYTES + 16).load(Ordering::SeqCst);
    // Right behind the copy: the lengths, the type and the data are now others, none of them valid.
    let p = client.p.clone();
    watch::with(move |name| {
        if name == "copied" {
            for offset in (16..64).step_by(8) {
                p.word(PAGE_BYTES + offset).store(u64::MAX >> 32, Ordering::SeqCst);
            }
        }
    });
    world.run();
    watch::clear();
    assert_ne!(client.p.word(PAGE_BYTES + 16).load(Ordering::SeqCst), before, "it struck");
    let frames = world.log.take();
    let Forward::Event { leaf, record, .. } = &frames[0] else { panic!("{frames:?}") };
    let parsed = Record::parse(record).unwrap();
    assert_eq!((parsed.attributes.get(Tag::Type), parsed.data), (Some(&b"t"[..]), &b"123456"[..]));
    let salt = crate::merkle::salt(&LOG_KEY, client.welcome.producer_no, 1);
    assert_eq!(*leaf, crate::merkle::leaf(&salt, parsed.bytes), "of the very bytes that are sent");
}

#[test]
fn memory_of_the_wrong_size_is_no_session() {
    let mut world = World::new();
    let page = PAGE_BYTES as u64;
    for (p_bytes, c_bytes, ring_bytes, settled) in [
        (page + RING_BYTES - 1, C_BYTES as u64, RING_BYTES, 0),
        (page + RING_BYTES, C_BYTES as u64 - 1, RING_BYTES, 0),
        (page + RING_BYTES + 16, C_BYTES as u64, RING_BYTES + 16, 0),
        (page + RING_BYTES / 2, C_BYTES as u64, RING_BYTES / 2, 0),
        (page + RING_BYTES, C_BYTES as u64, RING_BYTES, u64::MAX),
    ] {
        let identity = Identity {
            uid: 1,
            producer: [1; 16],
            tenant: "default".into(),
            source: "check".into(),
            allowed: Sources::new(["*"]),
            birth_seq: None,
            settled,
        };
        let (p, c) = (memory(p_bytes), memory(c_bytes));
        let (doorbell, socket) = (memory(0), memory(0));
        let added =
            world.kernel.add_session(identity, p.as_fd(), c.as_fd(), ring_bytes, doorbell, socket);
        assert_eq!(added, Err(rustix::io::Errno::INVAL));
    }
    assert_eq!(world.kernel.session_count(), 0);
}
