"""A picture of few colours stays what it is, in fewer bytes; one of many comes near."""

import struct
import zlib

import numpy as np
import pytest

from png import SIGNATURE, Bytes, decoded, smaller


def made(pixels: Bytes, kind: int) -> bytes:
    """A PNG whose lines all have one filter."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels).astype(int)
    left = np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    up = np.zeros_like(rows)
    up[1:] = rows[:-1]
    corner = np.zeros_like(rows)
    corner[1:] = left[:-1]
    guess = left + up - corner
    near = np.stack([np.abs(guess - one) for one in (left, up, corner)]).argmin(axis=0)
    paeth = np.choose(near, [left, up, corner])
    told = rows - [np.zeros_like(rows), left, up, (left + up) // 2, paeth][kind]
    lines = np.insert((told & 0xFF).astype(np.uint8), 0, kind, axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def picture(colours: int, channels: int) -> Bytes:
    random = np.random.default_rng(7)
    palette = random.integers(0, 256, (colours, channels), np.uint8)
    return palette[random.integers(0, colours, (20, 30))]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("channels", [3, 4])
def test_every_filter_is_read(kind: int, channels: int) -> None:
    pixels = picture(40, channels)
    assert np.array_equal(decoded(made(pixels, kind)), pixels[:, :, :3])


def test_a_palette_shows_the_same() -> None:
    """Its indices are colours of the palette, in the order that the parts have."""
    pixels = picture(200, 3)
    small = smaller(made(pixels, 4))
    assert small.startswith(SIGNATURE)
    parts: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(small):
        length, kind = struct.unpack_from(">I4s", small, at)
        parts[kind] = small[at + 8 : at + 8 + length]
        at += 12 + length
    assert list(parts) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    palette = np.frombuffer(parts[b"PLTE"], np.uint8).reshape(-1, 3)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(20, 31)
    assert np.array_equal(palette[lines[:, 1:]], pixels)
