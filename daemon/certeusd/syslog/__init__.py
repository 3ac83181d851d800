"""Syslog: RFC 5424 and RFC 3164, from a Unix socket, and from UDP and TCP of the loopback.

```text
 Unix ─┐
 UDP  ─┼─ a turn: read ─▶ encode ─▶ ring ═══▶ worker      held until settled, then forgotten
 TCP  ─┘     ▲                        │
             └──── room ◀──── settled ┘
```

The protocol acknowledges nothing. So what may be lost is kept small, and the rest waits where it
cannot be lost: one socket at a time has its turn, in which what is read goes to the ring before
anything else happens, and nobody has a turn while as much as `intake.HELD_BYTES_MAX` is not
settled. Then the kernel's buffers fill: who writes to the Unix socket or to TCP waits, and what
comes by UDP is dropped and counted. The supervisor owns the sockets, so what they hold outlives
this process.

One noun a file: `senders` (who sent it, may they, what is its source), `intake` (turns, what is
held), `readiness` (what to read), `datagrams`, `streams` and the `connections` that they are,
`late_ports`, `drops` (of UDP), `server` (all of it).
"""
