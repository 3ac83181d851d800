"""How numbers and texts look to a human: in the command line, and on the status page. Pure."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
NONE = "–"  # noqa: RUF001 - a dash for a number that is not known


def human_bytes(value: int) -> str:
    """Render bytes: `1.5 MiB`."""
    number = float(value)
    for unit in _UNITS[:-1]:
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def human_count(value: int) -> str:
    """Render a count: `1,234,567`."""
    return f"{value:,}"


def human_seconds(value: float) -> str:
    """Render a duration: `3 d 4 h`."""
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    for size, unit, lower_size, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if value >= size:
            return f"{int(value // size)} {unit} {int(value % size // lower_size)} {lower}"
    return f"{int(value // 60)} min {int(value % 60)} s"


def short(value: float | None) -> str:
    """Render a count or a rate in five columns: `999`, `1.2 k`, `34 M`."""
    if value is None:
        return NONE
    if value < 999.5:
        return f"{value:.1f}" if value < 9.95 and value != int(value) else f"{value:.0f}"
    number = value
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.5 or unit == "G":
            return f"{number:.1f} {unit}" if number < 99.95 else f"{number:.0f} {unit}"
    raise AssertionError("the last unit takes everything")


def short_bytes(value: float | None) -> str:
    """Render bytes: `1.5 MiB`."""
    return NONE if value is None else human_bytes(int(value))


def short_time(seconds: float | None) -> str:
    """Render a duration in seven columns: `85 µs`, `1.2 ms`, `3.4 s`."""
    if seconds is None:
        return NONE
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return human_seconds(seconds)


def harmless(text: str, length_max: int) -> str:
    r"""Render a stranger's text: cut, and what a screen would obey or hide is written as `\u202e`.

    Line ends, escape sequences of terminals and marks that turn the direction of text are such.
    """
    shown = text if len(text) <= length_max else f"{text[:length_max]}…"
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in shown)


def harmless_json(lines: bytes) -> bytes:
    """Render JSON for a screen: what it would obey or hide is an escape; it stays the same JSON."""
    import json  # A Tab in a shell needs none.

    return "".join(
        one if one.isprintable() or one in "\t\n" else json.dumps(one)[1:-1]
        for one in lines.decode()
    ).encode()
