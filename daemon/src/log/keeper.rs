//! The log's helper thread: whatever takes time and is not the commit itself.
//!
//! It keeps one segment zero-filled ahead, writes the sidecars of sealed ones, and trims: a segment
//! goes when every required follower is behind it, its sidecar is durable and no more than
//! `retain_bytes` of such segments stay, by becoming the next spare if nobody reads it. The log
//! writer says what is sealed and when a spare is wanted, and takes it: only then is one filled, so
//! that a segment which followers leave soon after the writer is used again instead. How the log
//! shares the disk: `room.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::recovery::segment_name;
use super::room::{Room, is_no_room};
use super::sidecar::{self, Sidecar};
use super::trim::{self, Newest, Record};
use crate::disk::{Disk, DiskFile};
use crate::format::SEGMENT_HEADER_BYTES;
use crate::pages::PageVec;

/// Failpoints know what the helper does by its thread's name.
pub const THREAD_NAME: &str = "log-keeper";
const FILL_BYTES: usize = 1 << 20;
/// How often the disk is looked at: by a log that waits for room, and by any other.
const RECHECK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
pub struct Limits {
    pub segment_bytes: u64,
    pub bytes_max: u64,
    pub disk_reserve_bytes: u64,
    /// Segments that every follower has are kept up to here, while there is room, so that a
    /// PostgreSQL that went back finds them.
    pub retain_bytes: u64,
    pub recycle: bool,
}

struct Known {
    bytes: u64,
    first_seq: u64,
    /// Its sidecar is durable.
    sealed: bool,
}

struct State<F> {
    segments: BTreeMap<u64, Known>,
    spare: Option<(u64, F)>,
    spare_no: u64,
    /// The log writer comes to need a spare.
    wanted: bool,
    sidecars: Vec<Sidecar>,
    trim_below: u64,
    /// The `next_seq` below which no id is in the dedup window any more.
    window_from_seq: u64,
    sidecar_ends: BTreeMap<u64, u64>,
    full: bool,
    room: Room,
    /// A write for the helper's own purposes met no room at the last step.
    refused: bool,
    stopping: bool,
    failed: Option<io::Error>,
}

pub struct Keeper<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    limits: Limits,
    state: Arc<(Mutex<State<D::File>>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    /// The helper itself, when there is no second thread.
    stepped: Option<Work<D>>,
}

/// What the board shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub segments: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub full: bool,
    /// What the disk has left, as it was looked at last.
    pub free_bytes: u64,
    /// For want of room on the disk no segment is made.
    pub short: bool,
}

impl<D: Disk> Keeper<D> {
    /// Starts the thread; the first spare is `spare_no`.
    pub fn start(disk: Arc<D>, dir: PathBuf, limits: Limits, spare_no: u64) -> Self {
        let state = State {
            segments: BTreeMap::new(),
            spare: None,
            spare_no,
            wanted: false,
            sidecars: Vec::new(),
            trim_below: 0,
            window_from_seq: 0,
            sidecar_ends: BTreeMap::new(),
            full: false,
            room: Room::new(limits.disk_reserve_bytes, limits.segment_bytes),
            refused: false,
            stopping: false,
            failed: None,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let worker = Work { disk: disk.clone(), dir: dir.clone(), limits, state: state.clone() };
        let (thread, stepped) = if disk.is_stepped() {
            (None, Some(worker))
        } else {
            let thread = std::thread::Builder::new().name(THREAD_NAME.into());
            (Some(thread.spawn(move || worker.run()).expect("a thread can be started")), None)
        };
        Self { disk, dir, limits, state, thread, stepped }
    }

    /// Without a second thread, does here and now what that would do.
    ///
    /// Errors: what ended the helper; the log writer ends with it, long before it needs a spare.
    pub fn step(&self) -> io::Result<()> {
        if let Some(error) = self.lock().failed.take() {
            return Err(error);
        }
        self.stepped.as_ref().map_or(Ok(()), Work::step)
    }

    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.limits.segment_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        self.state.0.lock().expect("the keeper does not panic with the lock")
    }

