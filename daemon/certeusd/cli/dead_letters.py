"""`certeus dead-letters`: events that PostgreSQL refused, looked at, tried again, given up.

The daemon answers a page at a time; so do these verbs, whatever the table holds, and Ctrl-C between
two pages leaves each event where it is.
"""

import json
import sys
from collections.abc import Iterator

import click

from certeusd.cli.common import (
    SEQ_MAX,
    client_of,
    console,
    json_option,
    print_json,
    seq_range,
    wants_json,
)
from certeusd.cli.output import write_json
from certeusd.control.client import ControlClient
from certeusd.exits import Exit
from certeusd.human import human_bytes, human_count

WAIT_S = 10.0
"""So much longer than usual the daemon may take: it asks PostgreSQL."""
COLUMNS = ("seq", "recorded at", "type", "source", "id", "refused for", "size")
REASON_SHOWN = 100


@click.group()
def command() -> None:
    """Show events that PostgreSQL refused; deliver them again, drop or accept them.

    A dead letter is an event, whole, in certeus.dead_letters instead of certeus.events.
    """


@command.command(short_help="List dead letters, and why each was refused.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True,
              metavar="N", help="At most so many.")  # fmt: skip
@click.option("--after-seq", type=click.IntRange(min=0, max=SEQ_MAX), default=0, metavar="S",
              help="Only those behind this seq.")  # fmt: skip
@click.option("--reason", default="", metavar="R",
              help="Only of this SQLSTATE, or with this text in the reason.")  # fmt: skip
@json_option
@click.pass_context
def ls(context: click.Context, limit: int, after_seq: int, reason: str) -> None:
    """List dead letters by seq, and why each was refused; with --json whole, the event included."""
    client = client_of(context)
    if wants_json(context):
        _print_whole(client, limit, after_seq, reason)
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in {"seq", "size"} else "left")
    more: int | None = None
    for page, following in _pages(client, limit, after_seq, reason, whole=False):
        for one in page:
            table.add_row(*_cells(one))
        more = following
    if not table.row_count:
        click.echo("no dead letters")
        return
    console().print(table)
    if more is not None:
        click.echo(f"there are more: --after-seq {more - 1}", err=True)


def _pages(
    client: ControlClient, limit: int, after_seq: int, reason: str, *, whole: bool
) -> Iterator[tuple[list[bytes], int | None]]:
    """Ask page after page; yields the letters of each as JSON, and the seq behind them, if any."""
    import msgspec

    from certeusd.letters import PAGE_LETTERS_MAX

    class Page(msgspec.Struct):
        dead_letters: list[msgspec.Raw]
        next_seq: int | None

    # An event may be as deep as `limits.depth_max` (1000), in the JSON of a page.
    sys.setrecursionlimit(max(4000, sys.getrecursionlimit()))
    query = {"reason": reason} if reason else {}
    while limit:
        body = client.get_text(
            "/v1/dead-letters", WAIT_S, after_seq=str(after_seq), whole=str(whole).lower(),
            limit=str(min(limit, PAGE_LETTERS_MAX)), **query,
        )  # fmt: skip
        page = msgspec.json.decode(body, type=Page)
        yield [bytes(one) for one in page.dead_letters], page.next_seq
        if page.next_seq is None:
            return
        limit -= len(page.dead_letters)
        after_seq = page.next_seq - 1


def _print_whole(client: ControlClient, limit: int, after_seq: int, reason: str) -> None:
    """Print one document, as its pages come, each letter as the daemon told it."""
    before, next_seq = b'{"schema_version": 1, "dead_letters": [', b"null"
    for page, following in _pages(client, limit, after_seq, reason, whole=True):
        next_seq = json.dumps(following).encode()
        if page:
            write_json(before + b", ".join(page))
            before = b", "
    start = b"" if before == b", " else before
    write_json(b'%b], "next_seq": %b}\n' % (start, next_seq))


