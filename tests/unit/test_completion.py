"""Completion in real shells: what a Tab offers, and that it loads no verb that it need not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from certeusd import logs
from certeusd.cli import log_level
from certeusd.cli.completion import SHELLS
from certeusd.cli.main import VERBS, command
from support.shells import Typist, shell

PROGRAMS = {"certeus": "certeusd.cli.main", "certeusd": "certeusd"}
PROMPT = "PROMPT>"
TABS = "\t\t\t"
"""The first completes what all have in common, one more lists them: in bash the third."""
STARTS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], "PS1='PROMPT''>'; source ./script\n"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "setopt no_beep; autoload -U compinit; compinit -u -D; PS1='PROMPT''>'; source ./script\n",
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with both programs in bin/, and two files."""
    (tmp_path / "bin").mkdir()
    for name, module in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {module} "$@"\n')
        program.chmod(0o755)
    (tmp_path / "orders.ndjson").write_text("{}\n")
    (tmp_path / "state-of-things").mkdir()
    return tmp_path


def environ(place: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}


def script(place: Path, name: str) -> Path:
    """The script as the verb prints it."""
    made = CliRunner().invoke(command, ["completion", name])
    assert made.exit_code == 0
    (place / "script").write_text(made.output)
    return place / "script"


@contextmanager
def typing(name: str, place: Path) -> Generator[Typist]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    script(place, name)
    program, begin = STARTS[name]
    with shell(program, place, environ(place)) as typist:
        typist.type(begin)
        typist.sees(PROMPT)
        yield typist


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("certeus lo", ["log", "log-level"]),
        ("certeus log ", ["check", "export", "fork", "inspect", "ls", "repair"]),
        ("certeus log-level ", ["debug", "info", "warning", "error"]),
        ("certeus append --", ["--text", "--type", "--id-field", "--json"]),
        ("certeus stat", ["certeus status"]),
        ("certeus append ord", ["certeus append orders.ndjson"]),
        ("certeus --state-dir stat", ["certeus --state-dir state-of-things/"]),
    ],
)
def test_tab_offers_what_fits_there_and_no_more(
    name: str, line: str, offered: list[str], place: Path
) -> None:
    with typing(name, place) as typist:
        typist.type(line + TABS)
        shown = typist.sees(*offered)
        assert "state-of-things" not in shown.replace(offered[0], "")


def test_fish_offers_the_same(place: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    for line, offered in (
        ("certeus lo", {"log", "log-level"}),
        ("certeus log-level ", {"debug", "info", "warning", "error"}),
        ("certeus append ord", {"orders.ndjson"}),
    ):
        asked = [
            "fish",
            "--no-config",
            "-c",
            f'source {script(place, "fish")}; complete -C "{line}"',
        ]
        answer = subprocess.run(
            asked, capture_output=True, text=True, check=True, cwd=place,
            env={**environ(place), "HOME": str(place)},
        )  # fmt: skip
        assert {one.split("\t")[0] for one in answer.stdout.splitlines()} == offered, line


def test_levels_and_modules_are_those_of_the_logs() -> None:
    assert tuple(logs.LEVELS) == log_level.LEVELS
    assert log_level.MODULES == logs.MODULES


def imported(words: str) -> tuple[str, str]:
    """What is offered behind some words in bash, and the modules that took."""
    looking = "import sys; from certeusd.cli.main import main\n"
    looking += "try: main()\nexcept SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"
    asked = {"_CERTEUS_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(words.count(" "))}  # fmt: skip
    answer = subprocess.run(
        [sys.executable, "-P", "-c", looking], env={**os.environ, **asked},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return answer.stdout, answer.stderr


def test_completing_a_verb_imports_none() -> None:
    offered, modules = imported("certeus ")
    assert "plain,append" in offered
    for heavy in ("certeusd.cli.append", "certeusd.control", "http.client", "msgspec", "json"):
        assert f"'{heavy}'" not in modules, heavy


@pytest.mark.parametrize("verb", VERBS)
def test_completing_behind_a_verb_imports_little(verb: str) -> None:
    _, modules = imported(f"certeus {verb} -")
    for heavy in ("rich", "aiohttp", "numpy", "asyncio", "structlog", "psutil", "certeus"):
        assert f"'{heavy}'" not in modules, heavy


@pytest.mark.parametrize("name", SHELLS)
def test_script_is_what_json_carries(name: str) -> None:
    runner = CliRunner()
    plain = runner.invoke(command, ["completion", name])
    answer = runner.invoke(command, ["completion", name, "--json"])
    assert '"schema_version": 1' in answer.output
    assert "_CERTEUS_COMPLETE" in plain.output
