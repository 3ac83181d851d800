"""Manual pages, completion and the reference in docs/, all from what certeusd itself has.

The commands are read from click, the configuration from its Structs and etc/certeus.toml, the
control API from its table of routes, exit codes from their enum. Run it with a Python that has
certeusd:

    python tools/reference.py --out DIR     DIR/man, DIR/completion: for a package
    python tools/reference.py --docs        docs/cli.md, docs/configuration.md, docs/http.md
"""

import argparse
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

import reference_commands
import reference_config
import reference_docs
import reference_http
import reference_man
from certeusd import __main__ as daemon
from certeusd.cli import completion
from certeusd.cli import main as cli
from reference_commands import Command

DOCS = Path(__file__).resolve().parents[1] / "docs"
DATE_VARIABLE = "SOURCE_DATE_EPOCH"
COMPLETION_FILES = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish"}


def commands() -> tuple[Command, Command]:
    """Return `certeus` and `certeusd`."""
    summaries = {f"certeus {verb}": text for verb, (_, text) in cli.VERBS.items()}
    return (
        reference_commands.read(cli.command, "certeus", summaries),
        reference_commands.read(daemon.command, "certeusd", {}),
    )


def by_section(group: Command) -> list[tuple[str, list[Command]]]:
    """Return the verbs under the titles that `certeus --help` gives them."""
    verbs = {verb.path[1]: verb for verb in group.below}
    return [(title, [verbs[name] for name in names]) for title, names in cli.sections()]


def pages() -> Iterator[reference_man.Page]:
    """Make every manual page."""
    seconds = os.environ.get(DATE_VARIABLE)
    now = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    date = now.date().isoformat()
    certeus, certeusd = commands()
    yield reference_man.of_group(certeus, by_section(certeus), date)
    for verb in certeus.below:
        yield reference_man.of_verb(verb, date)
    yield reference_man.of_daemon(certeusd, date)
    opening = reference_config.introduction()
    yield reference_man.of_configuration(opening, reference_config.read(), date)


def completions() -> Iterator[tuple[str, str]]:
    """Yield name and text of every completion script."""
    groups: dict[str, click.Command] = {"certeus": cli.command, "certeusd": daemon.command}
    for program, command in groups.items():
        for shell, name in COMPLETION_FILES.items():
            yield name.format(program), completion.script(command, program, shell)


def documents() -> dict[str, str]:
    """Return the pages of docs/ that are made here, by their names."""
    certeus, certeusd = commands()
    return {
        "cli.md": reference_docs.of_commands(certeus, by_section(certeus), certeusd),
        "configuration.md": reference_docs.of_configuration(
            reference_config.introduction(), reference_config.read()
        ),
        "http.md": reference_http.document(),
    }


def write(out: Path) -> None:
    """Write what a package takes."""
    for folder in ("man", "completion"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for page in pages():
        (out / "man" / page.file).write_text(page.text)
    for name, text in completions():
        (out / "completion" / name).write_text(text)


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="man/ and completion/ go there")
    parser.add_argument("--docs", action="store_true", help="write the pages in docs/ again")
    asked = parser.parse_args()
    if asked.out is not None:
        write(asked.out)
    if asked.docs:
        for name, text in documents().items():
            (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
