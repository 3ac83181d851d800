"""The group of verbs; nothing but click is imported before a verb is chosen.

Completion in a shell calls this at every key, so `certeus --version` stays below 100 ms of CPU.
"""

import importlib
import sys
from typing import TYPE_CHECKING

import click

from certeusd import __version__
from certeusd.cli import output
from certeusd.cli.parameters import DIRECTORY
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# verb: (module, help shown in the list)
VERBS: dict[str, tuple[str, str]] = {
    "append": ("append", "Append lines or JSON objects, and wait until they are durable."),
    "backup": ("backup", "Back the ledger up; verify and restore a backup."),
    "bundle": ("bundle", "Gather what support needs into one file, without secrets."),
    "completion": ("completion", "Print the script that completes certeus in a shell."),
    "config": ("config", "Show the configuration that holds; compare it with the files."),
    "dead-letters": (
        "dead_letters",
        "Show events that PostgreSQL refused; retry, drop or accept them.",
    ),
    "doctor": ("doctor", "Look at what surrounds certeus, and say what to do."),
    "drain": ("drain", "Accept no more, finish what is held, end the daemon."),
    "dsn": ("dsn", "Print the URL of the database, for psql and asyncpg."),
    "flush": ("flush", "Pause the delivery to PostgreSQL, and resume it."),
    "followers": ("followers", "Show who follows the log; forget one that is gone for good."),
    "gap": ("gap", "Accept a gap at which the flusher stopped."),
    "log": ("log", "Look at the log on disk: verify, export, repair it."),
    "log-level": ("log_level", "Log more, or less, for a while."),
    "pipe": ("pipe", "Make lines of standard input, or of a growing file, durable events."),
    "postgres": ("postgres", "Upgrade the cluster of the embedded PostgreSQL."),
    "producers": ("producers", "Show the producers that are connected."),
    "reload": ("reload", "Have the daemon read its configuration again."),
    "retry": ("retry", "Try PostgreSQL now, whatever its breaker says."),
    "sla": ("sla", "Show whether the service levels are met."),
    "status": ("status", "Show state, positions and reasons."),
    "tail": ("tail", "Print the last events of the log, and follow it."),
    "tap": ("tap", "Print events as they become durable, through the api."),
    "top": ("top", "Show stages, workers, producers and followers at work."),
    "wait": ("wait", "Wait until ready, durable or flushed."),
    "workers": ("workers", "Show the worker processes; have one begin anew."),
}

# How `--help` and the manual list them.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Everyday": ("append", "pipe", "tail", "tap", "status", "top", "wait", "dsn"),
    "Look": ("workers", "producers", "followers", "sla", "log", "config", "doctor", "bundle"),
    "Operate": ("reload", "log-level", "flush", "drain", "backup", "postgres", "completion"),
    "Repair": ("retry", "dead-letters", "gap"),
}


def sections() -> list[tuple[str, list[str]]]:
    """Return the verbs under their titles; one that no section names comes last."""
    named = {verb for verbs in SECTIONS.values() for verb in verbs}
    more = sorted(VERBS.keys() - named)
    found = [(title, list(verbs)) for title, verbs in SECTIONS.items()]
    return [*found, ("More", more)] if more else found


class LazyGroup(click.Group):
    """Imports a verb's module when it is called or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every verb."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"certeusd.cli.{VERBS[cmd_name][0]}")
        found: object = module.command
        assert isinstance(found, click.Command), f"{cmd_name} is a verb"
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb as click does; one that is not there names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=VERBS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List verbs without importing them."""
        width = max(map(len, VERBS))
        for title, verbs in sections():
            with formatter.section(title):
                formatter.write_dl([(verb.ljust(width), VERBS[verb][1]) for verb in verbs])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem[str]"]:
        """Complete a verb without importing any."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(verb, help=text)
            for verb, (_, text) in sorted(VERBS.items())
            if verb.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="certeus VERB --help tells more of each.",
)
@click.option("--runtime-dir", metavar="DIR", type=DIRECTORY,
              help="Where the daemon's sockets are.  [default: /run/certeus]")  # fmt: skip
@click.option("--state-dir", metavar="DIR", type=DIRECTORY,
              help="Where its log is, for verbs that need no daemon.  [default: /var/lib/certeus]",
              )  # fmt: skip
@click.version_option(__version__, prog_name="certeus")
@click.pass_context
def command(context: click.Context, runtime_dir: str | None, state_dir: str | None) -> None:
    """Append events to the ledger of this host, and look at it.

    Without the two options it finds the daemon of the system, else the one of this user.
    """
    context.obj = (state_dir, runtime_dir)


def main() -> None:
    """Entry point of `certeus`."""
    output.begin()
    try:
        # Without its standalone mode click returns the code that a verb gave to `context.exit`.
        code: object = command.main(prog_name="certeus", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else Exit.OK)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ExitError as error:
        if isinstance(error, output.OutputError):
            output.give_up()
        click.echo(f"certeus: {error}", err=True)
        sys.exit(error.code)
    except (click.Abort, KeyboardInterrupt):
        output.give_up()  # Who reads slowly would be waited for.
        sys.exit(130)
    except BrokenPipeError:  # Who read our output has enough.
        output.give_up()
        sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
