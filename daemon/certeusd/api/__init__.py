"""The api: HTTP for programs that do not have the library. A `Producer` and a reader, nothing else.

One noun a file: `peers` (who asks, and what may they), `producers` (one session with a worker for
each peer), `routes` (the table), `problems` (what goes wrong, RFC 9457), `about` (what the
supervisor knows), `server` (the listening socket, and from request to answer), `live` (what flows
now, once a second) and `page` (the same for a browser).
"""
