"""Markdown of the commands and of the configuration, as it stands in docs/."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from reference_commands import Command, Paragraph
from reference_config import Section
from reference_texts import exits

COLUMNS = 118
MADE = "<!-- Made by `python tools/reference.py --docs`: change what it is made from. -->"
JSON = {"--json", "-o [text|json]"}
"""Options of every verb, told once."""


def of_commands(
    group: Command, sections: Iterable[tuple[str, Sequence[Command]]], daemon: Command
) -> str:
    """Make docs/cli.md."""
    sections = list(sections)
    lines = ["# Commands", "", MADE, ""]
    lines += filled(
        "Every verb of `certeus` prints JSON with `--json` or `-o json`: one document with"
        " `schema_version`, to which keys are added and from which none is taken. Tables are for"
        " humans, they change. The same is in `certeus VERB --help` and `man certeus-VERB`."
        " What a state or a reason means: [operating.md](operating.md). The API behind it:"
        " [http.md](http.md). Keys of the configuration: [configuration.md](configuration.md)."
    )
    lines += ["| | verb | what it does |", "|---|---|---|"]
    for title, verbs in sections:
        for at, verb in enumerate(verbs):
            link = f"[`{verb.path[1]}`](#{'-'.join(verb.path)})"
            lines.append(f"| {'' if at else title} | {link} | {cell(verb.summary)} |")
    lines += ["", *_parameters(group), *_exits()]
    for _, verbs in sections:
        for verb in verbs:
            for one in verb.walk():
                lines += _command(one)
    lines += ["## certeusd", "", *_body(daemon)]
    for one in daemon.below:
        lines += _command(one)
    return "\n".join(lines).rstrip() + "\n"


def of_configuration(opening: Iterable[str], sections: Iterable[Section]) -> str:
    """Make docs/configuration.md."""
    lines = ["# Configuration", "", MADE, ""]
    lines += filled("The same is in `man certeus.toml`, and commented, to begin with, in"
                    " [etc/certeus.toml](../etc/certeus.toml). What each part is for:"
                    " [operating.md](operating.md). `certeus config show` tells what a daemon runs"
                    " with and where it came from, `certeus config diff` what a reload would find:"
                    " [cli.md](cli.md).")  # fmt: skip
    for paragraph in opening:
        lines += filled(paragraph)
    for section in sections:
        lines += [f"## {section.header}", "", *filled(section.text)]
        lines += ["| key | type | default | what it is | a reload |", "|---|---|---|---|---|"]
        for key in section.keys:
            kind = ", ".join(one for one in (key.kind, key.bounds) if one)
            row = (f"`{key.name}`", cell(kind), f"`{key.default}`", cell(key.text), key.holds)
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Command) -> Iterator[str]:
    depth = "#" * len(command.path)
    yield from (f"{depth} {command.name}", "")
    yield from _body(command)


def _body(command: Command) -> Iterator[str]:
    yield from ("```", command.usage, "```", "")
    yield from _prose(command.paragraphs)
    yield from _parameters(command)
    if command.examples:
        yield from ("```", *command.examples, "```", "")


def _prose(paragraphs: Iterable[Paragraph]) -> Iterator[str]:
    for one in paragraphs:
        yield from ("```", one.text, "```", "") if one.kept else filled(one.text)


def _parameters(command: Command) -> Iterator[str]:
    told = [(how, what) for how, what in command.parameters if how not in JSON]
    if told:
        yield from ("| option | what it does |", "|---|---|")
        for how, what in told:
            yield f"| `{how.replace('|', chr(92) + '|')}` | {cell(what)} |"
        yield ""


def _exits() -> Iterator[str]:
    yield from ("| exit code | what it says |", "|---|---|")
    for code, text in exits().items():
        yield f"| {code} | {cell(text)} |"
    yield ""


def filled(text: str) -> list[str]:
    """Break prose into lines, and end the paragraph."""
    lines = textwrap.wrap(plain(text), COLUMNS, break_long_words=False, break_on_hyphens=False)
    return [*lines, ""] if lines else []


def cell(text: str) -> str:
    """Write words for a table."""
    return plain(text).replace("|", "\\|")


def plain(text: str) -> str:
    """Write words so that no renderer takes them for markup; backquotes stay code."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        parts[at] = parts[at].replace("<", "\\<").replace("*", "\\*")
    return "`".join(parts)
