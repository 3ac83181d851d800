"""`certeus-bench`: measure, and look at what was measured.

Exit codes are those of `certeus`: 0, 1 for a failed scenario, gate, comparison or verification, 2
for usage.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from certeus_bench import evidence, keys, report, runner, tables
from certeus_bench.compare import Side, compare
from certeus_bench.evidence import Evidence, EvidenceError
from certeus_bench.homes import place_for_homes
from certeus_bench.keys import KeyFileError
from certeus_bench.load.cli import load, stress
from certeus_bench.results import Run
from certeus_bench.runner import Plan
from certeus_bench.scenarios import OWN, PEERS
from certeusd.exits import Exit, ExitError

CHECKOUT = Path(__file__).resolve().parents[2]
OUT = Path("bench/out")
# mode: seconds of warm-up, seconds of measuring
MODES = {"quick": (3.0, 10.0), "full": (30.0, 120.0)}
WIDTH_OF_FILES = 240

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PLACE = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Measure certeus, its floors and its peers, and look at what was measured."""


command.add_command(load)
command.add_command(stress)


@command.command("run")
@click.option(
    "--quick",
    "mode",
    flag_value="quick",
    default="quick",
    help="3 s of warm-up and 10 s of measuring for each scenario; the default.",
)
@click.option(
    "--full",
    "mode",
    flag_value="full",
    help="30 s of warm-up and 120 s of measuring, and pg_test_fsync.",
)
@click.option("--warmup", type=click.FloatRange(min=0), metavar="S", help="Seconds of warm-up.")
@click.option("--seconds", type=click.FloatRange(min=0.1), metavar="S", help="Seconds measured.")
@click.option("--peers", is_flag=True, help="Measure what bench/install has installed, too.")
@click.option("--only", multiple=True, metavar="GLOB", help="Names to measure; repeatable.")
@click.option(
    "--dir",
    "directory",
    type=PLACE,
    default=OUT,
    show_default=True,
    help="Measure the disk that holds this directory.",
)
@click.option("--out", type=PLACE, default=OUT, show_default=True, help="Where evidence goes.")
@click.option("--key", type=FILE, help="Sign the evidence with the key in this file.")
@click.option("--strict", is_flag=True, help="Exit 1 if a gate is not passed.")
@click.option("--list", "listing", is_flag=True, help="List what would be measured, and end.")
def run(
    mode: str, warmup: float | None, seconds: float | None, peers: bool, only: tuple[str, ...],
    directory: Path, out: Path, key: Path | None, strict: bool, listing: bool,
) -> None:  # fmt: skip
    """Measure; write the evidence and its report."""
    chosen = runner.chosen([*OWN, *(PEERS if peers else ())], only)
    if not chosen:
        raise click.UsageError(f"no scenario is named like {' or '.join(only)}; see run --list")
    if listing:
        _console().print(tables.scenarios(chosen))
        return
    signing = keys.load(key) if key else None
    place, moved = place_for_homes(directory)
    told = Console(stderr=True, highlight=False)
    if moved:
        told.print(f"  {moved}")
    plan = Plan(
        mode=mode,
        warmup_seconds=MODES[mode][0] if warmup is None else warmup,
        seconds=MODES[mode][1] if seconds is None else seconds,
        place=place,
        cpus=tuple(sorted(os.sched_getaffinity(0))),
    )
    said = shlex.join(["certeus-bench", *sys.argv[1:]])
    with tables.Progressing(told, len(chosen), plan.warmup_seconds + plan.seconds) as progress:
        done, all_measured = runner.run(chosen, plan, said, progress, CHECKOUT)
    shown = _console()
    shown.print(tables.results(done))
    if done.gates:
        shown.print(tables.gates(done))
    for path in _write(out, Evidence(done, None), evidence.encode(done, signing)):
        shown.print(f"wrote {path}", soft_wrap=True)
    if not all_measured or (strict and not _all_passed(done)):
        sys.exit(Exit.FAILED)


