//! The log writer between workers that the tests play and a disk whose power can be cut.
//!
//! [`World`] is one log with its writer; [`Worker`] the other end of a pair, on real shared memory;
//! [`Session`] what a worker knows of one producer. `restart.rs` and `power.rs` kill the writer.

mod crash_states;
mod damage;
mod dedup;
mod faults;
mod gaps;
mod power;
mod promises;
mod publication;
mod restart;
mod room;
mod segments;
mod sessions;
mod tables;
mod trims;
mod vanished;
mod vanished_end;
mod walk;
mod worker;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use certeus_ipc::verdict::{Entry, Reason, Verdict};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::open::{Options, Report, open};
use super::recovery::{FollowerPosition, Settings};
use super::{Limits, LogWriter, keeper};
use crate::board::{BOARD_PAGES, Board, PAGE_BYTES, PAGE_DURABILITY, Page, durability};
use crate::disk::sim::SimDisk;
use crate::envelope::Return;
use crate::reader::LogReader;
pub use worker::{Session, Worker};

pub const LOG_KEY: [u8; 32] = [9; 32];
pub const DIR: &str = "/log";

pub fn memory(bytes: u64) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, bytes).unwrap();
    fd
}

/// Whether to try everything (`CERTEUS_ATTACK=full`), and the seed (`CERTEUS_SEED`).
pub fn attack() -> (bool, u64) {
    let full = std::env::var("CERTEUS_ATTACK").is_ok_and(|size| size == "full");
    (full, std::env::var("CERTEUS_SEED").map_or(1, |seed| seed.parse().expect("a number")))
}

/// Prints a row of the attacks' table, for `tests/crash/test_simulated_disk.py`.
pub fn report(attack: &str, cases: usize, acknowledged: usize, in_flight: u64) {
    println!(
        "ATTACK {{\"attack\": \"{attack}\", \"cases\": {cases}, \
         \"acknowledged\": {acknowledged}, \"in_flight\": {in_flight}}}"
    );
}

/// What a test may set; small, so that segments rotate and groups fill.
#[derive(Clone, Copy)]
pub struct Setup {
    pub segment_bytes: u64,
    pub group_records_max: u32,
    pub bytes_max: u64,
    pub disk_reserve_bytes: u64,
    pub retain_bytes: u64,
    pub recycle: bool,
    pub dedup_keys: usize,
    pub dedup_producers: usize,
    pub follower: FollowerPosition,
    pub served: Option<[u8; 16]>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024,
            group_records_max: 1024,
            bytes_max: 1 << 40,
            disk_reserve_bytes: 0,
            retain_bytes: 0,
            recycle: true,
            dedup_keys: 1000,
            dedup_producers: 100,
            follower: FollowerPosition::default(),
            served: None,
        }
    }
}

impl Setup {
    pub fn options(&self, quarantine_dir: &Path) -> Options {
        Options {
            name: None,
            recovery: Settings {
                log_key: LOG_KEY,
                dedup_keys: self.dedup_keys,
                dedup_producers: self.dedup_producers,
                follower: self.follower,
                quarantine_dir: quarantine_dir.to_path_buf(),
                served: self.served,
            },
            limits: Limits {
                group_bytes_max: 16 * 1024,
                group_records_max: self.group_records_max,
                linger_us: 0,
            },
            segments: keeper::Limits {
                segment_bytes: self.segment_bytes,
                bytes_max: self.bytes_max,
                disk_reserve_bytes: self.disk_reserve_bytes,
                retain_bytes: self.retain_bytes,
                recycle: self.recycle,
            },
        }
    }
}

