//! Keyed hashes of an event: the id under which a retry is recognised, and what it must equal.
//!
//! Worker and log writer both make them: the worker from the event, once; the log writer only when
//! it recovers a segment without its sidecar. The key is the log's secret, so that nobody can craft
//! two ids that collide. Every part is preceded by its length, so that no two inputs run together.

use certeus_ipc::record::{Attributes, FLAG_OPAQUE, Tag};
use sha2::{Digest, Sha256};

/// What the digest covers beside data and the opaque flag: all that the caller gave, but for source
/// and id, which are the key.
const DIGESTED: [Tag; 6] =
    [Tag::Type, Tag::Subject, Tag::Time, Tag::DataSchema, Tag::ContentType, Tag::Extensions];
/// Instead of a length: the attribute was not given.
const ABSENT: u64 = u64::MAX;

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// 128-bit key of `(tenant, source, id)` in the dedup window.
#[must_use]
pub fn dedup_key(log_key: &[u8; 32], tenant: &[u8], source: &[u8], id: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(log_key);
    hash.update(b"dedup");
    for bytes in [tenant, source, id] {
        part(&mut hash, bytes);
    }
    hash.finalize()[..16].try_into().expect("16 of 32 bytes")
}

/// 64-bit digest of what the caller gave beside source and id: type, subject, time, data schema,
/// content type, extensions, whether data is opaque, data.
#[must_use]
pub fn content_digest(
    log_key: &[u8; 32],
    attributes: &Attributes<'_>,
    flags: u8,
    data: &[u8],
) -> u64 {
    let mut hash = Sha256::new();
    hash.update(log_key);
    hash.update(b"content");
    hash.update([flags & FLAG_OPAQUE]);
    for tag in DIGESTED {
        match attributes.get(tag) {
            Some(value) => part(&mut hash, value),
            None => hash.update(ABSENT.to_le_bytes()),
        }
    }
    part(&mut hash, data);
    u64::from_le_bytes(hash.finalize()[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn the_key_depends_on_each_part_and_on_where_one_ends() {
        let key = dedup_key(&KEY, b"tenant", b"source", b"id");
        assert_eq!(key, dedup_key(&KEY, b"tenant", b"source", b"id"));
        for other in [
            dedup_key(&[8; 32], b"tenant", b"source", b"id"),
            dedup_key(&KEY, b"other", b"source", b"id"),
            dedup_key(&KEY, b"tenant", b"other", b"id"),
            dedup_key(&KEY, b"tenant", b"source", b"other"),
            dedup_key(&KEY, b"tenants", b"ource", b"id"),
            dedup_key(&KEY, b"tenant", b"sourcei", b"d"),
            dedup_key(&KEY, b"tenant", b"", b"sourceid"),
        ] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn the_digest_covers_all_but_source_and_id() {
        let mut base = Attributes::default();
        base.set(Tag::Type, Some(b"t"));
        let digest = |attributes: &Attributes<'_>| content_digest(&KEY, attributes, 0, b"data");
        for tag in Tag::ALL {
            let mut changed = base;
            changed.set(tag, Some(b"x"));
            let covered = digest(&changed) != digest(&base);
            assert_eq!(covered, !matches!(tag, Tag::Source | Tag::Id), "{tag:?}");
            let mut empty = base;
            empty.set(tag, Some(b""));
            assert_eq!(digest(&empty) != digest(&base), covered, "{tag:?} given, but empty");
        }
        assert_ne!(content_digest(&KEY, &base, FLAG_OPAQUE, b"data"), digest(&base));
        assert_ne!(content_digest(&KEY, &base, 0, b"datb"), digest(&base));
    }
}
