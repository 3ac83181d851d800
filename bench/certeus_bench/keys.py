"""Ed25519 keys in files: 32 bytes of seed, raw or in hex, which nobody but their owner may read."""

import os
import re
from pathlib import Path

from nacl.signing import SigningKey

SEED_BYTES = 32
_HEX = re.compile(rb"[0-9a-fA-F]{64}")


class KeyFileError(Exception):
    """A key cannot be read or made; the message says why, and what to do."""


def make(path: Path) -> SigningKey:
    """Write a new key to ``path`` (mode 0600), and its public half to ``path``.pub, both in hex."""
    key = SigningKey.generate()
    _write(path, key.encode(), 0o600)
    _write(public_path(path), key.verify_key.encode(), 0o644)
    return key


def public_path(path: Path) -> Path:
    """Where the public half of the key in ``path`` is put."""
    return path.with_name(path.name + ".pub")


def load(path: Path) -> SigningKey:
    """The key in ``path``; refused if others may read it."""
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"cannot use key {path}: others may read it; chmod 600 {path}")
    return SigningKey(_key_bytes(data, path))


def load_public(text: str) -> str:
    """A public key in hex, given itself or as the name of a file that holds it."""
    if _HEX.fullmatch(text.encode()):
        return text.lower()
    path = Path(text)
    return _key_bytes(_read(path), path).hex()


def _key_bytes(data: bytes, path: Path) -> bytes:
    if _HEX.fullmatch(stripped := data.strip()):
        return bytes.fromhex(stripped.decode())
    if len(data) != SEED_BYTES:
        raise KeyFileError(
            f"cannot use key {path}: it holds {len(data)} bytes, neither {SEED_BYTES} nor"
            " their hex; make one with certeus-bench key FILE"
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read key {path}: {error.strerror}") from error


def _write(path: Path, key: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        raise KeyFileError(f"cannot make key {path}: {error.strerror}") from error
    with open(descriptor, "wb") as file:
        file.write(key.hex().encode() + b"\n")
