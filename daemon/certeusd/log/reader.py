"""Reading the log, for followers, `certeus tail` and the offline verbs of `certeus log`.

The work is done in Rust (`daemon/src/reader`); this module is where Python takes it from.
"""

from certeusd._native import Batch, LogReader, log_files, log_group_of, log_plan

__all__ = ["Batch", "LogReader", "log_files", "log_group_of", "log_plan"]
