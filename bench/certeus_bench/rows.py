"""The events that every system is given: the same rows, whoever carries them.

Made before any clock starts: what is measured is the carrying, not the making of JSON. Needs the
standard library alone, since producers of other systems run by other interpreters import it too.
"""

ROWS = 8192


def make_rows(event_bytes: int, seed: int) -> list[bytes]:
    """``ROWS`` different JSON objects of exactly ``event_bytes`` bytes each.

    Each is as `json` writes it without spaces: what it stands for becomes the same bytes again.
    """
    return [make_row(number, event_bytes, seed) for number in range(ROWS)]


def make_row(number: int, event_bytes: int, seed: int) -> bytes:
    """One of them, by its number."""
    head = (
        f'{{"device":"sensor-{(number * 7919 + seed) % 100_000:05d}","n":{number + 100_000},'
        f'"celsius":{round(20 + number % 977 / 100, 2)},"ok":true,"note":"'
    ).encode()
    padding = event_bytes - len(head) - 2
    if padding < 0:
        head, padding = b'{"n":"', event_bytes - 8
    sentence = f"{number:06d} reading of a meter in hall {number % 17}. "
    text = (sentence * (padding // 30 + 1)).encode()
    row = head + text[:padding] + b'"}'
    assert len(row) == event_bytes
    return row
