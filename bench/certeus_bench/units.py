"""How figures look to people: three digits, and the unit that keeps them between 1 and 1000."""

_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_SIZES = (("B", 1.0), ("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30), ("TiB", 2.0**40))
_COUNTS = (("", 1.0), (" k", 1e3), (" M", 1e6), (" G", 1e9))


def number(value: float) -> str:
    """Three significant digits, and thousands apart: ``0.0123``, ``1.23``, ``1,234``."""
    return f"{value:,.0f}" if value == 0 or abs(value) >= 99.95 else f"{value:#.3g}"


def time(time_ns: float) -> str:
    """``1.23 ms``."""
    return _scaled(time_ns, _TIMES)


def size(size_bytes: float) -> str:
    """``1.23 MiB``."""
    return _scaled(size_bytes, _SIZES)


def rate(per_second: float) -> str:
    """``1,234,567/s``."""
    return f"{number(per_second)}/s"


def short(value: float) -> str:
    """``1.2 M``: for the ticks of an axis."""
    unit, scale = _unit(value, _COUNTS)
    return f"{value / scale:.3g}{unit}"


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    unit, scale = _unit(value, units)
    return f"{number(value / scale)} {unit}"


def _unit(value: float, units: tuple[tuple[str, float], ...]) -> tuple[str, float]:
    """The largest unit of which there is at least one."""
    return next((unit for unit in reversed(units) if abs(value) >= unit[1] * 0.9995), units[0])
