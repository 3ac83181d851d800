"""`certeus-bench load` and `stress`: events that are due by the clock, whatever certeus does."""
