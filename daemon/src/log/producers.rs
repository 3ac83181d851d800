//! Who appends, how far each of them is, and what it was told: the memory behind resume.
//!
//! A producer is `(tenant, uid, 128 random bits)`; its number in the log is ours. `high` is the
//! last ticket that is decided. Of the decided ones, `runs` keeps the verdicts that the client may
//! not have read yet, so that a ticket which comes again gets the answer that it had.
//!
//! The table follows the log: replaying records and entries through [`Producers::replay`] gives the
//! same one, so a restart knows what the dead writer knew of everything durable.

use std::collections::{HashMap, VecDeque};

use certeus_ipc::verdict::{Entry, Reason, Verdict};

use crate::format::{LogEntry, ProducerEntry, u32_at, u64_at};

/// More tickets than any ring can hold unsettled: the verdicts of older ones have been read.
const TICKETS_MAX: u64 = certeus_ipc::layout::RING_BYTES_MAX / 16;

/// Nobody can tell how many producers a lost group named: fewer than this.
const LOST_NUMBERS: u64 = 1 << 32;

type Identity = (u32, u32, [u8; 16]);

pub struct Producer {
    pub entry: ProducerEntry,
    /// Of the current session; 0: none, every record is stale.
    pub epoch: u64,
    pub high: u64,
    /// The segment in which its [`ProducerEntry`] stands, the latest; 0: in none.
    pub declared_in: u64,
    /// The group of its last record or entry; 0: nothing of it is logged.
    pub active_group: u64,
    /// `seq` of the last event that was in the log by then.
    pub active_seq: u64,
    /// The worker that has its session.
    pub worker: usize,
    /// Its number there.
    pub session: u32,
    runs: VecDeque<Entry>,
}

impl Producer {
    /// Decides the next ticket; `entry.ticket` is `high + 1`.
    pub fn decide(&mut self, entry: Entry) {
        assert_eq!(entry.ticket, self.high + 1, "tickets are decided one after the other");
        self.high = entry.last_ticket();
        match self.runs.back_mut() {
            Some(last) if last.continues(&entry) => last.count += entry.count,
            _ => self.runs.push_back(entry),
        }
        self.forget_verdicts(self.high.saturating_sub(TICKETS_MAX));
    }

    /// The client has read every verdict up to `settled`.
    pub fn forget_verdicts(&mut self, settled: u64) {
        while self.runs.front().is_some_and(|run| run.last_ticket() <= settled) {
            self.runs.pop_front();
        }
    }

    /// The verdict that `ticket` had, alone, unless the client has read it.
    #[must_use]
    pub fn verdict(&self, ticket: u64) -> Option<Entry> {
        let after = self.runs.partition_point(|run| run.last_ticket() < ticket);
        let run = *self.runs.get(after).filter(|run| run.ticket <= ticket)?;
        let seq = if run.verdict.has_seq() { run.seq + (ticket - run.ticket) } else { run.seq };
        Some(Entry { ticket, seq, count: 1, ..run })
    }

    /// Whether each decided ticket above `settled` has its verdict: a table that was lost, or that
    /// a start has cut, may know the last ones only.
    #[must_use]
    pub fn can_answer(&self, settled: u64) -> bool {
        let told: u64 = self.verdicts_above(settled).map(|entry| u64::from(entry.count)).sum();
        told == self.high.saturating_sub(settled)
    }

    /// The verdicts above `settled`, in ticket order.
    pub fn verdicts_above(&self, settled: u64) -> impl Iterator<Item = Entry> + '_ {
        self.runs.iter().filter_map(move |run| {
            if run.ticket > settled {
                return Some(*run);
            }
            let skip = settled + 1 - run.ticket;
            let left = u64::from(run.count).checked_sub(skip).filter(|left| *left > 0)?;
            Some(Entry {
                ticket: settled + 1,
                seq: run.seq + skip,
                count: u32::try_from(left).expect("less than count"),
                ..*run
            })
        })
    }
}

/// What a resume finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Known(u64),
    /// Nothing of it was ever durable.
    Nothing,
    /// It was forgotten, and nobody can tell any more.
    Expired,
}

