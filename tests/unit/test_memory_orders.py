"""Every memory order of what processes share is weakened by a mutant, or needs none and says why.

x86 orders more than Rust promises, so the tests that run here would not see most weakenings: loom
must. What is not in code that loom runs has to be here with a reason.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mutants import ROOT, load

ORDER = re.compile(
    r"\bOrdering::(?:Relaxed|Acquire|Release|AcqRel|SeqCst)\b|\bfence\("
    r"|\.(?:store_release|fence_acquire|fence_seq_cst)\("
)
OWN_TESTS = re.compile(r"^#\[cfg\((?:all\()?test.*\]\nmod \w+ \{", re.MULTILINE)
LOOM_RUNS = ("ring.rs", "verdict_ring.rs", "follow.rs", "sync.rs")
"""Of `ipc/src`."""

WEAKEST = "relaxed, so there is nothing to weaken: each order that is needed beside it is a fence"
OWN_MEMORY = "of this process alone, between threads that share nothing else through it"
NEEDS_NONE: dict[tuple[str, str], str] = {
    ("ipc/src/ring.rs", "self.word(word).load(Ordering::Relaxed)"): WEAKEST,
    ("ipc/src/ring.rs", "self.word(word).store(value, Ordering::Relaxed);"): WEAKEST,
    ("ipc/src/verdict_ring.rs", "self.word(offset).load(Ordering::Relaxed)"): WEAKEST,
    ("ipc/src/verdict_ring.rs", "self.word(offset).store(value, Ordering::Relaxed);"): WEAKEST,
    ("ipc/src/follow.rs", "wish.store(position, Ordering::Relaxed);"): WEAKEST,
    ("ipc/src/memory.rs", "self.word(at).load(Ordering::Relaxed)"): (
        "a frame's bytes, ordered by the tail; a hostile client gets some mixture"
    ),
    ("ipc/src/memory.rs", "self.p.word(self.data_offset(index)).load(Ordering::Relaxed)"): (
        "a frame's header, ordered by the tail"
    ),
    (
        "ipc/src/memory.rs",
        "self.p.word(self.data_offset(index)).store(value, Ordering::Relaxed);",
    ): ("a frame's header, ordered by the tail"),
    ("ipc/src/py/consumer.rs", "self.ring.memory().c.store_release(offset, value);"): (
        "garbage of a test's own"
    ),
    ("ipc/src/py/fork.rs", "if word.load(Ordering::Relaxed) == 0 {"): OWN_MEMORY,
    ("ipc/src/py/fork.rs", "word.store(LAST.fetch_add(1, Ordering::Relaxed) + 1"): OWN_MEMORY,
    ("ipc/src/py/fork.rs", "Ok(Self(word.load(Ordering::Relaxed)))"): OWN_MEMORY,
    ("ipc/src/py/fork.rs", "word.is_some_and(|word| word.load(Ordering::Relaxed) == self.0)"): (
        OWN_MEMORY
    ),
    ("daemon/src/board.rs", "word.store(word.load(Ordering::Relaxed).wrapping_add(count)"): (
        "one writer a page; a counter orders nothing"
    ),
    ("daemon/src/board.rs", "self.word(index).store(value, Ordering::Relaxed);"): (
        "gauges order nothing; the durable seq goes by `follow`"
    ),
    ("daemon/src/board.rs", "self.word(index).load(Ordering::Relaxed)"): (
        "gauges order nothing; the durable seq goes by `follow`"
    ),
    ("daemon/src/direct.rs", "self.0.load(Ordering::Relaxed)"): OWN_MEMORY,
    ("daemon/src/direct.rs", "self.0.store(u8::from(wanted), Ordering::Relaxed)"): OWN_MEMORY,
    ("daemon/src/direct.rs", "self.0.store(NEVER, Ordering::Relaxed)"): OWN_MEMORY,
    ("daemon/src/failpoint.rs", "armed.passed.fetch_add(1, Ordering::Relaxed)"): OWN_MEMORY,
    ("daemon/src/disk/named.rs", "self.live.store(true, Ordering::Relaxed);"): OWN_MEMORY,
    ("daemon/src/disk/named.rs", "live.load(Ordering::Relaxed)"): OWN_MEMORY,
}
"""By file and the text that has the order in it."""


class Use(NamedTuple):
    """One order."""

    file: str
    start: int
    line: str

    def __str__(self) -> str:
        return f"{self.file}: {self.line}"


def is_test(path: Path) -> bool:
    return path.name == "tests.rs" or "tests" in path.parts


def sources() -> dict[str, str]:
    """Sources by name, up to their own tests."""
    found: dict[str, str] = {}
    for folder in ("ipc/src", "daemon/src"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            name = path.relative_to(ROOT)
            if not is_test(name):
                found[str(name)] = OWN_TESTS.split(path.read_text())[0]
    return found


SOURCES = sources()


def uses() -> list[Use]:
    found: list[Use] = []
    for file, text in SOURCES.items():
        for match in ORDER.finditer(text):
            begin = text.rindex("\n", 0, match.start()) + 1
            line = text[begin : text.index("\n", begin)].strip()
            if not line.startswith(("//", "fn ", "use ", "pub use ")):
                found.append(Use(file, match.start(), line))
    return found


def spans() -> dict[str, list[range]]:
    """What mutants change, by file."""
    found: dict[str, list[range]] = {}
    for mutant in load():
        text = SOURCES.get(mutant.file, "")
        if mutant.name.startswith("fence: ") and (begin := text.find(mutant.find)) >= 0:
            span = range(begin, begin + len(mutant.find))
            found.setdefault(mutant.file, []).append(span)
    return found


def reason(use: Use) -> str | None:
    for (file, text), why in NEEDS_NONE.items():
        if file == use.file and text in use.line:
            return why
    return None


def test_each_order_has_a_mutant_or_a_reason_why_it_needs_none() -> None:
    changed = spans()
    faults = [
        str(use)
        for use in uses()
        if not any(use.start in span for span in changed.get(use.file, [])) and reason(use) is None
    ]
    assert not faults, "no mutant weakens\n" + "\n".join(faults)


def test_no_reason_outlives_its_order() -> None:
    lines = [(use.file, use.line) for use in uses()]
    stale = [
        key
        for key in NEEDS_NONE
        if not any(key[0] == file and key[1] in line for file, line in lines)
    ]
    assert not stale


def test_an_order_that_matters_is_in_code_that_loom_runs() -> None:
    strange = [
        str(use)
        for use in uses()
        if "Relaxed" not in use.line
        and reason(use) is None
        and not (use.file.startswith("ipc/src/") and Path(use.file).name in LOOM_RUNS)
    ]
    assert not strange


def test_each_mutant_of_an_order_is_killed_by_loom() -> None:
    fences = [mutant for mutant in load() if mutant.name.startswith("fence: ")]
    assert fences
    assert all(list(mutant.by_kind()) == ["loom"] for mutant in fences)


@pytest.mark.parametrize("file", [f"ipc/src/{name}" for name in LOOM_RUNS[:3]])
def test_the_enumeration_finds_what_there_is(file: str) -> None:
    text = SOURCES[file]
    assert sum(use.file == file for use in uses()) >= 4
    assert not re.search(r"compare_exchange|fetch_\w+\(|atomic::compiler_fence", text)