def _cells(letter: bytes) -> tuple[str, ...]:
    import msgspec
    from rich.markup import escape

    from certeusd.letters import Letter

    one = msgspec.json.decode(letter, type=Letter)
    reason = one.reason if len(one.reason) <= REASON_SHOWN else f"{one.reason[:REASON_SHOWN]}..."
    words = (one.recorded_at, one.type, one.source, one.id, f"{one.sqlstate} {reason}")
    return (str(one.seq), *(escape(word or "-") for word in words), human_bytes(one.bytes))


@command.command(short_help="Deliver dead letters again.")
@click.argument("shown", metavar="[FIRST..LAST]", required=False)
@click.option("--all", "every", is_flag=True, help="Every dead letter of this log.")
@json_option
@click.pass_context
def retry(context: click.Context, shown: str | None, every: bool) -> None:
    """Deliver dead letters again, once what refused them is corrected.

    Each becomes the row of certeus.events that it would have been, or stays, with its new reason;
    then the exit code is 1.
    """
    if (shown is None) is not every:
        raise click.UsageError("give FIRST..LAST, or --all")
    first, last = (1, SEQ_MAX) if shown is None else seq_range(shown)
    delivered = refused = 0
    for page in _ordered(client_of(context), "retry", first, last):
        delivered += page["delivered"]
        refused += page["refused"]
        _progress(f"{human_count(delivered)} delivered, {human_count(refused)} refused again")
    if wants_json(context):
        print_json({"delivered": delivered, "refused": refused})
    else:
        click.echo(f"{human_count(delivered)} delivered, {human_count(refused)} refused again")
        if refused:
            click.echo("certeus: see why by certeus dead-letters ls", err=True)
    if refused:
        context.exit(Exit.FAILED)


@command.command(short_help="Give dead letters up: they will never be rows.")
@click.argument("shown", metavar="FIRST..LAST")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
@click.pass_context
def drop(context: click.Context, shown: str, yes: bool) -> None:
    """Remove the dead letters of a range for good; certeus.gaps then names exactly them.

    Without --yes and without a terminal nothing is done, and the exit code is 75.
    """
    first, last = seq_range(shown)
    if not yes and (wants_json(context) or not sys.stdin.isatty()):
        click.echo("certeus: nothing was done: give --yes", err=True)
        context.exit(Exit.TRY_AGAIN)
    if not yes:
        click.confirm(
            f"Drop every dead letter of {first}..{last}? Their events will never be rows",
            abort=True,
        )
    dropped = 0
    for page in _ordered(client_of(context), "drop", first, last):
        dropped += page["dropped"]
        _progress(f"{human_count(dropped)} dropped")
    if wants_json(context):
        print_json({"dropped": dropped})
    else:
        click.echo(f"{human_count(dropped)} dropped; certeus.gaps names them")


def _ordered(client: ControlClient, verb: str, first: int, last: int) -> Iterator[dict[str, int]]:
    """Order page after page of a range; yields the counts of each."""
    following: object = first
    while isinstance(following, int):
        answer = client.post(
            f"/v1/dead-letters-{verb}", WAIT_S, first_seq=str(following), last_seq=str(last)
        )
        yield {name: count for name, count in answer.items() if isinstance(count, int)}
        following = answer["next_seq"]
    if sys.stderr.isatty():
        click.echo(err=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{text}", nl=False, err=True)


@command.command(short_help="Let refused rows become dead letters, however many.")
@click.option("--until", "until_seq", metavar="SEQ", type=click.IntRange(min=0),
              help="The last seq that is meant; default: all that is durable now.")  # fmt: skip
@json_option
@click.pass_context
def accept(context: click.Context, until_seq: int | None) -> None:
    """Let refused rows become dead letters, however many, up to a seq; later ones are guarded."""
    query = {} if until_seq is None else {"until_seq": str(until_seq)}
    answer = client_of(context).post("/v1/dead-letters-accept", 0.0, **query)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(str(answer["done"]))
