//! `<segment>.keys`: what a sealed segment leaves behind for the next start.
//!
//! ```text
//!  0  magic 8 │ version u32 │ crc u32 (of all behind it)
//! 16  segment_no │ first_seq │ next_seq │ last_recorded_at_ns │ key count     u64 each
//! 56  keys: key 16, seq u64, digest u64
//!     producer table at the segment's end
//! ```
//!
//! Written beside, synced and renamed, so that it is whole or not there; where it is not there, the
//! segment itself is read.

use std::io;
use std::path::Path;

use super::producers::Producers;
use super::progress::naming;
use super::window::Key;
use crate::disk::{Disk, DiskFile};
use crate::format::{u32_at, u64_at};

const MAGIC: [u8; 8] = *b"certeusK";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 56;
const KEY_BYTES: usize = 32;

#[derive(Clone, Debug)]
pub struct Sidecar {
    pub segment_no: u64,
    pub first_seq: u64,
    pub next_seq: u64,
    pub recorded_at_ns: u64,
    pub keys: Vec<Key>,
    /// [`Producers::encode`].
    pub producers: Vec<u8>,
}

impl Sidecar {
    #[must_use]
    pub fn new(segment_no: u64, first_seq: u64, next_seq: u64, producers: &Producers) -> Self {
        let mut table = Vec::new();
        producers.encode(&mut table);
        Self {
            segment_no,
            first_seq,
            next_seq,
            recorded_at_ns: 0,
            keys: Vec::new(),
            producers: table,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(HEAD_BYTES + self.keys.len() * KEY_BYTES + self.producers.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for word in [
            self.segment_no,
            self.first_seq,
            self.next_seq,
            self.recorded_at_ns,
            self.keys.len() as u64,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for key in &self.keys {
            out.extend_from_slice(&key.key);
            out.extend_from_slice(&key.seq.to_le_bytes());
            out.extend_from_slice(&key.digest.to_le_bytes());
        }
        out.extend_from_slice(&self.producers);
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None`: damaged, or of another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES)?;
        let count = usize::try_from(u64_at(head, 48)).ok()?;
        let keys_end = count.checked_mul(KEY_BYTES)?.checked_add(HEAD_BYTES)?;
        let keys = bytes.get(HEAD_BYTES..keys_end)?;
        let proper = head[..8] == MAGIC
            && u32_at(head, 8) == VERSION
            && u32_at(head, 12) == crc32c::crc32c(&bytes[16..]);
        proper.then(|| Self {
            segment_no: u64_at(head, 16),
            first_seq: u64_at(head, 24),
            next_seq: u64_at(head, 32),
            recorded_at_ns: u64_at(head, 40),
            keys: keys
                .chunks_exact(KEY_BYTES)
                .map(|key| Key {
                    key: key[..16].try_into().expect("16 bytes"),
                    seq: u64_at(key, 16),
                    digest: u64_at(key, 24),
                })
                .collect(),
            producers: bytes[keys_end..].to_vec(),
        })
    }

    /// Makes the sidecar durable in `dir`.
    pub fn write<D: Disk>(&self, disk: &D, dir: &Path) -> io::Result<()> {
        let path = dir.join(name(self.segment_no));
        let beside = dir.join(format!("{}.new", name(self.segment_no)));
        let file = disk.open(&beside, true)?;
        let bytes = self.encode();
        file.truncate(bytes.len() as u64)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.rename(&beside, &path)?;
        disk.sync_dir(dir)
    }

    /// The sidecar of a segment. `None`: not there, damaged, or of another version.
    ///
    /// Errors: the disk refuses; what a segment that is gone has left behind stands nowhere else.
    pub fn read<D: Disk>(disk: &D, dir: &Path, segment_no: u64) -> io::Result<Option<Self>> {
        let path = dir.join(name(segment_no));
        let file = match disk.open(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(naming(&path)(error)),
        };
        let mut bytes = vec![0; usize::try_from(file.bytes()?).expect("fits memory")];
        let read = file.read_at(0, &mut bytes).map_err(naming(&path))?;
        Ok(Self::decode(&bytes[..read]).filter(|sidecar| sidecar.segment_no == segment_no))
    }
}

#[must_use]
pub fn name(segment_no: u64) -> String {
    format!("{segment_no:020}.keys")
}
