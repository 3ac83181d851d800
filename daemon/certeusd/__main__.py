"""`certeusd`: runs the service in the foreground; `certeusd check` and `certeusd schema` beside it.

The signal handler is the first thing, so that a stop during the start is a clean one; what is slow
to import comes only where it is needed.
"""

import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from certeusd import __version__
from certeusd.cli.parameters import ANY_FILE, DIRECTORY
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from certeusd.config_sources import Loaded

IDENTITY_MAP = ["0", "0", "4294967295"]


def _stop_early(number: int, frame: FrameType | None) -> None:
    """Nothing runs yet that would have to be drained."""
    sys.exit(Exit.OK)


def check_identity(text: str) -> None:
    """Exit 78 in a user namespace that renames users: peers' uids would mean nothing there."""
    if [line.split() for line in text.splitlines()] != [IDENTITY_MAP]:
        raise ExitError(
            Exit.CONFIGURATION,
            "cannot tell users apart: /proc/self/uid_map is not the identity; run outside of user"
            " namespaces (systemd: PrivateUsers=no)",
        )


def raise_descriptor_limit() -> None:
    """Take what the hard limit allows: each session holds five descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_file", metavar="FILE", type=ANY_FILE,
              help="Configuration.  [default: /etc/certeus/certeus.toml]")  # fmt: skip
@click.option("--state-dir", metavar="DIR", type=DIRECTORY,
              help="Log, keys, positions, embedded PostgreSQL.  [default: /var/lib/certeus]",
              )  # fmt: skip
@click.option("--runtime-dir", metavar="DIR", type=DIRECTORY,
              help="Sockets.  [default: /run/certeus]")  # fmt: skip
@click.version_option(__version__, prog_name="certeusd")
@click.pass_context
def command(
    context: click.Context,
    config_file: str | None,
    state_dir: str | None,
    runtime_dir: str | None,
) -> None:
    """Run the certeus service in the foreground; it logs to stderr and ends with SIGTERM.

    An ordinary user's own has its directories under $XDG_STATE_HOME and $XDG_RUNTIME_DIR.
    """
    context.obj = config_file
    if context.invoked_subcommand is None:
        _serve(config_file, state_dir, runtime_dir)


def _serve(config_file: str | None, state_dir: str | None, runtime_dir: str | None) -> None:
    import uvloop

    from certeusd import config_sources, logs, systemd
    from certeusd.paths import check_socket_path, daemon_paths
    from certeusd.supervisor.supervisor import Settings, Supervisor
    from certeusd.uncaught import log_uncaught

    check_identity(Path("/proc/self/uid_map").read_text())
    raise_descriptor_limit()
    loaded = config_sources.load(config_file)
    logger = logs.configure("supervisor", level=loaded.config.logging.level)
    log_uncaught(logger)
    paths = daemon_paths(
        state_dir or systemd.state_directory(), runtime_dir or systemd.runtime_directory()
    )
    check_socket_path(paths.control_socket)
    for listener in loaded.config.ingest:
        check_socket_path(paths.runtime_dir / listener.path)
    logger.info(
        "supervisor_started", version=__version__, pid=os.getpid(),
        configuration=list(loaded.sources), state_dir=str(paths.state_dir),
        runtime_dir=str(paths.runtime_dir),
    )  # fmt: skip

    async def serve() -> None:
        supervisor = Supervisor(Settings(loaded, paths, config_file), logger)
        try:
            supervisor.start()
            await supervisor.run()
        finally:
            supervisor.close()

    uvloop.run(serve())
    logger.info("supervisor_ended")


@command.command()
@click.option("--probe", "with_probe", is_flag=True, help="Look whether what it names is there.")
@click.option("--json", "as_json", is_flag=True, help="One document on stdout.")
@click.pass_context
def check(context: click.Context, with_probe: bool, as_json: bool) -> None:
    """Validate the configuration; connects to nothing.

    With --probe it also looks, within 5 s, at what the configuration names: PostgreSQL, users,
    CPUs, directories, files. Exit 78 on a fault, 69 if only PostgreSQL cannot be reached.
    """
    from certeusd import config_sources
    from certeusd.cli.common import print_json

    config_file: str | None = context.obj
    loaded = config_sources.load(config_file)
    if with_probe:
        _probe(context, loaded, as_json=as_json)
    config_sources.effective(loaded.config, 1, os.geteuid())
    config_sources.roles(loaded.config.control)
    if as_json:
        print_json({"ok": True, "sources": loaded.sources, "warnings": loaded.warnings})
        return
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    sources = ", ".join(loaded.sources) or "defaults alone"
    click.echo(f"the configuration is good ({sources})")


def _probe(context: click.Context, loaded: "Loaded", *, as_json: bool) -> NoReturn:
    """Print what is found, and end: without waiting for what did not answer in time."""
    from certeusd import probe, systemd
    from certeusd.cli.common import print_json
    from certeusd.paths import daemon_paths

    given = context.find_root().params
    paths = daemon_paths(
        given["state_dir"] or systemd.state_directory(),
        given["runtime_dir"] or systemd.runtime_directory(),
    )
    looked = probe.Probe(loaded, paths)
    looked.run()
    code = looked.exit_code()
    if as_json:
        print_json({"ok": code == Exit.OK, "sources": loaded.sources, "warnings": loaded.warnings,
                    "findings": [one._asdict() for one in looked.findings]})  # fmt: skip
    else:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        for one in looked.findings:
            key = f" ({one.key}, {one.where})" if one.key else ""
            click.echo(f"{one.level:11} {one.check:17} {one.what}{key}")
            if one.next and one.level != "ok":
                click.echo(f"{'':29} -> {one.next}")
    sys.stdout.flush()
    if looked.is_waiting():
        os._exit(code)
    sys.exit(code)


@command.command()
def schema() -> None:
    """Print the DDL for who makes the schema by hand."""
    from certeusd.flush import schema as tables

    click.echo(tables.ddl())


def _tell(error: ExitError) -> None:
    """Say why it ends; in the journal as the error that it is."""
    from certeusd import logs, systemd

    if systemd.stderr_is_journal():
        logs.configure("supervisor").error("certeusd_failed", cause=str(error), code=error.code)
    else:
        click.echo(f"certeusd: {error}", err=True)


def main() -> None:
    """Entry point of `certeusd`."""
    signal.signal(signal.SIGTERM, _stop_early)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command.main(prog_name="certeusd")
    except ExitError as error:
        _tell(error)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
