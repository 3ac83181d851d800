"""Every code that a reason may have: a series each, so that an alert need not wait for the first.

A test holds them to the table in `docs/operating.md`.
"""

CODES = (
    "postgres-away",
    "postgres-refuses",
    "postgres-broken",
    "postgres-locked",
    "dead-letter-rate",
    "postgres-leaves",
    "postgres-password",
    "diverged",
    "behind-log",
    "dead-letters",
    "log-gap",
    "log-full",
    "disk-low",
    "disk-full",
    "log-failed",
    "log-read-only",
    "log-stalled",
    "worker-stalled",
    "flush-stalled",
    "follower-lagging",
    "log-unreadable",
    "position-file",
    "waiting-for-lock",
    "log-blocked",
    "segment-aside",
    "quarantine-failed",
    "memory-pressure",
    "flush-paused",
    "metrics-port",
    "metrics-textfile",
    "crash-loop",
    "restarting",
)
