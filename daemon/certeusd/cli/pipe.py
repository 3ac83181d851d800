"""`certeus pipe`: a durable tail of standard input, or of files that grow and are rotated.

Standard input: what was read is in the ring or in one block, so memory is bounded; while the ring
is full nothing is read, and whoever writes waits. Files: `pipe_follow`.
"""

import os
import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from certeusd.cli.appending import (
    Appender,
    Cut,
    Cutter,
    default_source,
    ingest_socket,
    not_connected,
    print_summary,
)
from certeusd.cli.common import json_option, paths_of
from certeusd.cli.parameters import ANY_FILE, examples
from certeusd.cli.pipe_session import Manner, Session, connect
from certeusd.cli.pipe_stop import Ended, Stop
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from certeusd.cli.pipe_positions import PositionFile

READ_BYTES = 64 * 1024
LOOK_S = 0.2
GRACE_S = 60.0
"""For settling after a signal: what a library's `close` takes at most."""
FOLLOW_GRACE_S = 5.0
"""What has no verdict by then is offered again by the next start, and nothing is doubled."""
TYPE_BYTES_MAX = 255
SUBJECT_BYTES_MAX = 1024
_IMPROPER = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ufdd0-\\ufdef]")


class _Input:
    """Lines of standard input, numbered from 1."""

    def __init__(self, session: Session, manner: Manner) -> None:
        self._session = session
        self.read_lines = 0
        self.appender: Appender[int] = Appender(
            session.producer,
            manner.type,
            manner,
            session.complaints,
            name=lambda line: f"line {line}",
            waited=session.look,
        )

    def run(self) -> None:
        """Read to the end, or to a signal; then everything is settled.

        Raises:
            Ended: settling took too long.
            ExitError: standard input cannot be read; all before is settled.
        """
        cutter, stop = Cutter(), self._session.stop
        failure: OSError | None = None
        while not stop.asked:
            self.appender.take_verdicts()
            self._session.look()
            if not stop.wait(LOOK_S, 0):
                continue
            try:
                block = os.read(0, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                failure = error
                break
            if not block:
                break
            self._append(cutter.feed(block))
        self._append(cutter.finish())
        self.appender.settle()
        if failure is not None:
            raise ExitError(Exit.FAILED, f"cannot read standard input: {failure.strerror}")

    def _append(self, cut: Cut) -> None:
        first = self.read_lines + 1
        self.read_lines += len(cut.lines)
        self.appender.append(cut.lines, range(first, self.read_lines + 1))

    def doubt(self) -> str:
        """Say which lines have no verdict."""
        lines = self.appender.in_doubt()
        offered = max(lines, default=0)
        parts: list[str] = []
        if lines:
            parts.append(f"lines {lines[0]} to {offered} have no verdict")
        if not lines or offered < self.read_lines:
            more = self.read_lines - offered if lines else "the last"
            parts.append(f"{more} lines that were read were not appended")
        return " and ".join(parts)


def _tail(session: Session, manner: Manner) -> tuple[dict[str, object], int]:
    started = time.monotonic()
    read = _Input(session, manner)
    try:
        read.run()
    except Ended:
        raise ExitError(
            Exit.FAILED,
            f"cannot settle everything: {read.doubt()}; `certeus status` says why",
        ) from None
    return read.appender.summary(started), read.appender.rejected


def _run(
    context: click.Context,
    manner: Manner,
    follow: tuple[str, ...],
    kept: "list[PositionFile]",
    once: bool,
    wait: bool,
) -> None:
    import certeus

    with Stop(FOLLOW_GRACE_S if follow else GRACE_S) as stop:
        producer = connect(ingest_socket(context), manner.source, stop, wait)
        if producer is None:
            return
        session = Session(producer, stop)
        try:
            if follow:
                from certeusd.cli.pipe_follow import follow as follow_files

                control = paths_of(context).control_socket
                summary, failed = follow_files(session, follow, kept, manner, control, once=once)
            else:
                summary, failed = _tail(session, manner)
        except certeus.ConnectError as error:
            raise not_connected(error) from error
        except certeus.Error as error:
            code = Exit.TRY_AGAIN if follow else Exit.FAILED
            raise ExitError(code, str(error)) from error
        finally:
            session.end()
            # Everything is settled, or what is in doubt was told.
            with suppress(certeus.Error):
                producer.close(0.0)
    print_summary(context, summary)
    if failed:
        context.exit(Exit.FAILED)


def _check_attribute(option: str, value: str, bytes_max: int) -> None:
    """Refuse what the daemon would refuse with every line."""
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise click.UsageError(f"{option} is no UTF-8") from None
    if not 1 <= length <= bytes_max:
        raise click.UsageError(f"{option} has {length} bytes; give 1 to {bytes_max}")
    if any(_IMPROPER.fullmatch(one) or ord(one) & 0xFFFE == 0xFFFE for one in value):
        raise click.UsageError(f"{option} has a control character or noncharacter; leave it out")


@click.command(
    epilog=examples(
        "journalctl -f -o cat | certeus pipe --source journal",
        "certeus pipe --follow /var/log/nginx/access.log --type access",
        "certeus pipe --follow app.ndjson --json-lines --once",
    )
)
@click.option("--follow", "-f", metavar="FILE", type=ANY_FILE, multiple=True,
              help="Follow a file over rotation and restarts; may be given again.")  # fmt: skip
@click.option("--json-lines", is_flag=True,
              help="Lines are JSON objects, their bytes are kept, instead of text.")  # fmt: skip
@click.option("--type", "type", default="line", show_default=True, help="CloudEvents type.")
@click.option("--source", default=None, help="CloudEvents source.  [default: cli/<user>]")
@click.option("--subject", default=None, help="CloudEvents subject of every line.")
@click.option("--once", is_flag=True, help="With --follow: end at the end of the files.")
@click.option("--state", metavar="FILE", type=ANY_FILE,
              help="With --follow: where the position is kept.  [default: by the file's path, in"
              " $STATE_DIRECTORY or $XDG_STATE_HOME/certeus/pipe, for root in"
              " /var/lib/certeus-pipe]")  # fmt: skip
@click.option("--wait", is_flag=True,
              help="Wait for a daemon that is not there at the start, instead of ending with 69"
              " after 5 seconds.")  # fmt: skip
@json_option
@click.pass_context
def command(
    context: click.Context,
    follow: tuple[str, ...],
    json_lines: bool,
    type: str,
    source: str | None,
    subject: str | None,
    once: bool,
    state: str | None,
    wait: bool,
) -> None:
    """Make each line of standard input, or of a FILE that grows, a durable event.

    Standard input is read to its end, and no faster than lines become events: while the daemon is
    away the writer waits. Exit 0 means that everything read is durable; a refused line is told, the
    rest goes on, and the exit code is 1.

    With --follow the position is kept: after a restart, also after kill -9, each line is there
    once, in order. Rotated files are read to their end first.

    SIGTERM and Ctrl-C end the reading, and what was read is settled; a second one does not wait for
    that. A daemon that is away at the start is an error, so that a wrong --runtime-dir is told at
    once; later it never is.
    """
    if not follow and (once or state):
        raise click.UsageError("--once and --state need --follow FILE")
    if state and len(follow) > 1:
        raise click.UsageError("--state is for one --follow: run one certeus pipe for each file")
    if len({os.path.abspath(one) for one in follow}) < len(follow):
        raise click.UsageError("--follow names a file twice: leave one out")
    for one in follow:
        try:
            os.path.realpath(one).encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"{one!r} is no UTF-8: give it another name") from None
    _check_attribute("--type", type, TYPE_BYTES_MAX)
    if subject is not None:
        _check_attribute("--subject", subject, SUBJECT_BYTES_MAX)
    manner = Manner(type, source or default_source(), subject, json_lines)
    kept: list[PositionFile] = []
    if not follow and sys.stdin is None:
        raise ExitError(
            Exit.FAILED, "cannot read standard input: it is closed; give lines, or --follow FILE"
        )
    if follow:
        from certeusd.cli.pipe_follow import position_files

        kept = position_files(follow, state)
    _run(context, manner, follow, kept, once, wait)
