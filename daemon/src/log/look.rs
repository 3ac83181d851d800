//! A start's first look: which files are the log's, and which sidecars are worth reading.

use std::io;

use super::decision::{self, Header, Place, Use};
use super::line::places;
use super::progress::naming;
use super::recovery::{Aside, Item, Segments, segment_name};
use super::sidecar::Sidecar;
use super::walk::{is_refused, read_what_is_left, walk};
use crate::disk::{Disk, DiskFile};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader};

impl<D: Disk> Segments<'_, D> {
    /// Reads every header, and decides which files are the log's.
    pub(super) fn look(&mut self, numbers: &[u64]) -> io::Result<()> {
        for &number in numbers {
            let file = self.open(number)?;
            let mut head = vec![0; SEGMENT_HEADER_BYTES as usize];
            let read = read_what_is_left(&file, 0, &mut head);
            let read = read.map_err(naming(&self.dir.join(segment_name(number))))?;
            let valid = SegmentHeader::parse(&head[..read]);
            let bytes = file.bytes()?;
            let unreadable = read == 0 && bytes > 0;
            let header = match valid {
                Some(_) => Header::Valid,
                None if read > 0 && head.iter().all(|byte| *byte == 0) => Header::Unwritten,
                None => Header::Damaged,
            };
            self.used.push(Item { number, header, valid, bytes, unreadable });
        }
        let headers: Vec<(u64, SegmentHeader)> =
            self.used.iter().filter_map(|item| Some((item.number, item.valid?))).collect();
        let mut places = places(&headers).into_iter();
        let mut last = true;
        let used = std::mem::take(&mut self.used);
        let places: Vec<Place> = used
            .iter()
            .map(|item| item.valid.map_or(Place::Fits, |_| places.next().expect("one each")))
            .collect();
        for (item, place) in used.into_iter().zip(places).rev() {
            let row = decision::file_row(item.header, place, last);
            last &= row.becomes != Use::Read;
            match row.becomes {
                Use::Read => self.used.push(item),
                Use::Spare => self.found.spares.push(item.number),
                Use::Aside => self.set_aside(&item, row.label, place == Place::OutOfLine)?,
            }
        }
        self.used.reverse();
        for header in self.used.iter().filter_map(|item| item.valid) {
            self.found.epoch = self.found.epoch.max(header.epoch);
            self.found.log_uuid = Some(header.log_uuid);
        }
        Ok(())
    }

    /// Takes a file out of the log, whole. One of this log's own may have given out numbers.
    pub(super) fn set_aside(
        &mut self,
        item: &Item,
        label: &'static str,
        ours: bool,
    ) -> io::Result<()> {
        let header = item.valid.expect("only a valid header contradicts anything");
        if ours {
            let file = self.open(item.number)?;
            let walk = walk(&file, &header, u64::MAX, |_| ())?;
            self.end_is_readable(item.number, walk.refused)?;
            self.floor = self.floor.max(walk.position.next_seq);
            self.found.epoch = self.found.epoch.max(header.epoch);
        }
        let name = format!("{}.aside-{:016x}", segment_name(item.number), header.salt);
        let path = self.dir.join(segment_name(item.number));
        self.disk.rename(&path, &self.dir.join(&name)).map_err(naming(&path))?;
        self.disk.sync_dir(self.dir)?;
        self.found.older.push((item.number, label));
        self.found.aside.push(Aside { segment_no: item.number, label, name });
        Ok(())
    }

    /// Reads sidecars from the newest one back, until they fill the window. Returns the index from
    /// which on segments are loaded: what is older is known by its headers alone.
    pub(super) fn plan(&mut self, sidecars: &[u64]) -> io::Result<usize> {
        let oldest = self.used.first().map_or(u64::MAX, |item| item.number);
        let has = |item: &Item| item.valid.is_some() && sidecars.contains(&item.number);
        // What has no sidecar needs the table of what is before it.
        let older = self.used.len().saturating_sub(1);
        let unsealed = self.used[..older].iter().position(|item| !has(item)).unwrap_or(usize::MAX);
        let (mut keys, mut bytes, mut table) = (0, 0, false);
        let mut first = self.used.len();
        for index in (0..self.used.len()).rev() {
            if table && keys >= self.settings.dedup_keys && index < unsealed {
                break;
            }
            table = false;
            first = index;
            if self.is_read_whole(index) || !sidecars.contains(&self.used[index].number) {
                bytes += self.used[index].bytes;
                continue;
            }
            match self.agreeing_sidecar(index)? {
                Some(sidecar) => {
                    keys += sidecar.keys.len();
                    table = true;
                    self.sidecars.insert(sidecar.segment_no, sidecar);
                }
                None => bytes += self.used[index].bytes,
            }
        }
        let segments = self.used.len() - first;
        for &number in sidecars.iter().rev().filter(|number| **number < oldest) {
            if first > 0 || keys >= self.settings.dedup_keys && number + 1 < oldest {
                self.found.sidecars.push((number, 0));
            } else if let Some(sidecar) = self.only_sidecar(number)? {
                keys += sidecar.keys.len();
                self.sidecars.insert(number, sidecar);
            }
        }
        self.progress.expect(segments as u64, bytes);
        Ok(first)
    }

    /// Of a segment that is gone. One that the disk refuses may be read by the next start: nobody
    /// is forgotten for it.
    fn only_sidecar(&self, number: u64) -> io::Result<Option<Sidecar>> {
        let path = self.dir.join(super::sidecar::name(number));
        Sidecar::read(self.disk, self.dir, number).map_err(|cause| {
            if !is_refused(&cause) {
                return cause;
            }
            let told =
                format!("cannot read what trimmed segments left, {}: {cause}", path.display());
            io::Error::other(told)
        })
    }

    pub(super) fn agreeing_sidecar(&self, index: usize) -> io::Result<Option<Sidecar>> {
        let item = &self.used[index];
        // Its segment is there and can be read instead.
        let found = Sidecar::read(self.disk, self.dir, item.number)
            .or_else(|error| if is_refused(&error) { Ok(None) } else { Err(error) })?;
        let next_seq = self.successor(index).map_or(u64::MAX, |header| header.before_next_seq);
        Ok(found.filter(|sidecar| {
            sidecar.next_seq <= next_seq
                && item.valid.is_none_or(|header| header.before_next_seq == sidecar.first_seq)
        }))
    }

    /// Whether a segment is read although it has a sidecar: without its header, the newest one does
    /// not say where its predecessor ends.
    pub(super) fn is_read_whole(&self, index: usize) -> bool {
        let newest = self.used.len() - 1;
        index == newest || index + 1 == newest && self.used[newest].valid.is_none()
    }

    /// The next valid header behind a segment.
    pub(super) fn successor(&self, index: usize) -> Option<SegmentHeader> {
        self.used[index + 1..].iter().find_map(|item| item.valid)
    }
}
