"""Manual pages (roff, the `man` macros) of the commands and of the configuration.

A library for click's commands exists (click-man); it knows no arguments, examples, exit codes,
files or other pages, and the configuration needs a page too, so these few macros are written here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from certeusd import __version__
from reference_commands import Command, Paragraph
from reference_config import Section
from reference_texts import exits

ENVIRONMENT = (
    ("CERTEUS_SOCKET", "The ingest socket for `append`, unless --runtime-dir is given."),
    ("XDG_RUNTIME_DIR, XDG_STATE_HOME",
     "Where sockets and state of an ordinary user's own daemon are, below certeus/."),
    ("NO_COLOR", "If set, nothing is coloured."),
)  # fmt: skip
DAEMON_ENVIRONMENT = (
    ("CERTEUS_<SECTION>__<KEY>", "A key of the configuration, as CERTEUS_LOG__LINGER_US=500."),
    ("CERTEUS_DB_URL", "The same as CERTEUS_POSTGRES__DSN."),
    *ENVIRONMENT[1:],
)
FILES = (
    ("/etc/certeus/certeus.toml, /etc/certeus/certeus.toml.d/*.toml", "The configuration."),
    ("/run/certeus/", "Sockets: ingest.sock, control.sock."),
    ("/var/lib/certeus/", "State: log, keys, positions, the embedded PostgreSQL."),
)
SIGNALS = (
    ("SIGTERM, SIGINT", "Take no more, settle what is held, sync the log, end with 0."),
    ("SIGHUP", "Read the configuration again, as `certeus reload` does."),
)


@dataclass(frozen=True)
class Page:
    """A manual page."""

    name: str
    section: int
    text: str

    @property
    def file(self) -> str:
        """Return its file's name."""
        return f"{self.name}.{self.section}"


def of_group(group: Command, sections: Iterable[tuple[str, Iterable[Command]]], date: str) -> Page:
    """Make the page of `certeus`: what all verbs share, and the list of them."""
    body = [*_opening(group, 1, date), *_described(group)]
    body += [".SH COMMANDS", "Each verb has a page of its own:"]
    body += [_reference("certeus-append", 1) + " ,", "and so on."]
    for title, verbs in sections:
        body += [f".SS {_text(title)}"]
        for verb in verbs:
            body += _item(" ".join(verb.path[1:]), verb.summary + ".")
            for one in verb.below:
                body += _item(" ".join(one.path[1:]), one.summary + ".")
    body += [*_examples(group.examples), *_exit_status(), *_items("ENVIRONMENT", ENVIRONMENT)]
    body += [*_items("FILES", FILES), *_see_also(("certeusd", 8), ("certeus.toml", 5))]
    return _page("certeus", 1, body)


def of_verb(verb: Command, date: str) -> Page:
    """Make the page of one verb, with its subcommands."""
    name = "-".join(verb.path)
    body = [*_opening(verb, 1, date), *_described(verb)]
    for one in verb.below:
        body += [f".SH {_text(one.name.upper())}", *_usage(one), ".PP", *_prose(one.paragraphs)]
        body += [part for how, what in one.parameters for part in _item(how, what)]
        body += [*_code(one.examples)]
    body += [*_examples(verb.examples), *_see_also(("certeus", 1), ("certeusd", 8))]
    return _page(name, 1, body)


def of_daemon(daemon: Command, date: str) -> Page:
    """Make the page of `certeusd`."""
    body = [*_opening(daemon, 8, date), *_described(daemon)]
    body += [".SH COMMANDS"]
    for one in daemon.below:
        body += [f".SS {_text(' '.join(one.path[1:]))}", *_prose(one.paragraphs)]
        body += [part for how, what in one.parameters for part in _item(how, what)]
    body += [*_items("SIGNALS", SIGNALS), *_exit_status()]
    body += [*_items("ENVIRONMENT", DAEMON_ENVIRONMENT), *_items("FILES", FILES)]
    body += [*_see_also(("certeus", 1), ("certeus.toml", 5), ("systemctl", 1))]
    return _page("certeusd", 8, body)


