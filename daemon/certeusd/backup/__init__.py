"""Backups of a ledger: made while it runs, verified anywhere, restored on another host.

```text
NAME/ or NAME.tar
  postgres/   base.tar, pg_wal.tar, backup_manifest: the embedded database, taken first
  log/        segments, sidecars, identity.json: up to what was durable after that
  followers/  positions, read before either
  doors/      where the journal's door was, read before either
  config/     certeus.toml: every key that is set, and nothing secret
  keys/       log.key, only when asked for
  manifest.json   last: without it this is no backup
```

Positions, then the database, then the end of the log: so a position is never above what the
database has, nor the database above what the log has. A start of the restored ledger then sees a
database that lags its log, which is what every start may see.
"""
