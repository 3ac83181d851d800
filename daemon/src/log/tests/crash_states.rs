//! Every state in which a power cut may leave the disk, at every call that changes it.
//!
//! A history is played once while the disk notes itself before each changing call. Each of these
//! moments is a cut: what was not synced may have reached the platter or not, sector by sector, so
//! one cut has many states. Few unsynced sectors are tried in all combinations, many in telling
//! ones (none, all, each alone, each missing, each prefix) and in random ones. The log recovers
//! from each state, and what was acknowledged before the cut must be there, byte for byte. Some of
//! the recoveries are cut themselves, at every call, and recovered from again.
//!
//! `CERTEUS_ATTACK=full` tries more than a hundred thousand different states; `CERTEUS_SEED` is of
//! the random ones.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::board::{PAGE_FOLLOWER, follower};
use crate::disk::sim::{Cut, Unsynced};

const PRODUCERS: usize = 2;
/// Of each producer; all of them wait in the rings before the first group is written.
const TICKETS: u64 = 84;
/// So many of each are decided when the history ends: events are in flight at every cut.
const DECIDED: u64 = 60;
/// Fewer unsynced sectors than this are tried in all combinations.
const ALL_BELOW: usize = 11;

/// What the clients had been told, and what had been let go, at a cut.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    durable_seq: u64,
    trim_below: u64,
    /// By producer: the last ticket whose verdict it has.
    settled: [u64; PRODUCERS],
}

/// A history and what became of each event of it.
struct History {
    setup: Setup,
    cuts: Vec<Cut<Told>>,
    /// By seq, from 1: producer, ticket, data.
    events: Vec<(usize, u64, String)>,
    births: [u64; PRODUCERS],
}

enum Sent {
    Event { id: Option<String>, data: String },
    Reject,
}

/// What ticket `ticket` of a producer carries: all sizes, own ids, ids that come again, nonsense.
fn sent(producer: usize, ticket: u64) -> Sent {
    let size = [3, 700, 40, 1800, 90][(ticket as usize * 3 + producer) % 5];
    let data = format!("{producer}-{ticket} {}", "x".repeat(size));
    match ticket % 9 {
        4 => Sent::Reject,
        // The same id and the same content as two tickets before.
        7 => Sent::Event {
            id: Some(format!("id {}", ticket - 2)),
            data: keyed(producer, ticket - 2),
        },
        5 => Sent::Event { id: Some(format!("id {ticket}")), data: keyed(producer, ticket) },
        _ => Sent::Event { id: None, data },
    }
}

fn keyed(producer: usize, ticket: u64) -> String {
    format!("{producer}-{ticket} with an id")
}

fn offer_from(worker: &mut Worker, session: &Session, producer: usize, from: u64) {
    for ticket in from..=TICKETS {
        let fits = match sent(producer, ticket) {
            Sent::Event { id, data } => worker.offer(session, ticket, id.as_deref(), &data),
            Sent::Reject => worker.reject(session, ticket, Reason::InvalidJson),
        };
        assert!(fits, "the ring holds a whole history");
    }
}

/// Plays a history with a kill in its middle, trimming as it goes, and notes each cut.
fn play(setup: Setup) -> History {
    let told = Arc::new(Mutex::new(Told::default()));
    let mut history = History { setup, cuts: vec![], events: vec![], births: [0; PRODUCERS] };
    let mut disk = SimDisk::new();
    for life in 0..3 {
        let noted = {
            let told = told.clone();
            disk.cuts(move || *told.lock().unwrap())
        };
        let mut world = World::on(disk, setup).unwrap();
        let mut worker = world.attach_with(256 * 1024, 256 * 1024);
        let mut sessions = Vec::new();
        for producer in 0..PRODUCERS {
            let settled = told.lock().unwrap().settled[producer];
            let birth = (life > 0).then_some(history.births[producer]);
            let (session, _) = world.resume(&mut worker, producer as u8 + 1, birth, settled);
            assert_eq!(session.high, settled, "everything decided was told");
            history.births[producer] = session.birth_seq;
            sessions.push(session);
        }
        for (producer, session) in sessions.iter().enumerate() {
            offer_from(&mut worker, session, producer, session.high + 1);
        }
        let until = (life + 1) * DECIDED / 3;
        while told.lock().unwrap().settled.iter().any(|settled| *settled < until) {
            world.writer.cycle().unwrap();
            let answers = worker.take();
            let mut told = told.lock().unwrap();
            told.durable_seq = world.durable_seq();
            for (producer, session) in sessions.iter().enumerate() {
                for entry in verdicts(&answers, session.number) {
                    told.settled[producer] = entry.last_ticket();
                    if entry.verdict == Verdict::Accepted {
                        history.note(producer, &entry);
                    }
                }
            }
            // The follower is a segment behind the writer.
            let current = world.durability().get(durability::SEGMENT_NO);
            told.trim_below = current.saturating_sub(2);
            world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, told.trim_below);
        }
        if life == 1 {
            world.writer.seal().unwrap();
        }
        disk = world.disk.after_kill();
        history.cuts.append(&mut noted.lock().unwrap());
    }
    history
}

