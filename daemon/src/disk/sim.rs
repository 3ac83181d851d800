//! A disk in memory whose power can be cut: only what was synced is sure to be there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};

const SECTOR: usize = 4096;

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `current` that no sync has covered yet.
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn sync(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.take_sector(sector);
        }
    }

    fn take_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.current.len());
        if start < end {
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[start..end].copy_from_slice(&self.current[start..end]);
        }
    }
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

    pub fn set_free_bytes(&self, bytes: u64) {
        self.0.lock().unwrap().free_bytes = bytes;
    }

    /// The machine comes up again: of what was not synced, `keep` decides what survived, sector by
    /// sector; of directory operations, a prefix.
    pub fn restart(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut state = self.0.lock().unwrap();
        let pending = std::mem::take(&mut state.pending_names);
        for operation in pending {
            if !keep() {
                break;
            }
            for (name, inode) in operation {
                match inode {
                    Some(inode) => state.durable_names.insert(name, inode),
                    None => state.durable_names.remove(&name),
                };
            }
        }
        for inode in &mut state.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if keep() {
                    inode.take_sector(sector);
                }
            }
            inode.current = inode.durable.clone();
        }
        let next = State {
            inodes: state.inodes.clone(),
            names: state.durable_names.clone(),
            durable_names: state.durable_names.clone(),
            free_bytes: state.free_bytes,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(next)))
    }

    /// The process was killed, the machine was not: everything written is there.
    pub fn after_kill(&self) -> Self {
        let state = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(State {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending_names: state.pending_names.clone(),
            free_bytes: state.free_bytes,
            ..State::default()
        })))
    }

    /// The bytes of a file as the next reader sees them, to be damaged by a test.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let inode = state.names[name];
        change(&mut state.inodes[inode].current);
        state.inodes[inode].durable = state.inodes[inode].current.clone();
    }

    /// Calls that have changed the disk, or tried to.
    pub fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// The bytes of a file as the next reader sees them.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.inodes[state.names[name]].current.clone()
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
        act(&mut state)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<SimFile> {
        let name = name_of(path);
        let known = self.0.lock().unwrap().names.get(&name).copied();
        let inode = match known {
            Some(inode) => inode,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => self.change(|state| {
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
        self.change(|state| {
            let inode = state.names.remove(&name_of(from)).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(name_of(to), inode);
            let names = vec![(name_of(to), Some(inode)), (name_of(from), None)];
            state.pending_names.push(names);
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.names.remove(&name_of(path)).ok_or(io::ErrorKind::NotFound)?;
            state.pending_names.push(vec![(name_of(path), None)]);
            Ok(())
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
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
        Ok((1 << 40, self.0.lock().unwrap().free_bytes))
    }
}

pub struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.0.lock().unwrap();
        let bytes = &state.inodes[self.inode].current;
        let start = (offset as usize).min(bytes.len());
        let count = out.len().min(bytes.len() - start);
        out[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.disk.change(|state| {
            if state.writes_fail {
                return Err(io::Error::from_raw_os_error(5));
            }
            let inode = &mut state.inodes[self.inode];
            let mut at = offset as usize;
            for part in parts.iter().filter(|part| !part.is_empty()) {
                let end = at + part.len();
                if inode.current.len() < end {
                    inode.current.resize(end, 0);
                }
                inode.current[at..end].copy_from_slice(part);
                inode.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
                at = end;
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
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
        Ok(self.disk.0.lock().unwrap().inodes[self.inode].current.len() as u64)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.change(|state| {
            let inode = &mut state.inodes[self.inode];
            inode.current.resize(bytes as usize, 0);
            inode.durable.truncate(bytes as usize);
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
