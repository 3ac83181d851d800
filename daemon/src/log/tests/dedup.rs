//! The dedup window against a model: the newest ids in log order, through restarts and harm.
//!
//! The model is a list of every accepted id in log order. What the writer publishes as `from_seq`
//! is its promise: whatever the model has from there on is recognised, by its newest event, with
//! the right verdict. While nobody took a sidecar away and the size was the same, `from_seq` is
//! exactly that of the newest N.

use crate::board::{PAGE_FOLLOWER, PAGE_LOG, follower, log as count};

use super::*;
use crate::disk::Disk;

const ALPHABET: u64 = 40;

struct Random(u64);

impl Random {
    /// xorshift64*, below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

struct Case {
    world: World,
    worker: Worker,
    session: Session,
    ticket: u64,
    birth_seq: u64,
    random: Random,
    /// `(seq, id, content)` of every accepted event, oldest first.
    log: Vec<(u64, u64, bool)>,
    /// Whether the size has changed, and whether a sidecar was harmed.
    resized: bool,
    harmed: bool,
    from_seq: u64,
    asked: u64,
    told: [u64; 3],
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let dedup_keys = 1 + random.below(25) as usize;
        let mut world = World::new(Setup { dedup_keys, ..Setup::default() });
        let mut worker = world.attach();
        let session = world.connect(&mut worker, 1);
        Self {
            world,
            worker,
            session,
            ticket: 0,
            birth_seq: 0,
            random,
            log: Vec::new(),
            resized: false,
            harmed: false,
            from_seq: 1,
            asked: 0,
            told: [0; 3],
        }
    }

    fn step(self) -> Self {
        let mut case = self;
        match case.random.below(20) {
            0..=9 => case.append(),
            10..=12 => case.trim(),
            13 | 14 => case = case.restart(|world| world.kill()),
            15 | 16 => case = case.restart(World::cut_power),
            17 => {
                let keys = 1 + case.random.below(25) as usize;
                case.resized = true;
                case = case.restart(|mut world| {
                    world.setup.dedup_keys = keys;
                    world.kill()
                });
            }
            18 => case = case.restart(World::kill_twice),
            _ => case = case.harm(),
        }
        case.published();
        case
    }

    fn published(&mut self) {
        self.world.writer.publish_gauges();
        let page = self.world.board.page(PAGE_LOG);
        let from_seq = page.get(count::DEDUP_FROM_SEQ);
        let keys = self.world.setup.dedup_keys;
        let first = self.log.len().saturating_sub(keys);
        let newest = self.log.get(first).map_or(from_seq, |(seq, ..)| *seq);
        assert!(from_seq >= newest, "more than {keys} ids: from {from_seq}, not {newest}");
        if !self.harmed {
            let bound = self.from_seq.max(newest);
            assert!(from_seq <= bound, "forgotten: from {from_seq}, not {bound}");
        }
        if !self.harmed && !self.resized {
            assert_eq!(from_seq, newest, "the newest {keys}");
        }
        assert!(page.get(count::DEDUP_KEYS) <= keys as u64);
        let none = from_seq > self.world.durable_seq();
        assert_eq!(page.get(count::DEDUP_FROM_NS) == 0, none, "from {from_seq}");
        self.from_seq = from_seq;
    }

    /// A few events of one group, with ids that are often known, and contents of two kinds.
    fn append(&mut self) {
        let mut offered = Vec::new();
        for _ in 0..=self.random.below(6) {
            let (id, content) = (self.random.below(ALPHABET), self.random.below(4) == 0);
            self.ticket += 1;
            let data = format!("{content}{}", "x".repeat(1500));
            self.worker.event_with_id(&self.session, self.ticket, &format!("id-{id}"), &data);
            offered.push((self.ticket, id, content));
        }
        let told = self.world.answers(&mut self.worker);
        let mut entries = verdicts(&told, self.session.number).into_iter().flat_map(|entry| {
            let seqs = u64::from(entry.verdict.has_seq());
            (0..u64::from(entry.count.max(1))).map(move |at| Entry {
                ticket: entry.ticket + at,
                seq: entry.seq + at * seqs,
                ..entry
            })
        });
        for (ticket, id, content) in offered {
            let entry = entries.next().expect("a verdict for each");
            assert_eq!(entry.ticket, ticket);
            self.decided(&entry, id, content);
        }
    }

