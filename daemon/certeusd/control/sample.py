"""The control API at one moment: what `rates.py` compares two of."""

from dataclasses import dataclass

from certeusd.control import types


@dataclass(frozen=True, slots=True)
class Sample:
    """Three answers, each with its own time: workers may take a second to tell theirs."""

    at: float
    """Seconds since 1970, to be shown."""
    status: types.Status
    status_at: float
    """Monotonic seconds, as all that follow."""
    producers: types.Producers
    producers_at: float
    followers: types.Followers | None
    """None: the log cannot be read now."""

    def continues(self, before: "Sample") -> bool:
        """Whether the same daemon told `before`, so that its counters have only grown."""
        now, then = self.status, before.status
        return now.pid == then.pid and now.uptime_seconds >= then.uptime_seconds
