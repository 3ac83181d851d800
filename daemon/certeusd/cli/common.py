"""What verbs share: paths, the client and `--json`."""

import json
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from certeusd.cli.output import write_json
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths, client_paths

if TYPE_CHECKING:
    from rich.console import Console

    from certeusd.control.client import ControlClient

SCHEMA_VERSION = 1
WIDTH_OF_FILES = 240

Decorated = TypeVar("Decorated", bound=Callable[..., object])

SEQ_MAX = (1 << 63) - 1
_RANGE = re.compile(r"([0-9]{1,19})(?:\.\.([0-9]{1,19}))?")


def json_option(function: Decorated) -> Decorated:
    """Add `--json` and `-o json`; `wants_json` tells whether one of them was given."""
    flag = click.option("--json", "json_flag", is_flag=True, help="The same as -o json.",
                        expose_value=False, callback=_note)  # fmt: skip
    choice = click.option("-o", "json_choice", type=click.Choice(["text", "json"]), default="text",
                          show_default=True, help="Form of the output.", expose_value=False,
                          callback=_note)  # fmt: skip
    return flag(choice(function))


def _note(context: click.Context, _: click.Parameter, value: bool | str) -> None:
    if value is True or value == "json":
        context.meta["certeus.json"] = True


def wants_json(context: click.Context) -> bool:
    """Whether this verb is to print JSON."""
    return bool(context.meta.get("certeus.json"))


def paths_of(context: click.Context) -> Paths:
    """Return where the daemon is, by the options of the group."""
    state_dir, runtime_dir = cast(tuple[str | None, str | None], context.obj)
    return client_paths(state_dir, runtime_dir)


def client_of(context: click.Context) -> "ControlClient":
    """Return a client for the daemon."""
    from certeusd.control.client import ControlClient  # A Tab in a shell needs none.

    return ControlClient(paths_of(context).control_socket)


def log_directory(context: click.Context) -> Path:
    """Return where the segments are; exit 77 or 1 if they cannot be listed."""
    directory = paths_of(context).log
    try:
        next(directory.iterdir(), None)
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot read {directory}: not allowed; become the daemon's user"
        ) from error
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot read {directory}: {error.strerror}; give --state-dir"
        ) from error
    return directory


def log_key_of(paths: Paths) -> bytes | None:
    """Return the log's key; `None` when it is not there, not ours to read, or no key."""
    try:
        key = paths.log_key.read_bytes()
    except OSError:
        return None
    return key if len(key) == 32 else None


@contextmanager
def reading(directory: Path) -> Generator[None]:
    """Turn what the file system refuses into exit 77 or 1, with the next step."""
    try:
        yield
    except BrokenPipeError:
        # Who reads our output has enough.
        raise
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot read {directory}: not allowed; become the daemon's user"
        ) from error
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot read {directory}: {error.strerror}; give --state-dir"
        ) from error
    except ValueError as error:
        raise ExitError(
            Exit.FAILED, f"cannot read {directory}: {error}; use the newest certeus"
        ) from error


def seq_range(text: str) -> tuple[int, int]:
    """Parse `17` or `17..20`; numbers begin with 1."""
    found = _RANGE.fullmatch(text)
    first = int(found[1]) if found else 0
    last = int(found[2]) if found and found[2] else first
    if not 1 <= first <= last <= SEQ_MAX:
        raise click.UsageError(f"{text} is no number and no range such as 17..20")
    return first, last


def print_json(document: Mapping[str, object]) -> None:
    """Print one document, with its `schema_version` first."""
    whole = {"schema_version": SCHEMA_VERSION, **document}
    write_json(json.dumps(whole, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")


def console() -> "Console":
    """Return a console; what is no terminal gets lines as long as they need be."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    return Console(highlight=False, width=width)
