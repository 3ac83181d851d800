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

import click

from certeusd import __version__
from certeusd.cli.parameters import ANY_FILE, DIRECTORY
from certeusd.exits import Exit, ExitError

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

    check_identity(Path("/proc/self/uid_map").read_text())
    raise_descriptor_limit()
    loaded = config_sources.load(config_file)
    logger = logs.configure("supervisor", level=loaded.config.logging.level)
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
@click.pass_context
def check(context: click.Context) -> None:
    """Validate the configuration; connects to nothing."""
    from certeusd import config_sources

    config_file: str | None = context.obj
    loaded = config_sources.load(config_file)
    config_sources.effective(loaded.config, 1, os.geteuid())
    config_sources.roles(loaded.config.control)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    sources = ", ".join(loaded.sources) or "defaults alone"
    click.echo(f"the configuration is good ({sources})")


@command.command()
def schema() -> None:
    """Print the DDL for who makes the schema by hand."""
    from certeusd.flush import schema as tables

    click.echo(tables.ddl())


def main() -> None:
    """Entry point of `certeusd`."""
    signal.signal(signal.SIGTERM, _stop_early)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command.main(prog_name="certeusd")
    except ExitError as error:
        click.echo(f"certeusd: {error}", err=True)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
