//! RFC 6962 hashes: salted leaves, and the root of one group.

use certeus_ipc::record::RecordHeader;
use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// The root of no records.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The 16-byte salt of a record, from the log's key. It is never stored: whoever has the key and
/// the record can make it again, whoever has only the leaf cannot guess the record.
#[must_use]
pub fn salt(log_key: &[u8; 32], producer_no: u64, ticket: u64) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(log_key);
    hash.update(b"salt");
    hash.update(producer_no.to_le_bytes());
    hash.update(ticket.to_le_bytes());
    hash.finalize()[..16].try_into().expect("16 of 32 bytes")
}

/// `SHA-256(0x00 ‖ salt ‖ record)`.
#[must_use]
pub fn leaf(salt: &[u8; 16], record: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(salt);
    hash.update(record);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The RFC 6962 root over leaves pushed one by one: only the frontier is kept.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Roots of the perfect subtrees, the largest first; the count of leaves tells their sizes.
    frontier: Vec<Hash>,
    count: u64,
}

impl Tree {
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.count.trailing_ones() {
            hash = node(&self.frontier.pop().expect("one subtree for each set bit"), &hash);
        }
        self.frontier.push(hash);
        self.count += 1;
    }

    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.frontier.iter().rev();
        let Some(last) = subtrees.next() else { return empty_root() };
        subtrees.fold(*last, |right, left| node(left, &right))
    }

    pub fn clear(&mut self) {
        self.frontier.clear();
        self.count = 0;
    }
}

/// The root over the records of a group, each padded to 8. `None`: they are not records.
#[must_use]
pub fn root_of(log_key: &[u8; 32], mut records: &[u8]) -> Option<Hash> {
    let mut tree = Tree::default();
    while !records.is_empty() {
        let header = RecordHeader::parse(records)?;
        let record = records.get(..header.bytes as usize)?;
        tree.push(leaf(&salt(log_key, header.producer_no, header.ticket), record));
        records = records.get(record.len().next_multiple_of(8)..)?;
    }
    Some(tree.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&reference(&leaves[..split]), &reference(&leaves[split..]))
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn salts_and_leaves_are_those_that_are_documented() {
        // Computed by Python's hashlib: whoever proves an event computes them anew.
        let salt = salt(&[7; 32], 3, 42);
        assert_eq!(hex(&salt), "7ce99588a1bb95c35ee00e7eeab8525d");
        let one = leaf(&salt, b"record");
        assert_eq!(hex(&one), "ec5de1cf82c3c71ad8b24d8495bee772e1b7d0583bd31c4a9d3fde391cbffc58");
        assert_eq!(
            hex(&node(&one, &empty_root())),
            "ce2a43a2b018dadba31266ad383b004d5da26fca4b8f7dfed91b6493e28c1e5e"
        );
    }

    #[test]
    fn a_salt_belongs_to_one_ticket_of_one_producer_of_one_log() {
        let base = salt(&[7; 32], 3, 42);
        for other in [salt(&[8; 32], 3, 42), salt(&[7; 32], 4, 42), salt(&[7; 32], 3, 43)] {
            assert_ne!(base, other);
        }
        assert_ne!(leaf(&base, b"record"), leaf(&[0; 16], b"record"), "the salt is in the leaf");
    }

    #[test]
    fn root_equals_the_recursive_definition_of_rfc_6962() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        assert_eq!(tree.root(), reference(&leaves));
        for count in 0..70_u8 {
            let leaf = leaf(&[count; 16], b"record");
            tree.push(leaf);
            leaves.push(leaf);
            assert_eq!(tree.root(), reference(&leaves), "{} leaves", leaves.len());
        }
    }
}
