"""The commands of click as plain data: what `--help` says of each, for pages of any form."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

KEPT = "\b\n"
"""So click marks a paragraph whose lines stay as they are."""
EXAMPLES = "Examples:"


@dataclass(frozen=True)
class Paragraph:
    """Some lines of prose; `kept` ones are a table or a drawing and are never filled."""

    text: str
    kept: bool = False


@dataclass(frozen=True)
class Command:
    """One command, and those below it."""

    path: tuple[str, ...]
    """`("certeus", "log", "ls")`."""
    summary: str
    usage: str
    paragraphs: tuple[Paragraph, ...]
    parameters: tuple[tuple[str, str], ...]
    """Arguments, then options: how each is written, and what it does."""
    examples: tuple[str, ...]
    below: tuple["Command", ...]

    @property
    def name(self) -> str:
        """Return it as it is typed."""
        return " ".join(self.path)

    def walk(self) -> Iterator["Command"]:
        """Yield it and all below it, in order."""
        yield self
        for one in self.below:
            yield from one.walk()


def read(
    command: click.Command,
    name: str,
    summaries: Mapping[str, str],
    parent: click.Context | None = None,
    path: tuple[str, ...] = (),
) -> Command:
    """Read a command and all below it; `summaries` has what its list says of some of these."""
    context = click.Context(command, info_name=name, parent=parent)
    path = (*path, name)
    paragraphs = _paragraphs(command.help or "")
    return Command(
        path=path,
        summary=summaries.get(" ".join(path), _first_sentence(command)).rstrip("."),
        usage=" ".join([*path, *command.collect_usage_pieces(context)]),
        paragraphs=paragraphs,
        parameters=tuple(_parameters(command, context)),
        examples=_examples(command.epilog or ""),
        below=tuple(_below(command, summaries, context, path)),
    )


def _below(
    command: click.Command,
    summaries: Mapping[str, str],
    context: click.Context,
    path: tuple[str, ...],
) -> list[Command]:
    if not isinstance(command, click.Group):
        return []
    found = list[Command]()
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        if one is not None and not one.hidden:
            found.append(read(one, name, summaries, context, path))
    return found


def _first_sentence(command: click.Command) -> str:
    text = command.short_help or command.help or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0]


def _paragraphs(text: str) -> tuple[Paragraph, ...]:
    found = list[Paragraph]()
    for one in inspect.cleandoc(text).split("\n\n"):
        kept = one.startswith(KEPT)
        found.append(Paragraph(one.removeprefix(KEPT) if kept else " ".join(one.split()), kept))
    return tuple(one for one in found if one.text)


def _parameters(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        # What has no text of its own is told in the paragraphs.
        if record is not None and record[1] and "--help" not in parameter.opts:
            yield record


def _examples(epilog: str) -> tuple[str, ...]:
    lines = inspect.cleandoc(epilog).removeprefix(KEPT).splitlines()
    if lines[:1] != [EXAMPLES]:
        return ()
    return tuple(line.strip() for line in lines[1:])