def _write(out: Path, what: Evidence, data: bytes) -> tuple[Path, Path]:
    out.mkdir(parents=True, exist_ok=True)
    stamp = "".join(letter for letter in what.run.started_at if letter.isalnum())
    file = out / f"run-{stamp}.json"
    file.write_bytes(data)
    return file, _write_report(evidence.decode(data), file.with_suffix(".html"))


def _write_report(what: Evidence, page: Path) -> Path:
    page.write_text(report.html(what))
    return page


@command.command("verify")
@click.argument("file", type=FILE)
@click.option("--public-key", metavar="HEX|FILE", help="The key that must have signed it.")
@click.option("--allow-unsigned", is_flag=True, help="Exit 0 though nobody signed it.")
def verify(file: Path, public_key: str | None, allow_unsigned: bool) -> None:
    """Check a run's form, signature and figures."""
    wanted = keys.load_public(public_key) if public_key else None
    found = _load(file, wanted)
    if found.signature is None:
        click.echo(f"{file}: unsigned; its figures follow from its measurements")
        if not allow_unsigned:
            sys.exit(Exit.FAILED)
        return
    whose = "the given key" if wanted else "a key that nobody vouched for: give --public-key"
    click.echo(f"{file}: valid, signed by {found.signature.public_key} ({whose})")


@command.command("gates")
@click.argument("file", type=FILE)
def gates(file: Path) -> None:
    """Show the bars and which were reached; exit 1 if one was not."""
    found = _load(file).run
    _console().print(tables.gates(found) if found.gates else "no bar is about what was measured")
    if not _all_passed(found):
        sys.exit(Exit.FAILED)


@command.command("report")
@click.argument("file", type=FILE)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; beside the file unless told.",
)
def report_command(file: Path, out: Path | None) -> None:
    """Write a run as one HTML page."""
    click.echo(f"wrote {_write_report(_load(file), out or file.with_suffix('.html'))}")


@command.command("compare")
@click.argument("files", nargs=-1, type=str, metavar="[A[,A...] B[,B...]]")
@click.option("--base", multiple=True, type=FILE, help="A run before; repeatable.")
@click.option("--new", multiple=True, type=FILE, help="A run after; repeatable.")
def compare_command(files: tuple[str, ...], base: tuple[Path, ...], new: tuple[Path, ...]) -> None:
    """Tell a regression from noise; exit 1 if something sound of certeus got slower."""
    if len(files) == 2 and not base and not new:
        base, new = (tuple(Path(name) for name in side.split(",")) for side in files)
    elif files or not base or not new:
        raise click.UsageError("give two files (or comma lists), or --base F... --new F...")
    before, after = (Side([_load(path).run for path in side]) for side in (base, new))
    found = compare(before, after)
    shown = _console()
    shown.print(tables.comparison(found))
    for note in found.notes:
        shown.print(f"[dim]{note}[/]", soft_wrap=True)
    if found.slower:
        sys.exit(Exit.FAILED)


@command.command("key")
@click.argument("file", type=click.Path(path_type=Path))
def key_command(file: Path) -> None:
    """Make a key to sign with, for its owner alone to read."""
    made = keys.make(file)
    click.echo(f"wrote {file} (secret) and {keys.public_path(file)}")
    click.echo(f"public key {made.verify_key.encode().hex()}")


def _load(file: Path, public_key: str | None = None) -> Evidence:
    """A run that may be believed; exit 1 with everything that is wrong with it."""
    try:
        return evidence.verify(file.read_bytes(), public_key)
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror}", error)
    except EvidenceError as error:
        _fail(
            f"{file}: invalid\n" + "\n".join(f"  {line}" for line in str(error).splitlines()), error
        )


def _fail(message: str, cause: Exception) -> NoReturn:
    raise ExitError(Exit.FAILED, message) from cause


def _all_passed(done: Run) -> bool:
    return all(gate.passed for gate in done.gates)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def main() -> None:
    """Entry point of `certeus-bench`."""
    try:
        command.main(prog_name="certeus-bench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyFileError as error:
        click.echo(f"certeus-bench: {error}", err=True)
        sys.exit(Exit.FAILED)
    except ExitError as error:
        click.echo(f"certeus-bench: {error}", err=True)
        sys.exit(error.code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
