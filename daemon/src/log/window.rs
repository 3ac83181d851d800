//! The dedup window: the newest explicit ids, in log order, by their 128-bit keyed hash.
//!
//! ```text
//! entries   circular, oldest overwritten:  │ key 16 │ seq 8 │ digest 8 │ ...   capacity × 32 bytes
//! table     open addressing, linear probing: entry index + 1, or 0            ≥ 2 × capacity × 4
//! ```
//!
//! Both are zero pages until they are used, so an empty window of 2 M ids costs nothing and a full
//! one 80 MB. The keys are keyed hashes already: their first bytes are the slot.

use crate::memory::Region;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    pub key: [u8; 16],
    pub seq: u64,
    pub digest: u64,
}

impl Key {
    #[must_use]
    pub fn to_words(self) -> [u64; 4] {
        [
            crate::format::u64_at(&self.key, 0),
            crate::format::u64_at(&self.key, 8),
            self.seq,
            self.digest,
        ]
    }

    fn from_words(words: [u64; 4]) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&words[0].to_le_bytes());
        key[8..].copy_from_slice(&words[1].to_le_bytes());
        Self { key, seq: words[2], digest: words[3] }
    }
}

pub struct Window {
    /// Words, not structs: a vector of zero words is zero pages, which nobody has touched.
    entries: Vec<[u64; 4]>,
    table: Vec<u32>,
    /// Ids inserted so far; the newest is at `(inserted - 1) % capacity`.
    inserted: u64,
}

impl Window {
    /// A window of `capacity` ids; 0 recognises nothing.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(u32::try_from(capacity).is_ok(), "the table holds 32-bit indices");
        let slots = (capacity * 2).next_power_of_two();
        Self { entries: vec![[0; 4]; capacity], table: vec![0; slots], inserted: 0 }
    }

    /// All of its memory.
    #[must_use]
    pub fn regions(&self) -> [Region<'_>; 2] {
        [Region::of_vec(&self.entries), Region::of_vec(&self.table)]
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len().min(usize::try_from(self.inserted).unwrap_or(usize::MAX))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest event with this id, if the window still knows it.
    #[must_use]
    pub fn get(&self, key: &[u8; 16]) -> Option<Key> {
        let (_, index) = self.find(key)?;
        Some(self.entry(index))
    }

    /// Remembers an id; the oldest goes when the window is full. One that is there already is from
    /// now on the newest: its old entry keeps its place, but is found no more.
    pub fn insert(&mut self, entry: Key) {
        if self.entries.is_empty() {
            return;
        }
        let index = (self.inserted % self.entries.len() as u64) as usize;
        if self.inserted >= self.entries.len() as u64 {
            let oldest = self.entry(index).key;
            let (slot, newest) = self.find(&oldest).expect("every id is in the table");
            if newest == index {
                self.clear_slot(slot);
            }
        }
        let known = self.find(&entry.key);
        self.entries[index] = entry.to_words();
        let mut slot = known.map_or_else(|| self.home(&entry.key), |(slot, _)| slot);
        while known.is_none() && self.table[slot] != 0 {
            slot = (slot + 1) & (self.table.len() - 1);
        }
        self.table[slot] = u32::try_from(index + 1).expect("checked in new");
        self.inserted += 1;
    }

    /// The oldest id that is still recognised.
    #[must_use]
    pub fn oldest(&self) -> Option<Key> {
        let capacity = self.entries.len() as u64;
        (!self.is_empty()).then(|| {
            let first = self.inserted.saturating_sub(capacity);
            self.entry((first % capacity) as usize)
        })
    }

    /// Every id that is recognised, oldest first.
    #[cfg(test)]
    pub fn newest(&self) -> Vec<Key> {
        let capacity = self.entries.len() as u64;
        let first = self.inserted.saturating_sub(capacity);
        let entries = (first..self.inserted).map(|at| self.entry((at % capacity) as usize));
        entries.filter(|entry| self.get(&entry.key) == Some(*entry)).collect()
    }

    fn entry(&self, index: usize) -> Key {
        Key::from_words(self.entries[index])
    }

    fn home(&self, key: &[u8; 16]) -> usize {
        let hash = u64::from_le_bytes(key[..8].try_into().expect("8 bytes"));
        hash as usize & (self.table.len() - 1)
    }

    fn find(&self, key: &[u8; 16]) -> Option<(usize, usize)> {
        let mut slot = self.home(key);
        while self.table[slot] != 0 {
            let index = self.table[slot] as usize - 1;
            if self.entry(index).key == *key {
                return Some((slot, index));
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        None
    }

    /// Empties a slot and moves back whatever was pushed past it.
    fn clear_slot(&mut self, mut hole: usize) {
        let mask = self.table.len() - 1;
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            if self.table[slot] == 0 {
                break;
            }
            let home = self.home(&self.entry(self.table[slot] as usize - 1).key);
            if (slot.wrapping_sub(home) & mask) >= (slot.wrapping_sub(hole) & mask) {
                self.table[hole] = self.table[slot];
                hole = slot;
            }
        }
        self.table[hole] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_knows_exactly_the_newest_ids(
            capacity in 0_usize..9,
            keys in prop::collection::vec((0_u8..24, any::<bool>()), 0..200),
        ) {
            let mut window = Window::new(capacity);
            let mut model: VecDeque<Key> = VecDeque::new();
            for (seq, (byte, again)) in keys.into_iter().enumerate() {
                // Few homes, so that probing and moving back are common.
                let mut key = [byte; 16];
                key[..8].copy_from_slice(&u64::from(byte % 3).to_le_bytes());
                let known = model.iter().rev().find(|entry| entry.key == key).copied();
                prop_assert_eq!(window.get(&key), known);
                if known.is_none() || again {
                    let entry = Key { key, seq: seq as u64, digest: 7 };
                    window.insert(entry);
                    model.push_back(entry);
                    if model.len() > capacity {
                        model.pop_front();
                    }
                }
                prop_assert_eq!(window.len(), model.len());
                prop_assert_eq!(window.oldest(), model.front().copied());
            }
        }
    }
}
