//! Check, reader and start on a log that a script has written, damaged or forged.
//!
//! Whatever the bytes are, nobody panics and every loop ends. What a reader gives is dense; a start
//! that goes well goes well again. Where nothing was forged it finds nothing new, and every event
//! that is read is the one that was written; where nothing was damaged either, all are there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use certeus_core::board::{BOARD_PAGES, Board, PAGE_BYTES, PAGE_DURABILITY, durability};
use certeus_core::disk::{Disk, RealDisk};
use certeus_core::log::Limits;
use certeus_core::log::keeper;
use certeus_core::log::open::{Options, Report, open};
use certeus_core::log::recovery::{FollowerPosition, Settings};
use certeus_core::reader::{LogReader, segment};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::input::Input;
use crate::script::{LOG_KEY, Script};

const BATCHES_MAX: usize = 10_000;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let durable = input.near(0);
    let script = Script::run(&mut input);
    let home = Home::with(&script);
    check(&home.log(), &script);
    let durable = if script.forged { durable } else { script.next_seq() - 1 };
    read(&home.log(), &script, durable);
    start(&home, &script);
}

/// The directories of one log, in memory.
struct Home(PathBuf);

impl Home {
    fn with(script: &Script) -> Self {
        let shared = Path::new("/dev/shm");
        let base = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
        let home = Self(base.join(format!("certeus-fuzz-{}", std::process::id())));
        home.remove();
        std::fs::create_dir_all(home.log()).expect("a directory in memory");
        for (number, bytes) in &script.files {
            let path = segment::path_of(&home.log(), *number);
            std::fs::write(path, bytes).expect("a file in memory");
        }
        home
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn remove(&self) {
        // The first run finds none.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.remove();
    }
}

fn check(dir: &Path, script: &Script) {
    let Ok(mut check) = LogReader::new(dir).check(Some(LOG_KEY)) else {
        assert!(script.forged, "a log that is only damaged can be checked");
        return;
    };
    for _ in 0..BATCHES_MAX {
        match check.step() {
            Ok(true) => {}
            Ok(false) => {
                let findings = check.finish().findings;
                let honest = !script.damaged && !script.forged;
                assert!(!honest || findings.is_empty(), "{findings:?}");
                return;
            }
            Err(error) => {
                assert!(script.forged, "{error}");
                return;
            }
        }
    }
    panic!("a check without end");
}

/// Reads all up to `durable`; the last number told, if nothing stopped it.
fn read(dir: &Path, script: &Script, durable: u64) -> Option<u64> {
    let mut reader = LogReader::new(dir);
    let (mut next_seq, mut gaps) = (1_u64, 0);
    for _ in 0..BATCHES_MAX {
        let batch = match reader.next_batch(durable, 100, 1 << 20) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                let honest = !script.damaged && !script.forged;
                assert!(!honest || (gaps == 0 && next_seq == script.next_seq()), "{next_seq}");
                return Some(next_seq - 1);
            }
            Err(error) => {
                assert!(script.forged, "{error}");
                return None;
            }
        };
        assert_eq!(batch.first_seq, next_seq, "numbers are dense");
        // A header that claims more than is durable is forged: what it leaves out is a gap.
        let told = !batch.gaps.is_empty() && script.forged;
        assert!(batch.last_seq + 1 >= next_seq && (batch.last_seq <= durable || told));
        next_seq = batch.last_seq + 1;
        gaps += batch.gaps.len();
        for index in 0..batch.rows() {
            let row = batch.row(index);
            if script.forged {
                continue;
            }
            let known = script.written.get(&row.seq).expect("nobody wrote this number");
            let header = row.record.header;
            assert_eq!((header.ticket, row.record.data), (known.0, &known.1[..]));
        }
    }
    panic!("a reader without end");
}

/// Starts a log writer twice, as systemd would.
fn start(home: &Home, script: &Script) {
    let Some((first, durable)) = life(home, script) else { return };
    let told = read(&home.log(), script, durable);
    assert!(script.forged || told == Some(durable), "{}: {told:?} of {durable}", first.label);
    let Some((second, again)) = life(home, script) else {
        panic!("the second start fails, after {}", first.label);
    };
    // Headers that were forged with a right CRC may contradict each other, and each start finds
    // that out anew; damage alone must be told once.
    if !script.forged {
        assert_eq!(durable, again, "{} then {}", first.label, second.label);
        assert_eq!(second.gaps, [], "{} then {}: found twice", first.label, second.label);
    }
}

fn life(home: &Home, script: &Script) -> Option<(Report, u64)> {
    let board = board();
    let options = Options {
        name: None,
        recovery: Settings {
            log_key: LOG_KEY,
            dedup_keys: 100,
            dedup_producers: 10,
            follower: FollowerPosition::default(),
            quarantine_dir: home.0.join("quarantine"),
            served: None,
        },
        limits: Limits { group_bytes_max: 16 * 1024, group_records_max: 64, linger_us: 0 },
        segments: keeper::Limits {
            segment_bytes: 64 * 1024,
            bytes_max: 1 << 40,
            disk_reserve_bytes: 0,
            retain_bytes: 0,
            recycle: true,
        },
    };
    match open(Arc::new(Stepped(RealDisk)), &home.log(), &board, &options) {
        Ok((_, report)) => {
            let page = board.page(PAGE_DURABILITY);
            Some((report, page.word(durability::DURABLE_SEQ).load(Ordering::Acquire)))
        }
        Err(error) => {
            assert!(script.forged, "a damaged log must start: {error}");
            None
        }
    }
}

fn board() -> Board {
    let memory = memfd_create("certeus-fuzz", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&memory, (BOARD_PAGES * PAGE_BYTES) as u64).expect("memory");
    Board::map(memory.as_fd()).expect("memory")
}

/// The machine's disk, and one thread that does all: a run is the same each time.
struct Stepped(RealDisk);

impl Disk for Stepped {
    type File = <RealDisk as Disk>::File;

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn open(&self, path: &Path, create: bool) -> std::io::Result<Self::File> {
        self.0.open(path, create)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> std::io::Result<()> {
        self.0.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> std::io::Result<(u64, u64)> {
        self.0.space(dir)
    }
    fn is_stepped(&self) -> bool {
        true
    }
}