impl History {
    fn note(&mut self, producer: usize, run: &Entry) {
        for offset in 0..u64::from(run.count) {
            let (seq, ticket) = (run.seq + offset, run.ticket + offset);
            let Sent::Event { data, .. } = sent(producer, ticket) else { panic!("a rejection") };
            if self.events.len() < seq as usize {
                self.events.resize(seq as usize, (0, 0, String::new()));
            }
            self.events[seq as usize - 1] = (producer, ticket, data);
        }
    }

    /// Recovers, and finds all that `told` says, and nothing that nobody sent.
    fn recovers(&self, disk: SimDisk, told: &Told, what: &dyn Fn() -> String) -> World {
        let world = World::on(disk, self.setup)
            .unwrap_or_else(|error| panic!("{}: it does not start: {error}", what()));
        assert_eq!(world.report.gaps, [], "{}", what());
        let durable_seq = world.durable_seq();
        assert!(durable_seq >= told.durable_seq, "{}: {durable_seq}, {told:?}", what());
        let (rows, gaps) = Files::of(&world.disk).rows_and_gaps(durable_seq);
        let kept_from = rows.first().map_or(durable_seq + 1, |row| row.seq);
        assert!(gaps.iter().all(|(_, last)| *last < kept_from), "{}: {gaps:?}", what());
        assert!(kept_from == 1 || told.trim_below > 1, "{}: trimmed {kept_from}", what());
        for row in &rows {
            let (_, ticket, data) = &self.events[row.seq as usize - 1];
            assert_eq!((row.ticket, &row.data), (*ticket, data), "{}", what());
        }
        world
    }

    /// After a recovery: marks as they were told, the log goes on, and a start after it agrees.
    fn goes_on(&self, world: World, told: &Told, what: &dyn Fn() -> String) {
        let durable_seq = world.durable_seq();
        let mut world = world.cut_power();
        assert_eq!(world.durable_seq(), durable_seq, "{}: what it published", what());
        let mut worker = world.attach();
        for producer in 0..PRODUCERS {
            if told.settled[producer] > 0 {
                let birth = Some(self.births[producer]);
                let number = worker.hello(producer as u8 + 1, birth, told.settled[producer]);
                let answers = world.answers(&mut worker);
                let Some(Return::Welcome(welcome)) = answers.last() else {
                    panic!("{}: {number} is not welcome: {answers:?}", what())
                };
                assert!(welcome.high >= told.settled[producer], "{}: {welcome:?}", what());
            }
        }
        let session = world.connect(&mut worker, 99);
        worker.event(&session, 1, "goes on");
        let answers = world.answers(&mut worker);
        assert_eq!(verdicts(&answers, session.number)[0].seq, durable_seq + 1, "{}", what());
        let world = world.cut_power();
        assert_eq!(world.durable_seq(), durable_seq + 1, "{}", what());
    }
}

/// Which of `count` unsynced sectors survive, `limit` times at the most.
fn choices(count: usize, limit: usize, random: &mut impl FnMut() -> u64) -> Vec<Vec<bool>> {
    if count < ALL_BELOW && 1 << count <= limit {
        return (0..1_u32 << count)
            .map(|bits| (0..count).map(|index| bits >> index & 1 == 1).collect())
            .collect();
    }
    let mut chosen = vec![vec![false; count], vec![true; count]];
    for at in 0..count {
        chosen.push((0..count).map(|index| index == at).collect());
        chosen.push((0..count).map(|index| index != at).collect());
        chosen.push((0..count).map(|index| index < at).collect());
    }
    chosen.truncate(limit);
    while chosen.len() < limit {
        chosen.push((0..count).map(|_| random() & 1 == 1).collect());
    }
    chosen
}

