//! A disk in memory whose power can be cut: only what was synced is sure to be there afterwards.
//!
//! A sector of 512 bytes is written whole or not at all, and in any order; so is a file's length;
//! operations on names survive in their order, as on any journaling file system. [`SimDisk::cuts`]
//! keeps the disk as it was before each changing call, and [`SimDisk::survive`] makes of such a
//! moment the disk of any choice of what reached the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};

const SECTOR: usize = 512;
/// Stands among the sectors for the length of a file that was truncated.
const LENGTH: usize = usize::MAX;

#[derive(Clone, Default)]
struct Inode {
    current: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Sectors of `current` that no sync has covered yet.
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn sync(&mut self) {
        Arc::make_mut(&mut self.durable).resize(self.current.len(), 0);
        // Only what is dirty: a sync that failed has left pages that count as clean, and are not.
        for sector in std::mem::take(&mut self.dirty) {
            self.take_sector(sector);
        }
    }

    fn take_sector(&mut self, sector: usize) {
        if sector == LENGTH {
            Arc::make_mut(&mut self.durable).resize(self.current.len(), 0);
            return;
        }
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.current.len());
        if start < end {
            let durable = Arc::make_mut(&mut self.durable);
            if durable.len() < end {
                durable.resize(end, 0);
            }
            durable[start..end].copy_from_slice(&self.current[start..end]);
        }
    }

    /// Whether it makes a difference that the sector reaches the platter.
    fn differs(&self, sector: usize) -> bool {
        if sector == LENGTH {
            return self.durable.len() != self.current.len();
        }
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.current.len());
        start < end && self.durable.get(start..end) != Some(&self.current[start..end])
    }
}

/// What a power cut may take: operations on names, in order, and sectors, each by file and number.
#[derive(Clone, Debug, Default)]
pub struct Unsynced {
    pub names: usize,
    pub sectors: Vec<(usize, usize)>,
}

/// The disk before a changing call, and what was true at that moment.
pub struct Cut<T> {
    pub disk: SimDisk,
    pub told: T,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Directory operations since the last `sync_dir`, in order: names, and what each then was. An
    /// operation survives whole or not at all, as on any journaling file system.
    pending_names: Vec<Vec<(String, Option<usize>)>>,
    /// Calls that change the disk, so far; and the one at which the power goes.
    calls: u64,
    dead_at: Option<u64>,
    syncs_fail: bool,
    writes_fail: bool,
    free_bytes: u64,
    /// Whatever `free_bytes` says, no file may be made or grow.
    refuses: bool,
    /// Calls of any kind, so far; the one that fails, with which error, and what it was.
    entered: u64,
    fault: Option<(u64, i32)>,
    faulted: Option<&'static str>,
    before_change: Option<BeforeChange>,
}

type BeforeChange = Box<dyn FnMut(&State) + Send>;

impl State {
    /// A copy that nothing is about to happen to.
    fn as_it_is(&self) -> Self {
        Self {
            inodes: self.inodes.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            pending_names: self.pending_names.clone(),
            free_bytes: self.free_bytes,
            ..Self::default()
        }
    }
}