    fn decided(&mut self, entry: &Entry, id: u64, content: bool) {
        self.asked += 1;
        let keys = self.world.setup.dedup_keys;
        // The window as it was when this very ticket was decided.
        let first = self.log.len().saturating_sub(keys);
        let newest = self.log.get(first).map_or(0, |(seq, ..)| *seq);
        let known = self.log.iter().rev().find(|(_, other, _)| *other == id).copied();
        let promised = known.filter(|(seq, ..)| *seq >= newest.max(self.from_seq));
        // Below a hole it may know more than it promises, and then by an older event.
        let hole = self.harmed && known.is_none_or(|(seq, ..)| seq < self.from_seq);
        let told = |seq: &u64, other: &u64| *seq == entry.seq && *other == id && hole;
        let older = self.log.iter().find(|(seq, other, _)| told(seq, other)).copied();
        let maybe = older.or(known.filter(|(seq, ..)| *seq >= newest));
        match (entry.verdict, entry.reason) {
            (Verdict::Accepted, _) => {
                assert_eq!(promised, None, "id-{id} accepted again, known from {newest}");
                self.log.push((entry.seq, id, content));
                self.told[0] += 1;
            }
            (Verdict::Duplicate, _) => {
                assert_eq!(maybe, Some((entry.seq, id, content)), "no duplicate");
                self.told[1] += 1;
            }
            (Verdict::Rejected, Reason::IdConflict) => {
                assert_eq!(maybe, Some((entry.seq, id, !content)), "no conflict");
                self.told[2] += 1;
            }
            other => panic!("not asked for: {other:?}"),
        }
    }

    /// The follower is up to here: what is sealed goes, its sidecars stay as long as needed.
    fn trim(&mut self) {
        let current = self.world.writer.current.segment_no;
        self.world.board.page(PAGE_FOLLOWER).set(follower::TRIM_SEGMENT, current);
        self.world.run();
    }

    fn restart(mut self, how: impl FnOnce(World) -> World) -> Self {
        let mut world = how(self.world);
        let mut worker = world.attach();
        // Where a table is gone, who has nothing in doubt goes on as if born now.
        let birth_seq = if self.harmed { (1 << 62) - 1 } else { self.birth_seq };
        let (session, again) = world.resume(&mut worker, 1, Some(birth_seq), self.ticket);
        assert_eq!((session.high, again), (self.ticket, vec![]));
        (self.world, self.worker, self.session) = (world, worker, session);
        self
    }

    /// A sidecar is deleted, or one of its bytes changes; the log writer does not run meanwhile.
    fn harm(mut self) -> Self {
        let disk = self.world.disk.after_kill();
        let mut names = disk.names();
        names.retain(|name| name.ends_with(".keys"));
        names.sort();
        if names.is_empty() {
            return self;
        }
        let name = names[self.random.below(names.len() as u64) as usize].clone();
        let (deleted, at) = (self.random.below(2) == 0, self.random.below(4096));
        // That of a segment which is still there is only a shortcut: nothing may be missing then.
        let segment = name.replace(".keys", ".log");
        self.harmed |= !disk.names().contains(&segment);
        self.restart(|world| {
            if deleted {
                disk.unlink(&Path::new(DIR).join(&name)).unwrap();
            } else {
                disk.damage(&name, |bytes| {
                    let at = at as usize % bytes.len();
                    bytes[at] ^= 0x40;
                });
            }
            World::on(disk, world.setup).unwrap()
        })
    }
}

impl World {
    /// Two starts, one behind the other.
    fn kill_twice(self) -> Self {
        self.kill().kill()
    }
}

#[test]
fn the_window_is_the_newest_ids_through_all_that_happens() {
    let (full, seed) = attack();
    let cases = if full { 600 } else { 40 };
    let (mut asked, mut told, mut harmed) = (0, [0; 3], 0);
    for number in 0..cases {
        let mut case = Case::new(seed.wrapping_mul(1_000_003) + number);
        for _ in 0..60 {
            case = case.step();
        }
        asked += case.asked;
        harmed += u64::from(case.harmed);
        for (sum, one) in told.iter_mut().zip(case.told) {
            *sum += one;
        }
    }
    assert!(told.iter().all(|one| *one > cases * 5), "too few of a kind: {told:?}");
    assert!(harmed > cases / 20, "too few harmed: {harmed}");
    report("dedup window against its model", cases as usize, asked as usize, told[1] + told[2]);
}
