"""docs/durability.md names tests: they exist, and no promise is without one."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "durability.md").read_text()
HELD = TEXT.partition("## How each promise is held")[2].partition("\n## ")[0]
ROWS = [line for line in HELD.splitlines() if re.match(r"\| \d[\d, ]* \| ", line)]
NAMED = re.findall(r"`((?:tests|daemon|ipc)/[\w/]+\.(?:py|rs))(?:::(\w+))?`", "\n".join(ROWS))


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 30
    for path, name in NAMED:
        code = (ROOT / path).read_text()
        test = rf"\b(?:fn|def) {name}\b" if name else r"\b(?:fn|def) \w+|class \w+"
        assert re.search(test, code), f"{path}::{name}"


def test_every_promise_names_its_tests() -> None:
    promises = {int(number) for row in ROWS for number in re.findall(r"\d", row.split("|")[1])}
    assert promises == set(range(1, 9))
    listed = re.findall(r"^(\d)\. \*\*", TEXT.partition("## What is not")[0], re.MULTILINE)
    assert [int(number) for number in listed] == list(range(1, 9))
