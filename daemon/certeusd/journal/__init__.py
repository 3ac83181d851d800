"""The journal's door: follows the systemd journal of this host, each entry once.

```text
journalctl -f ── blocks ──▶ JournalDecoder (Rust) ── payloads ──▶ Door ═══▶ worker
                                  │ cursor                          │ settled
                                  └──────────▶ position ◀───────────┘ durable: then it moves
```

The position moves only behind what is durable, so nothing is lost; it is saved a little later than
it moves, so entries are read again after a death, and the log knows them by their cursors.
"""