pub struct Producers {
    by_no: HashMap<u64, Producer>,
    by_identity: HashMap<Identity, u64>,
    tenants: Vec<String>,
    next_no: u64,
    /// `(group, producer_no)` in log order; stale where the producer has been active since.
    order: VecDeque<(u64, u64)>,
    logged_count: usize,
    logged_max: usize,
    /// A producer born before this `seq` may have been forgotten.
    kept_since_seq: u64,
}

impl Producers {
    #[must_use]
    pub fn new(logged_max: usize) -> Self {
        Self {
            by_no: HashMap::new(),
            by_identity: HashMap::new(),
            tenants: Vec::new(),
            next_no: 1,
            order: VecDeque::new(),
            logged_count: 0,
            // The one that is just being active is never the oldest.
            logged_max: logged_max.max(1),
            kept_since_seq: 0,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_no.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_no.is_empty()
    }

    pub fn get(&self, no: u64) -> Option<&Producer> {
        self.by_no.get(&no)
    }

    pub fn get_mut(&mut self, no: u64) -> Option<&mut Producer> {
        self.by_no.get_mut(&no)
    }

    /// The number of a tenant, given at first sight, from 1.
    pub fn tenant_no(&mut self, name: &str) -> u32 {
        let index = self.tenants.iter().position(|known| known == name).unwrap_or_else(|| {
            self.tenants.push(name.to_owned());
            self.tenants.len() - 1
        });
        u32::try_from(index + 1).expect("tenants come from the configuration")
    }

    /// Looks a producer up for a resume.
    #[must_use]
    pub fn find(&self, tenant_no: u32, uid: u32, producer: [u8; 16], birth_seq: u64) -> Found {
        match self.by_identity.get(&(tenant_no, uid, producer)) {
            Some(no) => Found::Known(*no),
            None if birth_seq >= self.kept_since_seq => Found::Nothing,
            None => Found::Expired,
        }
    }

    /// Takes a new producer in and gives it its number.
    pub fn create(&mut self, mut entry: ProducerEntry, high: u64) -> u64 {
        entry.producer_no = self.next_no;
        let no = entry.producer_no;
        self.insert(Producer {
            entry,
            epoch: 0,
            high,
            declared_in: 0,
            active_group: 0,
            active_seq: 0,
            worker: usize::MAX,
            session: 0,
            runs: VecDeque::new(),
        });
        no
    }

    fn insert(&mut self, producer: Producer) {
        let entry = &producer.entry;
        let identity = (entry.tenant_no, entry.uid, entry.producer);
        self.next_no = self.next_no.max(entry.producer_no + 1);
        self.by_identity.insert(identity, entry.producer_no);
        let before = self.by_no.insert(entry.producer_no, producer);
        assert!(before.is_none(), "a producer number is given once");
    }

    pub fn remove(&mut self, no: u64) {
        if let Some(producer) = self.by_no.remove(&no) {
            let entry = &producer.entry;
            self.by_identity.remove(&(entry.tenant_no, entry.uid, entry.producer));
            self.logged_count -= usize::from(producer.active_group != 0);
        }
    }

    /// The sessions of a dead worker are over. Those of which nothing is logged are forgotten: a
    /// resume finds `Nothing` anyway.
    pub fn end_sessions(&mut self, worker: usize) {
        let mut unlogged = Vec::new();
        for (no, producer) in self.by_no.iter_mut().filter(|(_, known)| known.worker == worker) {
            producer.epoch = 0;
            if producer.active_group == 0 {
                unlogged.push(*no);
            }
        }
        for no in unlogged {
            self.remove(no);
        }
    }

    /// The producer has a record or entry in `group`; `seq` is the last number by then.
    pub fn touch(&mut self, no: u64, group: u64, seq: u64) {
        let Some(producer) = self.by_no.get_mut(&no) else { return };
        producer.active_seq = producer.active_seq.max(seq);
        if producer.active_group != group {
            self.logged_count += usize::from(producer.active_group == 0);
            producer.active_group = group;
            self.order.push_back((group, no));
        }
        if self.logged_count > self.logged_max {
            self.forget_oldest();
        }
        if self.order.len() > 4 * self.by_no.len() + 1024 {
            self.order.retain(|(group, no)| {
                self.by_no.get(no).is_some_and(|known| known.active_group == *group)
            });
        }
    }

    /// Acknowledged groups are gone, and with them what some producers were told: whoever was born
    /// before `next_seq` cannot be answered any more, and numbers given out in them stay unused.
    pub fn forget_all(&mut self, next_seq: u64) {
        let tenants = std::mem::take(&mut self.tenants);
        let next_no = self.next_no + LOST_NUMBERS;
        *self = Self { tenants, next_no, ..Self::new(self.logged_max) };
        self.kept_since_seq = next_seq - 1;
    }

    /// Forgets whoever was active longest ago and has no session: who has one is not forgotten
    /// because others come and go.
    fn forget_oldest(&mut self) {
        for _ in 0..self.order.len() {
            let (group, no) = self.order.pop_front().expect("every logged producer is in order");
            let Some(producer) = self.by_no.get(&no).filter(|known| known.active_group == group)
            else {
                continue;
            };
            if producer.epoch == 0 {
                self.kept_since_seq = self.kept_since_seq.max(producer.active_seq);
                self.remove(no);
                return;
            }
            self.order.push_back((group, no));
        }
    }

    /// Bounds what the dead have not read: beyond `runs_max` verdicts, whoever left the most of
    /// them is forgotten first. Many hostile producers would otherwise fill our memory, one after
    /// the other; who lost a connection has read nearly all of its own.
    pub fn forget_unread(&mut self, runs_max: usize) {
        let dead = self.by_no.iter().filter(|(_, producer)| producer.epoch == 0);
        let mut dead: Vec<_> = dead.map(|(no, producer)| (producer.runs.len(), *no)).collect();
        let mut runs: usize = dead.iter().map(|(runs, _)| runs).sum();
        if runs <= runs_max {
            return;
        }
        dead.sort_unstable();
        while runs > runs_max {
            let (most, no) = dead.pop().expect("what they have in all is not zero");
            runs -= most;
            self.kept_since_seq = self.kept_since_seq.max(self.by_no[&no].active_seq);
            self.remove(no);
        }
    }

    /// Takes in what a group of the log says of a producer. Recovery only.
    pub fn replay(&mut self, segment_no: u64, entries: &[LogEntry]) {
        for entry in entries {
            match entry {
                LogEntry::Producer(entry) => {
                    while self.tenants.len() < entry.tenant_no as usize {
                        self.tenants.push(String::new());
                    }
                    self.tenants[entry.tenant_no as usize - 1].clone_from(&entry.tenant);
                    if !self.by_no.contains_key(&entry.producer_no) {
                        self.insert(Producer {
                            entry: entry.clone(),
                            epoch: 0,
                            high: 0,
                            declared_in: 0,
                            active_group: 0,
                            active_seq: 0,
                            worker: usize::MAX,
                            session: 0,
                            runs: VecDeque::new(),
                        });
                    }
                    self.by_no.get_mut(&entry.producer_no).expect("just there").declared_in =
                        segment_no;
                }
                LogEntry::Verdict(_) | LogEntry::Gap(_) => {}
            }
        }
    }

    /// Takes in one decided ticket. Recovery only: tickets that no group tells of were settled.
    pub fn replay_ticket(&mut self, no: u64, entry: Entry) {
        if let Some(producer) = self.by_no.get_mut(&no).filter(|known| known.high < entry.ticket) {
            producer.high = entry.ticket - 1;
            producer.decide(entry);
        }
    }

    /// The table as it goes into a sidecar.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for word in [self.next_no, self.kept_since_seq, self.tenants.len() as u64] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for tenant in &self.tenants {
            out.extend_from_slice(&(tenant.len() as u64).to_le_bytes());
            out.extend_from_slice(tenant.as_bytes());
        }
        // In the order in which they are forgotten.
        let active = |(group, no): &(u64, u64)| {
            self.by_no.get(no).filter(|producer| producer.active_group == *group)
        };
        let logged: Vec<&Producer> = self.order.iter().filter_map(active).collect();
        out.extend_from_slice(&(logged.len() as u64).to_le_bytes());
        for producer in logged {
            let mut entry = Vec::new();
            LogEntry::Producer(producer.entry.clone()).write(&mut entry);
            for word in [
                entry.len() as u64,
                producer.high,
                producer.active_group,
                producer.active_seq,
                producer.runs.len() as u64,
            ] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(&entry);
            for word in producer.runs.iter().flat_map(|run| run.to_words()) {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// `None`: not what [`Producers::encode`] writes.
    #[must_use]
    pub fn decode(bytes: &[u8], logged_max: usize) -> Option<Self> {
        let mut rest = bytes;
        let mut take = |count: usize| {
            let (part, left) = rest.split_at_checked(count)?;
            rest = left;
            Some(part)
        };
        let mut table = Self::new(logged_max);
        let next_no = u64_at(take(8)?, 0);
        table.kept_since_seq = u64_at(take(8)?, 0);
        for _ in 0..u64_at(take(8)?, 0) {
            let length = usize::try_from(u64_at(take(8)?, 0)).ok()?;
            table.tenants.push(String::from_utf8(take(length)?.to_vec()).ok()?);
        }
        for _ in 0..u64_at(take(8)?, 0) {
            let head = take(40)?;
            let [LogEntry::Producer(entry)] =
                &LogEntry::parse_all(take(u32_at(head, 0) as usize)?)?[..]
            else {
                return None;
            };
            let mut runs = VecDeque::new();
            for _ in 0..u64_at(head, 32) {
                let run = take(Entry::BYTES)?;
                let words = [0, 8, 16, 24, 32].map(|at| u64_at(run, at));
                runs.push_back(Entry::from_words(words)?);
            }
            let no = entry.producer_no;
            table.insert(Producer {
                entry: entry.clone(),
                epoch: 0,
                high: u64_at(head, 8),
                declared_in: 0,
                active_group: 0,
                active_seq: 0,
                worker: usize::MAX,
                session: 0,
                runs,
            });
            table.touch(no, u64_at(head, 16), u64_at(head, 24));
        }
        table.next_no = next_no;
        rest.is_empty().then_some(table)
    }
}

/// The verdict of a ticket that has no `seq` of its own.
#[must_use]
pub fn without_seq(ticket: u64, verdict: Verdict, reason: Reason, seq: u64) -> Entry {
    Entry { ticket, seq, group: 0, count: 1, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(producer: u8) -> ProducerEntry {
        ProducerEntry {
            producer_no: 0,
            tenant_no: 1,
            uid: 0,
            producer: [producer; 16],
            birth_seq: 0,
            tenant: "default".into(),
            source: "check".into(),
        }
    }

    #[test]
    fn a_producer_that_is_active_for_ever_takes_no_more_memory() {
        let mut table = Producers::new(10);
        let nos = [table.create(entry(1), 0), table.create(entry(2), 0)];
        for group in 1..20_000 {
            table.touch(nos[0], group, group);
            if group % 7 == 0 {
                table.touch(nos[1], group, group);
            }
        }
        assert!(table.order.len() < 2000, "{}", table.order.len());
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        let mut again = Vec::new();
        Producers::decode(&bytes, 10).unwrap().encode(&mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn dead_who_left_the_most_unread_are_forgotten_first_and_the_living_never() {
        let mut table = Producers::new(10);
        let nos: Vec<u64> = (1..=4).map(|number| table.create(entry(number), 0)).collect();
        for (no, tickets) in nos.iter().zip([50, 10, 90, 100]) {
            table.touch(*no, 1, *no * 10);
            for ticket in 1..=tickets {
                let verdict = without_seq(ticket, Verdict::Rejected, Reason::TooDeep, 0);
                table.get_mut(*no).unwrap().decide(verdict);
            }
        }
        table.get_mut(nos[3]).unwrap().epoch = 7;
        table.forget_unread(150);
        assert_eq!(table.len(), 4, "150 of the dead are not too many");
        table.forget_unread(149);
        assert!(table.get(nos[2]).is_none() && table.len() == 3);
        let found = |producer: u8, birth_seq| table.find(1, 0, [producer; 16], birth_seq);
        assert_eq!(found(3, 29), Found::Expired);
        assert_eq!(found(1, 0), Found::Known(nos[0]));
    }

    #[test]
    fn verdicts_of_more_tickets_than_a_ring_holds_are_forgotten() {
        let mut table = Producers::new(10);
        let no = table.create(entry(1), 0);
        let producer = table.get_mut(no).unwrap();
        for ticket in 1..=TICKETS_MAX + 1000 {
            producer.decide(without_seq(ticket, Verdict::Rejected, Reason::TooDeep, 0));
        }
        assert_eq!(producer.runs.len() as u64, TICKETS_MAX);
        assert!(producer.verdict(1000).is_none() && producer.verdict(1001).is_some());
    }
}
