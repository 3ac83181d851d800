"""The flusher: follows the durable log and makes each event one row in PostgreSQL.

One noun a file: `schema` (tables, leaves, grants), `connection` (settings, checks, deadlines),
`errors` (what an SQLSTATE means for us), `telling` (what it is called), `breaker` and `guard`
(whether to try), `position` and `confirm` (where we are, here and there), `transaction` (rows and
position, all or nothing), `dead_letters` (which row was it?), `leaves` (partitions), `gate` (where
a human decides), `settings` (what it is given), `flusher` (the loop).
asyncpg appears nowhere else in the daemon.
"""
