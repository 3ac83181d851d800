"""What `status` says when the log has no room: its bound is reached, or its disk has none."""

REASONS = {
    "log-full": (
        "the log has reached its bound: producers wait, nothing is lost",
        "bring PostgreSQL back, so that the log empties; or raise log.bytes_max",
    ),
    "disk-full": (
        "the log's disk is down to its reserve ({free_mib} MiB are free): producers wait, nothing"
        " is lost",
        "make room on the disk of the state directory; PostgreSQL gets the reserve, so that the"
        " log can empty, and producers go on by themselves",
    ),
    "disk-low": (
        "the log's disk is down to its reserve ({free_mib} MiB are free): the log makes no new"
        " segment, and producers wait as soon as those it has are full",
        "make room on the disk of the state directory",
    ),
}
"""By code: what is wrong, and the next step."""


def reason(*, full: bool, short: bool) -> str | None:
    """Return the code of what is to be told; none if there is room."""
    if full:
        return "disk-full" if short else "log-full"
    return "disk-low" if short else None
