"""The numbers of the house style, enforced: what a reviewer should not have to say twice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ipc", "daemon", "fuzz", "tests", "bench", "tools", "systemd", "etc", "docs", ".ci")
TEXT = {".py", ".pyi", ".rs", ".sh", ".md", ".toml", ".sql", ".service", ".sysusers", ".tmpfiles"}
GENERATED = {"target", "__pycache__", "out"}

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100
PROSE_COLUMNS_MAX = 120
SAFETY_LOOKBACK_LINES = 12
# Spelt in halves, so that this file does not find itself.
BANNED_WORDS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
# A file over the limit says why, within its first lines, with these words.
LONG_FILE_REASON = "Longer than 500 lines:"


def files(*suffixes: str) -> list[Path]:
    """The project's own text files: those of its folders, and those beside the README."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found.extend(path for path in (ROOT / folder).rglob("*") if path.is_file())
    wanted = set(suffixes) or TEXT
    return sorted(
        path
        for path in found
        if path.suffix in wanted and not GENERATED & set(path.relative_to(ROOT).parts)
    )


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def assert_none(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


def test_files_are_short_or_say_why_they_are_not() -> None:
    assert_none(
        [
            f"{name(path)}: {len(text)} lines"
            for path in files(".py", ".pyi", ".rs", ".sh")
            if len(text := lines(path)) > FILE_LINES_MAX
            and LONG_FILE_REASON not in "\n".join(text[:40])
        ]
    )


def test_functions_are_short() -> None:
    assert_none(
        [
            f"{name(path)}:{node.lineno}: {node.name} has {length} lines"
            for path in files(".py")
            for node in functions(path)
            if (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
        ]
    )


def test_lines_are_short() -> None:
    faults: list[str] = []
    for path in files():
        code = path.suffix in {".py", ".pyi", ".rs"}
        limit = LINE_COLUMNS_MAX if code else PROSE_COLUMNS_MAX
        for number, line in enumerate(lines(path), start=1):
            table_or_link = path.suffix == ".md" and ("|" in line or "](" in line)
            if len(line) > limit and not table_or_link:
                faults.append(f"{name(path)}:{number}: {len(line)} columns")
    assert_none(faults)


def test_nothing_is_left_for_later() -> None:
    words = re.compile(rf"\b({'|'.join(BANNED_WORDS)})\b")
    assert_none(
        [
            f"{name(path)}:{number}: {line.strip()}"
            for path in files()
            for number, line in enumerate(lines(path), start=1)
            if words.search(line)
        ]
    )


def test_every_unsafe_block_says_why_it_is_sound() -> None:
    faults: list[str] = []
    unsafe = re.compile(r"\bunsafe\s*(\{|impl\b|extern\b)")
    for path in files(".rs"):
        text = lines(path)
        for index, line in enumerate(text):
            if not unsafe.search(line.split("//")[0]):
                continue
            before = text[max(0, index - SAFETY_LOOKBACK_LINES) : index + 1]
            if not any("SAFETY:" in other for other in before):
                faults.append(f"{name(path)}:{index + 1}: {line.strip()}")
    assert_none(faults)


def test_both_ends_of_a_memory_order_share_one_sentence() -> None:
    sentences: dict[str, list[str]] = {}
    for path in files(".rs", ".py"):
        for number, line in enumerate(lines(path), start=1):
            match = re.search(r"(?://|#).*?\bSYNC: ?([\w-]+)", line)
            if match and path != Path(__file__):
                sentences.setdefault(match[1], []).append(f"{name(path)}:{number}")
    assert_none(
        [f"{places[0]}: nothing else says SYNC: {word}" for word, places in sentences.items()
         if len(places) < 2]
    )  # fmt: skip


def test_names_of_tests_are_sentences() -> None:
    assert_none(
        [
            f"{name(path)}:{node.lineno}: {node.name}"
            for path in files(".py")
            if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")
            for node in functions(path)
            if node.name.startswith("test_") and len(node.name.split("_")) < 4
        ]
    )


def test_tests_wait_for_conditions_and_never_sleep() -> None:
    call = re.compile(r"\b(time\.sleep|asyncio\.sleep)\((?!0\))")
    assert_none(
        [
            f"{name(path)}:{number}: {line.strip()}"
            for path in files(".py")
            if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")
            for number, line in enumerate(lines(path), start=1)
            if call.search(line) and path != Path(__file__)
        ]
    )


def test_type_checkers_are_never_told_to_look_away_without_a_reason() -> None:
    ignore = re.compile(r"#\s*(type|pyright):\s*ignore(?!\[[\w, -]+\].*\S{3})")
    assert_none(
        [
            f"{name(path)}:{number}: {line.strip()}"
            for path in files(".py", ".pyi")
            for number, line in enumerate(lines(path), start=1)
            if ignore.search(line) and path != Path(__file__)
        ]
    )


def test_links_lead_somewhere() -> None:
    faults: list[str] = []
    for path in files(".md"):
        # What is between backquotes is code, not a link.
        text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not (path.parent / target).exists():
                faults.append(f"{name(path)}: {target}")
    assert_none(faults)


def test_paths_named_in_documents_exist() -> None:
    faults: list[str] = []
    path_like = re.compile(r"`((?:daemon|ipc|tests|bench|tools|systemd|etc|docs)/[\w./-]+)`")
    for path in files(".md"):
        for target in path_like.findall(path.read_text()):
            if not (ROOT / target).exists() and not target.startswith("bench/out"):
                faults.append(f"{name(path)}: {target}")
    assert_none(faults)


def test_adrs_fit_on_one_page_and_have_the_three_parts() -> None:
    adrs = sorted((ROOT / "daemon" / "adr").glob("*.md"))
    assert adrs
    faults: list[str] = []
    for path in adrs:
        text = path.read_text()
        if len(text.splitlines()) > 60:
            faults.append(f"{name(path)}: longer than a page")
        faults.extend(
            f"{name(path)}: no part '{part}'"
            for part in ("## Context", "## Decision", "## Consequences")
            if part not in text
        )
    assert_none(faults)


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "requirements-dev.lock",
        "bench/certeus_bench/peers/requirements-durable.txt",
        "bench/certeus_bench/peers/requirements-ring.txt",
    ],
)
def test_locks_pin_exact_versions_with_hashes_and_name_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pinned = re.findall(r"^([\w.\[\]-]+)==[\w.+]+ \\\n    --hash=sha256:", text, re.MULTILINE)
    named = re.findall(r"^([\w.\[\]-]+)", text, re.MULTILINE)
    assert pinned == named
    assert "://" not in text