def of_configuration(opening: Iterable[str], sections: Iterable[Section], date: str) -> Page:
    """Make the page of `certeus.toml`."""
    body = [
        _title("certeus.toml", 5, date),
        ".SH NAME",
        r"certeus.toml \- configuration of certeusd",
    ]
    body += [".SH SYNOPSIS", *_lines(FILES[0][0].split(", "))]
    body += [".SH DESCRIPTION", *_prose(Paragraph(one) for one in opening)]
    for section in sections:
        body += [f".SH {_text(section.header)}", *_prose([Paragraph(section.text)])]
        for key in section.keys:
            facts = ", ".join(one for one in (key.kind, key.bounds) if one)
            body += _item(key.name, key.text)
            body += [".br", _text(f"{facts}; default: {key.default}; a reload: {key.holds}.")]
    body += _see_also(("certeusd", 8), ("certeus", 1), ("certeus-config", 1))
    return _page("certeus.toml", 5, body)


def _lines(lines: Iterable[str]) -> list[str]:
    return "\n.br\n".join(map(_text, lines)).splitlines()


def _page(name: str, section: int, body: Iterable[str]) -> Page:
    return Page(name, section, "\n".join(body) + "\n")


def _title(name: str, section: int, date: str) -> str:
    return f'.TH "{name.upper()}" "{section}" "{date}" "certeus {__version__}" "certeus"'


def _opening(command: Command, section: int, date: str) -> Iterator[str]:
    name = "-".join(command.path)
    yield _title(name, section, date)
    yield ".SH NAME"
    summary = command.summary[0].lower() + command.summary[1:]
    yield rf"{_text(name)} \- {_text(summary)}"
    yield ".SH SYNOPSIS"
    yield from _usage(command)
    for one in command.below if len(command.path) > 1 or section == 8 else ():
        yield ".br"
        yield from _usage(one)


def _usage(command: Command) -> Iterator[str]:
    rest = command.usage.removeprefix(command.name).strip()
    yield f".B {_text(command.name)}"
    if rest:
        yield _text(rest)


def _described(command: Command) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    yield from _prose(command.paragraphs)
    if command.parameters:
        yield ".SH OPTIONS"
        for how, what in command.parameters:
            yield from _item(how, what)


def _prose(paragraphs: Iterable[Paragraph]) -> Iterator[str]:
    for at, paragraph in enumerate(one for one in paragraphs if one.text):
        if at:
            yield ".PP"
        if paragraph.kept:
            yield from _code(paragraph.text.splitlines())
        else:
            yield _text(paragraph.text)


def _items(title: str, items: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f".SH {title}"
    for how, what in items:
        yield from _item(how, what)


def _item(how: str, what: str) -> list[str]:
    return [".TP", f".B {_text(how)}", _text(what) if what else r"\&"]


def _code(lines: Iterable[str]) -> Iterator[str]:
    text = [_text(line) for line in lines]
    if text:
        yield from (".PP", ".RS 4", ".nf", *text, ".fi", ".RE")


def _examples(lines: Iterable[str]) -> Iterator[str]:
    if lines:
        yield ".SH EXAMPLES"
        yield from list(_code(lines))[1:]


def _exit_status() -> Iterator[str]:
    yield from _items("EXIT STATUS", ((str(code), text) for code, text in exits().items()))


def _see_also(*pages: tuple[str, int]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    for at, (name, section) in enumerate(pages):
        yield _reference(name, section) + ("" if at == len(pages) - 1 else " ,")


def _reference(name: str, section: int) -> str:
    return f".BR {_text(name)} ({section})"


def _text(text: str) -> str:
    """Write words so that they mean nothing to roff; what stands in backquotes becomes bold."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    plain = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", plain)
    return "\n".join(r"\&" + line if line[:1] in (".", "'") else line for line in plain.split("\n"))