    /// A segment that is there; `sealed` when its sidecar is durable already.
    pub fn add(&self, segment_no: u64, bytes: u64, first_seq: u64, sealed: bool) {
        self.lock().segments.insert(segment_no, Known { bytes, first_seq, sealed });
    }

    /// Sidecars of segments that are gone, or of sealed ones: they go when the window has passed.
    pub fn add_sidecar(&self, segment_no: u64, next_seq: u64) {
        self.lock().sidecar_ends.insert(segment_no, next_seq);
    }

    /// The next segment, whole, zero-headed and durable; `None`: not yet, or the log is full. It
    /// counts as the one from `first_seq` on at once, so that the bound of the log holds.
    ///
    /// Errors: what ended the helper; the log writer ends with it.
    pub fn take_spare(&self, first_seq: u64) -> io::Result<Option<(u64, D::File)>> {
        let mut state = self.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let spare = state.spare.take();
        if let Some((segment_no, _)) = &spare {
            let (segment_no, bytes) = (*segment_no, self.limits.segment_bytes);
            state.spare_no = segment_no + 1;
            state.wanted = false;
            state.segments.insert(segment_no, Known { bytes, first_seq, sealed: false });
            self.state.1.notify_one();
        }
        Ok(spare)
    }

    /// Whether a spare is there, without taking it; if none is, it is wanted.
    pub fn has_spare(&self) -> io::Result<bool> {
        self.want_spare();
        let mut state = self.lock();
        match state.failed.take() {
            Some(error) => Err(error),
            None => Ok(state.spare.is_some()),
        }
    }

    /// A spare is needed soon: if none has come from a trim by now, one is filled.
    pub fn want_spare(&self) {
        if !std::mem::replace(&mut self.lock().wanted, true) {
            self.state.1.notify_one();
        }
    }

    /// Whether no segment can be made: the log is as large as it may be, or the disk has no room.
    pub fn is_full(&self) -> bool {
        self.lock().full
    }

    /// The segment before the current one is sealed: its sidecar is to be written.
    pub fn seal(&self, sidecar: Sidecar) {
        self.lock().sidecars.push(sidecar);
        self.state.1.notify_one();
    }

    /// Every required follower needs only segments from `segment_no` on; it may take that back.
    pub fn trim_below(&self, segment_no: u64, window_from_seq: u64) {
        let mut state = self.lock();
        state.window_from_seq = window_from_seq;
        state.trim_below = segment_no;
        self.state.1.notify_one();
    }

    pub fn size(&self) -> Size {
        let state = self.lock();
        let bytes = state.segments.values().map(|known| known.bytes).sum::<u64>();
        Size {
            segments: state.segments.len() as u64,
            bytes: bytes + u64::from(state.spare.is_some()) * self.limits.segment_bytes,
            first_seq: state.segments.values().next().map_or(1, |known| known.first_seq),
            full: state.full,
            free_bytes: state.room.free_bytes,
            short: state.room.short || state.refused,
        }
    }

    /// Ends the thread when its work is done: every sealed segment has its sidecar.
    pub fn stop(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.lock().stopping, true) {
            return Ok(());
        }
        self.step()?;
        self.state.1.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the keeper does not panic");
        }
        self.lock().failed.take().map_or(Ok(()), Err)
    }

    /// Zero-fills a new file under a name of its own, for a start that has no spare.
    pub fn fill(disk: &D, path: &std::path::Path, bytes: u64) -> io::Result<D::File> {
        let file = disk.open(path, true)?;
        let zeros = PageVec::zeros(FILL_BYTES);
        let mut at = 0;
        while at < bytes {
            let count = (bytes - at).min(FILL_BYTES as u64);
            file.write_at(at, &zeros[..count as usize])?;
            at += count;
        }
        file.truncate(bytes)?;
        file.sync()?;
        Ok(file)
    }

    pub fn disk(&self) -> &D {
        &self.disk
    }

    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }
}

impl<D: Disk> Drop for Keeper<D> {
    fn drop(&mut self) {
        // An error here was already raised, or the process is ending on another one.
        let _ended = self.stop();
    }
}

struct Work<D: Disk> {
    disk: Arc<D>,
    dir: PathBuf,
    limits: Limits,
    state: Arc<(Mutex<State<D::File>>, Condvar)>,
}