pub struct World {
    pub disk: SimDisk,
    pub board: Board,
    pub setup: Setup,
    pub writer: LogWriter<SimDisk>,
    pub report: Report,
    workers: usize,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self::on(SimDisk::new(), setup).unwrap()
    }

    /// A writer that starts on what is on `disk`.
    pub fn on(disk: SimDisk, setup: Setup) -> std::io::Result<Self> {
        let fd = memory((BOARD_PAGES * PAGE_BYTES) as u64);
        let board = Board::map(fd.as_fd()).unwrap();
        let options = setup.options(Path::new("/quarantine"));
        let (writer, report) = open(Arc::new(disk.clone()), Path::new(DIR), &board, &options)?;
        Ok(Self { disk, board, setup, writer, report, workers: 0 })
    }

    /// The writer is killed, and another one starts; the machine stays up.
    pub fn kill(self) -> Self {
        let disk = self.disk.after_kill();
        Self::on(disk, self.setup).unwrap()
    }

    /// The power goes and comes again; nothing that was not synced survives.
    pub fn cut_power(self) -> Self {
        Self::on(self.disk.restart(|| false), self.setup).unwrap()
    }

    pub fn attach(&mut self) -> Worker {
        self.attach_with(64 * 1024, 64 * 1024)
    }

    pub fn attach_with(&mut self, forward_bytes: u64, return_bytes: u64) -> Worker {
        let number = self.workers;
        self.workers += 1;
        let (worker, peer) = Worker::new(number, forward_bytes, return_bytes);
        self.writer.attach(number, peer);
        worker
    }

    /// Cycles until nothing is left to do.
    pub fn run(&mut self) {
        while self.writer.cycle().unwrap() {}
    }

    /// Runs, and returns what the worker is told.
    pub fn answers(&mut self, worker: &mut Worker) -> Vec<Return> {
        self.run();
        worker.take()
    }

    /// A session of a new producer.
    pub fn connect(&mut self, worker: &mut Worker, producer: u8) -> Session {
        let (session, verdicts) = self.resume(worker, producer, None, 0);
        assert_eq!((session.high, verdicts), (0, vec![]));
        session
    }

    /// A session of a producer that says what it has read, and the verdicts that it is told.
    pub fn resume(
        &mut self,
        worker: &mut Worker,
        producer: u8,
        birth_seq: Option<u64>,
        settled: u64,
    ) -> (Session, Vec<Entry>) {
        let number = worker.hello(producer, birth_seq, settled);
        let mut told = self.answers(worker);
        // Of a session before this one.
        told.retain(|answer| !matches!(answer, Return::End { .. }));
        let Some(Return::Welcome(welcome)) = told.pop() else { panic!("not welcomed: {told:?}") };
        assert_eq!(welcome.session, number);
        let session = Session::new(producer, &welcome);
        (session, verdicts(&told, number))
    }

    pub fn durability(&self) -> Page {
        self.board.page(PAGE_DURABILITY)
    }

    pub fn durable_seq(&self) -> u64 {
        self.durability().word(durability::DURABLE_SEQ).load(Ordering::Acquire)
    }

    /// What a reader finds in the log, every root and link checked.
    pub fn read(&self) -> Vec<Row> {
        let files = Files::of(&self.disk);
        let mut check = LogReader::new(&files.dir).check(Some(LOG_KEY)).unwrap();
        while check.step().unwrap() {}
        let report = check.finish();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        files.rows(self.durable_seq())
    }

    pub fn segments(&self) -> Vec<String> {
        let mut names = self.disk.names();
        names.retain(|name| name.ends_with(".log"));
        names
    }
}

/// One row of the log, or a gap before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub seq: u64,
    pub producer_no: u64,
    pub ticket: u64,
    pub source: String,
    pub data: String,
}

/// The log's files in a real directory, for the reader; removed at the end.
pub struct Files {
    pub dir: PathBuf,
}

impl Files {
    pub fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("certeus-log-{}-{number}", std::process::id());
        // Nothing here is synced, and a hundred thousand of them are quicker in memory.
        let memory = PathBuf::from("/dev/shm");
        let dir = if memory.is_dir() { memory } else { std::env::temp_dir() }.join(name);
        std::fs::create_dir(&dir).unwrap();
        Self { dir }
    }

    pub fn of(disk: &SimDisk) -> Self {
        let files = Self::new();
        let read = |name: &&String| name.ends_with(".log") || *name == super::trim::NAME;
        for name in disk.names().iter().filter(read) {
            let mut bytes = disk.read(name);
            let length = bytes.len() as u64;
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(written);
            let path = files.dir.join(name);
            std::fs::write(&path, &bytes).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
        }
        files
    }

    pub fn rows(&self, durable_seq: u64) -> Vec<Row> {
        self.rows_and_gaps(durable_seq).0
    }

    /// Every row up to `durable_seq`, and every gap; together they have each number once.
    pub fn rows_and_gaps(&self, durable_seq: u64) -> (Vec<Row>, Vec<(u64, u64)>) {
        let mut reader = LogReader::new(&self.dir);
        let (mut rows, mut gaps, mut next_seq) = (Vec::new(), Vec::new(), 1);
        while let Some(batch) = reader.next_batch(durable_seq, 1000, 1 << 20).unwrap() {
            assert_eq!(batch.first_seq, next_seq, "dense");
            next_seq = batch.last_seq + 1;
            gaps.extend(batch.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)));
            for index in 0..batch.rows() {
                let row = batch.row(index);
                rows.push(Row {
                    seq: row.seq,
                    producer_no: row.record.header.producer_no,
                    ticket: row.record.header.ticket,
                    source: row.producer.map_or_else(String::new, |known| known.source.clone()),
                    data: String::from_utf8(row.record.data.to_vec()).unwrap(),
                });
            }
        }
        (rows, gaps)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// The verdicts of one session, in the order in which they were told.
pub fn verdicts(told: &[Return], session: u32) -> Vec<Entry> {
    let ours = |answer: &Return| match answer {
        Return::Verdict { session: number, entry, .. } if *number == session => Some(*entry),
        _ => None,
    };
    told.iter().filter_map(ours).collect()
}

pub fn accepted(ticket: u64, seq: u64, group: u64, count: u32) -> Entry {
    Entry { ticket, seq, group, count, verdict: Verdict::Accepted, reason: Reason::None }
}

pub fn duplicate(ticket: u64, seq: u64) -> Entry {
    super::producers::without_seq(ticket, Verdict::Duplicate, Reason::None, seq)
}

pub fn rejected(ticket: u64, reason: Reason, seq: u64) -> Entry {
    super::producers::without_seq(ticket, Verdict::Rejected, reason, seq)
}