fn random_from(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

/// How much is tried.
struct Effort {
    /// Every so many cuts.
    stride: usize,
    /// States of one cut, for each prefix of its operations on names.
    states: usize,
    /// One recovery in so many is cut itself.
    cut_again: usize,
    states_again: usize,
}

struct Attack<'a> {
    history: &'a History,
    effort: &'a Effort,
    seen: &'a Mutex<HashSet<u64>>,
}

impl Attack<'_> {
    /// Tries those states of one cut that nobody has tried before.
    fn strike(&self, at: usize, cut: &Cut<Told>, again: bool, random: &mut impl FnMut() -> u64) {
        let Unsynced { names, sectors } = cut.disk.unsynced();
        let states = if again { self.effort.states_again } else { self.effort.states };
        let mut number = at;
        for names in 0..=names {
            for chosen in choices(sectors.len(), states, random) {
                let kept: Vec<(usize, usize)> = sectors
                    .iter()
                    .zip(&chosen)
                    .filter_map(|(sector, kept)| kept.then_some(*sector))
                    .collect();
                let disk = cut.disk.survive(names, &kept);
                let state =
                    disk.digest() ^ cut.told.durable_seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                if !self.seen.lock().unwrap().insert(state) {
                    continue;
                }
                let what = || format!("cut {at}, names {names}, sectors {kept:?}, again {again}");
                number += 1;
                let noted = {
                    let told = cut.told;
                    (!again && number % self.effort.cut_again == 0).then(|| disk.cuts(move || told))
                };
                let world = self.history.recovers(disk, &cut.told, &what);
                // Of the recovery alone, not of what is written behind it.
                let later: Vec<Cut<Told>> =
                    noted.map_or_else(Vec::new, |noted| std::mem::take(&mut noted.lock().unwrap()));
                if number % 16 == 0 {
                    self.history.goes_on(world, &cut.told, &what);
                }
                for cut in &later {
                    self.strike(at, cut, true, random);
                }
            }
        }
    }
}

#[test]
fn every_crash_state_keeps_what_was_acknowledged() {
    let (full, seed) = attack();
    let effort = if full {
        Effort { stride: 1, states: 2048, cut_again: 12, states_again: 16 }
    } else {
        Effort { stride: 3, states: 32, cut_again: 100, states_again: 2 }
    };
    let seen = Mutex::new(HashSet::new());
    let (mut cuts, mut in_flight, mut acknowledged) = (0, u64::MAX, 0);
    let before = std::time::Instant::now();
    for (segment_bytes, recycle) in [(32 * 1024, true), (64 * 1024, true), (64 * 1024, false)] {
        let setup = Setup { segment_bytes, recycle, group_records_max: 5, ..Setup::default() };
        let history = play(setup);
        let attack = Attack { history: &history, effort: &effort, seen: &seen };
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                let (attack, next) = (&attack, &next);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(attack.effort.stride, Ordering::Relaxed);
                        let Some(cut) = attack.history.cuts.get(at) else { break };
                        let mut random = random_from(seed.wrapping_mul(100_003) + at as u64);
                        attack.strike(at, cut, false, &mut random);
                    }
                });
            }
        });
        cuts += history.cuts.len() / effort.stride;
        let told = history.cuts.iter().map(|cut| cut.told);
        let waiting =
            told.map(|told| PRODUCERS as u64 * TICKETS - told.settled.iter().sum::<u64>());
        in_flight = in_flight.min(waiting.min().unwrap_or(0));
        acknowledged += history.events.len();
    }
    let states = seen.lock().unwrap().len();
    eprintln!("{cuts} cuts, {states} states, {:.1} s", before.elapsed().as_secs_f64());
    report("simulated disk: sectors lost at a power cut", states, acknowledged, in_flight);
    assert!(states >= if full { 100_000 } else { 500 }, "{states}");
}
