"""TCP ports of the loopback interface."""

import socket


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as end:
        return end.connect_ex(("127.0.0.1", port)) != 0
