"""The worker: takes clients in, and lets its kernel serve their rings.

`access`, `handshake` and `ledger` decide, without touching a socket; `peer` and `descriptors` ask
Linux; `clients` and `service` join them with `certeusd._native.Worker`, which does all that happens
more often than once a session. `ipc/README.md` has the protocol.
"""
