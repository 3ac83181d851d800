"""Programs that use a peer: each is run as a process of its own, by the peers' interpreter."""
