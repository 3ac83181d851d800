"""`ipc/README.md` draws what `ipc/src/layout.rs` defines: neither changes alone."""

import re
from pathlib import Path

from certeus import _native

ROOT = Path(__file__).parents[2]
LAYOUT = (ROOT / "ipc/src/layout.rs").read_text()
README = (ROOT / "ipc/README.md").read_text()


def drawn(page: str) -> dict[str, int]:
    section = README.split(f"\n{page}  memfd")[1].split("\n\n")[0]
    return {name: int(offset) for offset, name in re.findall(r"\n +(\d+)  ([A-Z_]+) ", section)}


def defined(page: str) -> dict[str, int]:
    words = re.findall(rf"pub const {page}_([A-Z_]+): usize = (\d+);", LAYOUT)
    return {name: int(offset) for name, offset in words}


def test_the_words_of_both_pages_are_where_the_readme_draws_them() -> None:
    assert drawn("C") == defined("C")
    head = {"MAGIC", "VERSION", "RING_BYTES"}
    assert drawn("P") == {k: v for k, v in defined("P").items() if k not in head}


def test_words_of_different_writers_are_never_neighbours() -> None:
    lines = sorted({offset // 128 for offset in defined("P").values()})
    assert lines == [0, 1, 2, 3]
    assert sorted({offset // 128 for offset in defined("C").values()}) == [1, 2, 3]


def test_the_verdict_ring_is_as_long_as_drawn() -> None:
    assert _native.C_BYTES == 4096 + 2048 * 40
    assert _native.VERDICT_COUNT == 2048
    assert "4096 + 2048 * 40" in README
