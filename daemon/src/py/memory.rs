//! What came of `[memory]`, for Python, which knows what to tell an operator.

use crate::memory::Preparer;

/// Kind of memory, key, bytes asked for, bytes that have it, the last errno for the difference.
pub type Prepared = (&'static str, &'static str, u64, u64, i32);

pub fn prepared(memory: &mut Preparer) -> Vec<Prepared> {
    let told = memory.take().into_iter();
    told.map(|(what, key, it)| (what, key, it.asked_bytes, it.got_bytes, it.refused)).collect()
}