impl<D: Disk> Work<D> {
    fn run(self) {
        let result = self.work();
        if let Err(error) = result {
            self.lock().failed = Some(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        self.state.0.lock().expect("nobody panics with the lock")
    }

    fn work(&self) -> io::Result<()> {
        loop {
            self.step()?;
            if self.lock().stopping {
                return Ok(());
            }
            let state = self.lock();
            let done = state.sidecars.is_empty() && (!self.lacks_spare(&state) || state.full);
            if (done || state.refused) && !state.stopping {
                let short = state.full || state.refused || state.room.short;
                let wait = self.state.1.wait_timeout(state, if short { RECHECK } else { LOOK });
                drop(wait.expect("nobody panics with the lock"));
            }
        }
    }

    fn step(&self) -> io::Result<()> {
        self.look_at_room()?;
        self.lock().refused = false;
        let sealed = self.unless_refused(self.write_sidecars())?;
        if self.lock().stopping {
            return Ok(());
        }
        // A trim makes room: it goes on though a sidecar found none.
        let trimmed = self.unless_refused(self.trim())?;
        if sealed && trimmed {
            self.unless_refused(self.prepare_spare())?;
        }
        Ok(())
    }

    fn look_at_room(&self) -> io::Result<()> {
        let (_, free_bytes) = self.disk.space(&self.dir)?;
        self.lock().room.look(free_bytes);
        Ok(())
    }

    /// False: the disk has no room for it, whatever it said before; it is tried again later.
    fn unless_refused(&self, result: io::Result<()>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if is_no_room(&error) => {
                let mut state = self.lock();
                state.refused = true;
                state.full |= state.spare.is_none();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a file that found no room half-way; it may not even have been made.
    fn remove_beside(&self, name: &str) -> io::Result<()> {
        match self.disk.unlink(&self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write_sidecars(&self) -> io::Result<()> {
        loop {
            let next = self.lock().sidecars.pop();
            let Some(sidecar) = next else { return Ok(()) };
            if let Err(error) = sidecar.write(&*self.disk, &self.dir) {
                if is_no_room(&error) {
                    self.remove_beside(&format!("{}.new", sidecar::name(sidecar.segment_no)))?;
                }
                self.lock().sidecars.push(sidecar);
                return Err(error);
            }
            let mut state = self.lock();
            state.sidecar_ends.insert(sidecar.segment_no, sidecar.next_seq);
            if let Some(known) = state.segments.get_mut(&sidecar.segment_no) {
                known.sealed = true;
            }
        }
    }

    /// Lets one segment go at a time: the oldest, when nobody needs it.
    fn trim(&self) -> io::Result<()> {
        loop {
            self.look_at_room()?;
            let (segment_no, is_wanted) = {
                let state = self.lock();
                let oldest = state.segments.iter().next();
                let gone = oldest.filter(|(no, known)| {
                    **no < state.trim_below && known.sealed && !self.is_retained(&state)
                });
                let Some((segment_no, _)) = gone else { break };
                (*segment_no, self.is_wanted(&state))
            };
            self.record_trim(segment_no)?;
            let path = self.dir.join(segment_name(segment_no));
            let file = self.disk.open(&path, false)?;
            let whole = file.bytes()? == self.limits.segment_bytes;
            let unread = file.try_lock()?;
            if is_wanted && whole && unread {
                self.recycle(&path, file)?;
            } else {
                self.disk.unlink(&path)?;
                self.disk.sync_dir(&self.dir)?;
            }
            self.lock().segments.remove(&segment_no);
        }
        self.trim_sidecars()
    }

    /// Whether the oldest segment stays although every follower has it: as long as there is room.
    fn is_retained(&self, state: &State<D::File>) -> bool {
        let delivered: u64 =
            state.segments.range(..state.trim_below).map(|(_, known)| known.bytes).sum();
        let needed = state.spare.is_none() && self.is_bounded(state);
        let short = state.room.short || state.refused;
        delivered <= self.limits.retain_bytes && !needed && !short
    }

    /// Whether one segment more would be more than the log may take.
    fn is_bounded(&self, state: &State<D::File>) -> bool {
        let Limits { segment_bytes, bytes_max, .. } = self.limits;
        let used: u64 = state.segments.values().map(|known| known.bytes).sum();
        used + segment_bytes > bytes_max
    }

    /// Whether a segment that goes is to be the next spare; else its room is the disk's again.
    fn is_wanted(&self, state: &State<D::File>) -> bool {
        // Two are what the log needs to go on at all.
        let given_back = state.refused || state.room.low && state.segments.len() > 2;
        self.limits.recycle && state.spare.is_none() && !given_back
    }

    /// Whether a spare is to be filled: wanted, or the log would have less than the two segments
    /// that it needs to go on at all.
    fn lacks_spare(&self, state: &State<D::File>) -> bool {
        state.spare.is_none() && (state.wanted || state.segments.len() < 2)
    }

    /// Syncs that the log begins behind `segment_no`; only then may that one go.
    fn record_trim(&self, segment_no: u64) -> io::Result<()> {
        let next = {
            let state = self.lock();
            let next = state.segments.range(segment_no + 1..).next();
            next.map(|(no, known)| (*no, known.first_seq))
        };
        let (lowest_no, first_seq) = next.expect("the current segment stays");
        let mut record = Record::open(&*self.disk, &self.dir)?;
        let uuid = record.log_uuid();
        record.write(trim::point_at(&*self.disk, &self.dir, lowest_no, first_seq, uuid)?)
    }

    fn trim_sidecars(&self) -> io::Result<()> {
        let gone: Vec<u64> = {
            let mut state = self.lock();
            let oldest = state.segments.keys().next().copied().unwrap_or(u64::MAX);
            let from = state.window_from_seq;
            // The newest sidecar of a gone segment stays: it has the producer table.
            let past: Vec<u64> = state
                .sidecar_ends
                .iter()
                .filter(|(no, next_seq)| **no + 1 < oldest && **next_seq <= from)
                .map(|(no, _)| *no)
                .collect();
            state.sidecar_ends.retain(|no, _| !past.contains(no));
            past
        };
        for segment_no in gone {
            self.disk.unlink(&self.dir.join(sidecar::name(segment_no)))?;
        }
        Ok(())
    }

    /// Makes an old segment the next one: its header zeroed, its groups of a salt that is no more.
    fn recycle(&self, path: &std::path::Path, file: D::File) -> io::Result<()> {
        file.write_at(0, &PageVec::zeros(SEGMENT_HEADER_BYTES as usize))?;
        file.sync()?;
        let spare_no = self.lock().spare_no;
        self.disk.rename(path, &self.dir.join(segment_name(spare_no)))?;
        self.disk.sync_dir(&self.dir)?;
        drop(file);
        let file = self.disk.open(&self.dir.join(segment_name(spare_no)), false)?;
        self.offer(spare_no, file)
    }

    /// Lets the log writer begin the spare, which has its name for good, once that is recorded.
    fn offer(&self, segment_no: u64, file: D::File) -> io::Result<()> {
        let newest = Newest { segment_no, bytes: self.limits.segment_bytes };
        Record::open(&*self.disk, &self.dir)?.write_newest(newest)?;
        self.lock().spare = Some((segment_no, file));
        Ok(())
    }

    fn prepare_spare(&self) -> io::Result<()> {
        self.look_at_room()?;
        let spare_no = {
            let mut state = self.lock();
            if !self.lacks_spare(&state) || state.stopping {
                return Ok(());
            }
            // Two are what the log needs to go on at all: the second one may be of the reserve.
            let short = state.room.short && state.segments.len() > 1;
            state.full = self.is_bounded(&state) || short;
            if state.full {
                return Ok(());
            }
            state.spare_no
        };
        let next = self.dir.join("next");
        let file = match Keeper::fill(&*self.disk, &next, self.limits.segment_bytes) {
            Ok(file) => file,
            Err(error) if is_no_room(&error) => {
                self.remove_beside("next")?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.disk.rename(&next, &self.dir.join(segment_name(spare_no)))?;
        self.disk.sync_dir(&self.dir)?;
        self.offer(spare_no, file)
    }
}
