"""The list of mutants still fits the sources: no refactoring disarms it in silence."""

from pathlib import Path

import pytest

from mutants import KINDS, ROOT, ListError, Mutant, Tree, load

PROMISES = range(1, 9)
REQUIRED = (
    "sync dropped",
    "ack before sync",
    "group g+1 before g",
    "recovered group published before sync",
    "directory sync dropped",
    "CRC ignored",
    "truncate instead of quarantine",
    "compare-and-set dropped",
    "position in its own transaction",
    "root not compared",
    "`head` before verdict",
    "`settled` before verdict",
    "epoch check off",
    "gap check (> H+1) off",
    "resume answered from memory",
    "validation in place instead of on the copy",
    "sidecar not written",
    "key without tenant",
    "peer credentials not checked",
    "second log-writer lock off",
    "gap record not written",
)
MUTANTS = load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there_exactly_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.find) == 1
    assert mutant.find != mutant.replace


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_killers_of_a_mutant_are_tests(mutant: Mutant) -> None:
    assert mutant.killers
    for kind, names in mutant.by_kind().items():
        for name in names:
            file, _, test = name.partition("::")
            if kind == "pytest":
                text = (ROOT / file).read_text()
                assert not test or f"def {test}(" in text, name
            else:
                assert kind in KINDS
                assert name


def test_each_promise_has_mutants() -> None:
    for promise in PROMISES:
        assert sum(mutant.promise == promise for mutant in MUTANTS) >= 2, f"promise {promise}"
    assert {mutant.promise for mutant in MUTANTS} == set(PROMISES)


def test_what_must_have_a_mutant_has_one() -> None:
    assert set(REQUIRED) <= {mutant.name for mutant in MUTANTS}


def test_a_text_that_is_there_twice_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, tmp_path / "scratch")
    (tree.path / "file").write_text("a b a")
    mutant = Mutant("name", 1, "file", "a", "c", ("tests/none.py",))
    with pytest.raises(ListError, match="2 times in file"):
        tree.break_line(mutant)
    assert (tree.path / "file").read_text() == "a b a"


def test_a_mutant_is_put_in_and_taken_out(tmp_path: Path) -> None:
    tree = Tree(tmp_path, tmp_path / "scratch")
    (tree.path / "file").write_text("a b")
    mutant = Mutant("name", 1, "file", "a", "c", ("core one", "tests/x.py::test_y", "loom two"))
    text = tree.break_line(mutant)
    assert (tree.path / "file").read_text() == "c b"
    tree.mend(mutant, text)
    assert (tree.path / "file").read_text() == "a b"
    assert mutant.by_kind() == {"core": ["one"], "loom": ["two"], "pytest": ["tests/x.py::test_y"]}
