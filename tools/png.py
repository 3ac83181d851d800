"""Make a browser's PNG small: a palette of at most 256 colours instead of three bytes a pixel.

A page of text has few colours beside the shades between ink and paper, so nothing is seen of it.
Form: https://www.w3.org/TR/png-3/ (8 bits a channel, no interlacing: what Chromium writes).
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS_MAX = 256
CHANNELS = {2: 3, 6: 4}
Bytes = npt.NDArray[np.uint8]


def smaller(png: bytes) -> bytes:
    """Return the same picture, without transparency, with a palette."""
    pixels = decoded(png)
    for step in (1, 2, 4, 8, 16, 32):
        # The middle of what falls together, so that paper stays paper as far as can be.
        rough = np.minimum((pixels.astype(np.uint16) + step // 2) // step * step, 255)
        flat = rough.astype(np.uint8).reshape(-1, 3)
        colours, index = np.unique(flat, axis=0, return_inverse=True)
        if len(colours) <= COLOURS_MAX:
            return _encoded(colours, index.reshape(pixels.shape[:2]).astype(np.uint8))
    raise AssertionError("of so rough colours there are 729 at most: more than a page of text has")


def decoded(png: bytes) -> Bytes:
    """Return rows of pixels of three bytes."""
    assert png.startswith(SIGNATURE), "it is a PNG"
    at, data = len(SIGNATURE), b""
    width = height = channels = 0
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0), "it is of the form that Chromium writes"
            channels = CHANNELS[colour]
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    stride = width * channels
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, stride + 1)
    rows = np.zeros((height, stride), np.uint8)
    above = bytes(stride)
    for y, line in enumerate(lines):
        above = _unfiltered(int(line[0]), line[1:].tobytes(), above, channels)
        rows[y] = np.frombuffer(above, np.uint8)
    return rows.reshape(height, width, channels)[:, :, :3]


def _unfiltered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    done = bytearray(line)
    for at, value in enumerate(line):
        left = done[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        done[at] = (value + _predicted(kind, left, above[at], corner)) & 0xFF
    return bytes(done)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    match kind:
        case 0:
            return 0
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
        case _:
            guess = left + up - corner
            return min((left, up, corner), key=lambda one: abs(guess - one))


def _encoded(colours: Bytes, index: Bytes) -> bytes:
    height, width = index.shape
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = index
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
