//! The log writer's own memory that every event goes through, for `[memory]`.

use super::LogWriter;
use crate::disk::Disk;
use crate::memory::Preparer;

impl<D: Disk> LogWriter<D> {
    /// Prepares what the group is gathered in, and the dedup window.
    pub fn prepare_arenas(&mut self, memory: &mut Preparer) {
        // The configuration allows no record that is larger than what closes a group.
        let records_bytes = 2 * self.limits.group_bytes_max;
        let entries_bytes = usize::try_from(self.pending_bytes_max()).expect("fits memory");
        let group = self.group.reserve(records_bytes, entries_bytes);
        for region in group.into_iter().chain(self.window.regions()) {
            memory.prepare("arenas", region);
        }
    }
}
