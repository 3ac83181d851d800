"""The supervisor: starts, watches, joins and stops the daemon's processes; touches no event."""