/// Cheap to clone: all clones are one disk. One directory, names only.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    pub fn new() -> Self {
        let state = State { free_bytes: 1 << 40, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The power goes at the `calls`-th changing call from now on: it and all later ones fail.
    pub fn die_after(&self, calls: u64) {
        let mut state = self.0.lock().unwrap();
        state.dead_at = Some(state.calls + calls);
    }

    pub fn is_dead(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.dead_at.is_some_and(|at| state.calls >= at)
    }

    /// From now on every sync fails.
    pub fn fail_syncs(&self) {
        self.0.lock().unwrap().syncs_fail = true;
    }

    /// From now on every write fails and leaves nothing; syncs go on to say that all is well.
    pub fn fail_writes(&self) {
        self.0.lock().unwrap().writes_fail = true;
    }

    /// Somebody else was faster than who looked for room.
    pub fn refuse_room(&self, refuses: bool) {
        self.0.lock().unwrap().refuses = refuses;
    }

    /// The `call`-th call of any kind from now on fails with `errno`, and no other one does.
    pub fn fail_once(&self, call: u64, errno: i32) {
        let mut state = self.0.lock().unwrap();
        state.fault = Some((state.entered + call, errno));
    }

    /// Which call [`SimDisk::fail_once`] has met.
    pub fn faulted(&self) -> Option<&'static str> {
        self.0.lock().unwrap().faulted
    }

    fn enter(&self, call: &'static str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.entered += 1;
        match state.fault {
            Some((at, errno)) if at == state.entered => {
                state.faulted = Some(call);
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    /// What the disk says, and the most by which one write may make a file grow.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.0.lock().unwrap().free_bytes = bytes;
    }

    /// From now on, notes the disk before each changing call, with what `told` says then.
    pub fn cuts<T: Send + 'static>(
        &self,
        mut told: impl FnMut() -> T + Send + 'static,
    ) -> Arc<Mutex<Vec<Cut<T>>>> {
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let noted = cuts.clone();
        self.0.lock().unwrap().before_change = Some(Box::new(move |state| {
            noted.lock().unwrap().push(Cut { disk: Self::of(state.as_it_is()), told: told() });
        }));
        cuts
    }

    /// What is not synced, as far as it makes a difference.
    pub fn unsynced(&self) -> Unsynced {
        let state = self.0.lock().unwrap();
        let sectors = state.inodes.iter().enumerate().flat_map(|(number, inode)| {
            let dirty = inode.dirty.iter().filter(|sector| inode.differs(**sector));
            dirty.map(move |sector| (number, *sector))
        });
        Unsynced { names: state.pending_names.len(), sectors: sectors.collect() }
    }

    /// The machine comes up again: of what was not synced, just the first `names` operations on
    /// names and these `sectors` survived.
    pub fn survive(&self, names: usize, sectors: &[(usize, usize)]) -> Self {
        let mut next = self.0.lock().unwrap().as_it_is();
        for (name, inode) in next.pending_names.drain(..).take(names).flatten() {
            match inode {
                Some(inode) => next.durable_names.insert(name, inode),
                None => next.durable_names.remove(&name),
            };
        }
        for (inode, sector) in sectors {
            next.inodes[*inode].take_sector(*sector);
        }
        for inode in &mut next.inodes {
            inode.dirty.clear();
            inode.current = inode.durable.clone();
        }
        next.names = next.durable_names.clone();
        Self::of(next)
    }

    /// The machine comes up again: of what was not synced, `keep` decides what survived.
    pub fn restart(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut unsynced = self.unsynced();
        let names = (0..unsynced.names).take_while(|_| keep()).count();
        unsynced.sectors.retain(|_| keep());
        self.survive(names, &unsynced.sectors)
    }

    /// The process was killed, the machine was not: everything written is there.
    pub fn after_kill(&self) -> Self {
        Self::of(self.0.lock().unwrap().as_it_is())
    }

    /// A number of what is on the platter, to tell two disks apart.
    pub fn digest(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let state = self.0.lock().unwrap();
        let mut hasher = DefaultHasher::new();
        for (name, inode) in &state.durable_names {
            let bytes = &state.inodes[*inode].durable;
            (name, bytes.len(), crc32c::crc32c(bytes)).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// The bytes of a file as the next reader sees them, to be damaged by a test.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let inode = state.names[name];
        change(Arc::make_mut(&mut state.inodes[inode].current));
        state.inodes[inode].durable = state.inodes[inode].current.clone();
    }

    /// Calls that have changed the disk, or tried to.
    pub fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// The bytes of a file as the next reader sees them.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.inodes[state.names[name]].current.to_vec()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    fn change<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        if state.dead_at.is_some_and(|at| state.calls >= at) {
            return Err(io::Error::other("the power is cut"));
        }
        if let Some(mut note) = state.before_change.take() {
            note(&state);
            state.before_change = Some(note);
        }
        act(&mut state)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        self.enter("list")?;
        Ok(self.names())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<SimFile> {
        self.enter("open")?;
        let name = name_of(path);
        let known = self.0.lock().unwrap().names.get(&name).copied();
        let inode = match known {
            Some(inode) => inode,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => self.change(|state| {
                if state.refuses {
                    return Err(io::Error::from_raw_os_error(28));
                }
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(name.clone(), inode);
                state.pending_names.push(vec![(name, Some(inode))]);
                Ok(inode)
            })?,
        };
        Ok(SimFile { disk: self.clone(), inode })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter("rename")?;
        self.change(|state| {
            let inode = state.names.remove(&name_of(from)).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(name_of(to), inode);
            let names = vec![(name_of(to), Some(inode)), (name_of(from), None)];
            state.pending_names.push(names);
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.enter("unlink")?;
        self.change(|state| {
            state.names.remove(&name_of(path)).ok_or(io::ErrorKind::NotFound)?;
            state.pending_names.push(vec![(name_of(path), None)]);
            Ok(())
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.enter("sync_dir")?;
        self.change(|state| {
            state.durable_names = state.names.clone();
            state.pending_names.clear();
            Ok(())
        })
    }

    fn is_stepped(&self) -> bool {
        true
    }

    fn space(&self, _dir: &Path) -> io::Result<(u64, u64)> {
        self.enter("space")?;
        Ok((1 << 40, self.0.lock().unwrap().free_bytes))
    }
}

pub struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.disk.enter("read_at")?;
        let state = self.disk.0.lock().unwrap();
        let bytes = &state.inodes[self.inode].current;
        let start = (offset as usize).min(bytes.len());
        let count = out.len().min(bytes.len() - start);
        out[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.enter("write_at")?;
        self.disk.change(|state| {
            if state.writes_fail {
                return Err(io::Error::from_raw_os_error(5));
            }
            let room = if state.refuses { 0 } else { state.free_bytes };
            let inode = &mut state.inodes[self.inode];
            let (at, end) = (offset as usize, offset as usize + bytes.len());
            if end.saturating_sub(inode.current.len()) as u64 > room {
                return Err(io::Error::from_raw_os_error(28));
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let current = Arc::make_mut(&mut inode.current);
            if current.len() < end {
                current.resize(end, 0);
            }
            current[at..end].copy_from_slice(bytes);
            inode.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.enter("sync")?;
        self.disk.change(|state| {
            if state.syncs_fail {
                // As Linux does: the pages count as clean from now on, and the disk has nothing.
                state.inodes[self.inode].dirty.clear();
                return Err(io::Error::from_raw_os_error(5));
            }
            state.inodes[self.inode].sync();
            Ok(())
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.disk.enter("bytes")?;
        Ok(self.disk.0.lock().unwrap().inodes[self.inode].current.len() as u64)
    }

    fn is_named(&self) -> io::Result<bool> {
        let state = self.disk.0.lock().unwrap();
        Ok(state.names.values().any(|inode| *inode == self.inode))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.enter("truncate")?;
        self.disk.change(|state| {
            let inode = &mut state.inodes[self.inode];
            Arc::make_mut(&mut inode.current).resize(bytes as usize, 0);
            inode.dirty.insert(LENGTH);
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.disk.enter("try_lock")?;
        Ok(true)
    }
}
