"""Reading the log, for followers, `certeus tail` and the offline verbs of `certeus log`.

The work is done in Rust (`daemon/src/reader`); this module is where Python takes it from.
"""

from certeusd._native import (
    Batch,
    Filter,
    LogReader,
    Rendered,
    log_begins,
    log_files,
    log_group_of,
    log_plan,
)

__all__ = [
    "Batch", "Filter", "LogReader", "Rendered", "log_begins", "log_files", "log_group_of",
    "log_plan",
]  # fmt: skip
