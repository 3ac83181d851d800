"""Manual pages, completion and docs/: made from one source, complete, and as they should be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reference
import reference_config
from certeusd.api.routes import ROUTES as LEDGER
from certeusd.control import health
from certeusd.control.routes import ROUTES
from certeusd.exits import Exit
from reference_man import Page, of_configuration

PAGES = {page.file: page for page in reference.pages()}
LINTERS = {
    "mandoc": ["mandoc", "-T", "lint", "-W", "warning"],
    "groff": ["groff", "-man", "-ww", "-K", "utf8", "-T", "utf8", "-z"],
}
HOW = "run `python tools/reference.py --docs` and commit what it writes"


@pytest.mark.parametrize("name", sorted(reference.documents()))
def test_document_is_what_its_source_says_by_now(name: str) -> None:
    made, there = reference.documents()[name], reference.DOCS / name
    assert there.exists(), HOW
    assert there.read_text() == made, HOW


@pytest.mark.parametrize("linter", LINTERS)
def test_manual_pages_are_good_roff(linter: str, tmp_path: Path) -> None:
    if shutil.which(linter) is None:
        pytest.skip(f"{linter} is not installed")
    for page in PAGES.values():
        file = tmp_path / page.file
        file.write_text(page.text)
        done = subprocess.run(
            [*LINTERS[linter], str(file)], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0), page.file


def readable(page: Page) -> str:
    """What a page says, without what makes its form."""
    return re.sub(r"\\f.|\\&", "", page.text).replace(r"\-", "-").replace(r"\e", "\\")


def test_every_command_option_and_example_is_in_a_manual_page() -> None:
    certeus, certeusd = reference.commands()
    for verb in certeus.below:
        text = readable(PAGES[f"certeus-{verb.path[1]}.1"])
        for one in verb.walk():
            assert f".B {one.name}\n" in text
            assert f".B {' '.join(one.path[1:])}\n" in readable(PAGES["certeus.1"])
            for how, _ in one.parameters:
                assert f".B {how}\n" in text
            for example in one.examples:
                assert f"\n{example}\n" in text
    for one in certeusd.below:
        assert f".SS {one.path[1]}\n" in readable(PAGES["certeusd.8"])


def test_every_key_has_words_and_is_in_the_manual_page() -> None:
    text = readable(PAGES["certeus.toml.5"])
    keys = list(reference_config.keys(reference_config.read()))
    assert len(keys) > 40
    for key in keys:
        assert key.text, f"{key.section}.{key.name} has no comment in etc/certeus.toml"
        assert f".B {key.name}\n" in text


def test_every_exit_code_and_route_is_told() -> None:
    told = readable(PAGES["certeus.1"])
    for code in Exit:
        assert f"\n.B {code}\n" in told
    document = reference.documents()["http.md"]
    for route in ROUTES:
        assert f"`{route.method} {route.path}` | {route.access.word} |" in document
    for row in LEDGER:
        assert f"`{row.method} {row.path}` | {row.need} |" in document


def test_bounds_units_and_what_a_reload_does_come_from_the_code() -> None:
    keys = {f"{key.section}.{key.name}": key for key in
            reference_config.keys(reference_config.read())}  # fmt: skip
    size = keys["log.segment_bytes"]
    assert (size.kind, size.bounds, size.default) == ("bytes", "4MiB..4GiB", '"64MiB"')
    assert keys["ingest.mode"].bounds == "0o0..0o777"
    assert keys["postgres.batch_ms"].kind == "milliseconds"
    assert keys["postgres.data"].bounds == '"json", "jsonb"'
    assert keys["worker.count"].holds == "waits for the next start"
    assert keys["logging.level"].holds == "holds at once"
    assert keys["log.disk_reserve_bytes"].holds == "the log writer and the flusher begin anew"


def test_what_means_something_to_roff_is_only_text(tmp_path: Path) -> None:
    file = tmp_path / "certeus.toml"
    text = reference_config.FILE.read_text()
    file.write_text(text.replace("# Bytes of an event's data.", "# .so /etc/passwd \\fB `x`-y."))
    sections = reference_config.read(file)
    page = of_configuration((), sections, "2026-01-01")
    assert "\n\\&.so /etc/passwd \\efB \\fBx\\fR\\-y.\n" in page.text


def test_package_gets_pages_and_scripts_and_the_same_ones_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    program = [sys.executable, str(reference.DOCS.parent / "tools" / "reference.py"), "--out"]
    for out in (tmp_path / "one", tmp_path / "two"):
        subprocess.run([*program, str(out)], check=True)
    files = {path.relative_to(tmp_path / "one"): path.read_bytes()
             for path in (tmp_path / "one").rglob("*") if path.is_file()}  # fmt: skip
    named = {str(path) for path in files}
    assert {"man/certeus.1", "man/certeusd.8", "man/certeus.toml.5", "man/certeus-append.1",
            "completion/certeus.bash", "completion/_certeus", "completion/certeus.fish",
            "completion/certeusd.bash"} <= named  # fmt: skip
    assert b'"2023-11-14"' in files[Path("man/certeus.1")]
    for path, content in files.items():
        assert (tmp_path / "two" / path).read_bytes() == content


def test_operating_tells_each_check_column_and_rejection_as_the_code_has_it() -> None:
    root = reference.DOCS.parent
    told = (reference.DOCS / "operating.md").read_text()
    for name, check in health.CHECKS.items():
        assert f"| `/v1/health/check/{name}` | {check.holds} |" in told
    schema = (root / "daemon/certeusd/flush/schema.sql").read_text()
    events = schema.partition("certeus.events (\n")[2].partition("\n)")[0]
    rows = re.findall(r"^ +(\w+) +(\w+)", events, re.MULTILINE)
    table = told.partition("`certeus.events`:\n")[2].partition("\n\nThe view")[0]
    assert re.findall(r"^\| `(\w+)` \| `(\w+)` \|", table, re.MULTILINE) == rows
    words = re.findall(r' = \d+, "([\w-]+)";', (root / "ipc/src/verdict.rs").read_text())
    table = told.partition("\n## Rejected events\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == words != []
