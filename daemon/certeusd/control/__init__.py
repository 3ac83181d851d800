"""The control API: what the supervisor answers on `control.sock`, and the client of it."""
