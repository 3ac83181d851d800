"""Keys in files: made once, for their owner alone, read in both forms."""

from pathlib import Path

import pytest

from certeus_bench import keys
from certeus_bench.keys import KeyFileError


def test_new_key_is_its_owners_alone_and_its_public_half_is_beside_it(tmp_path: Path) -> None:
    made = keys.make(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert keys.load(tmp_path / "key") == made
    public = keys.load_public(str(tmp_path / "key.pub"))
    assert public == made.verify_key.encode().hex() == keys.load_public(public.upper())


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.make(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(KeyFileError, match=r"cannot make key .*: File exists"):
        keys.make(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


@pytest.mark.parametrize("seed", [b"\x00\x0a" * 16, b"ab" * 32, b"AB" * 32 + b"\n"])
def test_seed_may_be_raw_or_hex(tmp_path: Path, seed: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(seed)
    path.chmod(0o600)
    raw = seed if len(seed) == 32 else bytes.fromhex(seed.decode())
    assert keys.load(path).encode() == raw


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    keys.make(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(KeyFileError, match="others may read it; chmod 600"):
        keys.load(tmp_path / "key")


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"g" * 64])
def test_file_without_a_key_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=f"holds {len(data)} bytes"):
        keys.load(path)


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"cannot read key .*: No such file"):
        keys.load(tmp_path / "none")
    with pytest.raises(KeyFileError, match=r"cannot read key .*: No such file"):
        keys.load_public(str(tmp_path / "none"))
