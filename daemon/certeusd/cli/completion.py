"""`certeus completion`: the script that completes in a shell.

The script is click's own: at a Tab it asks the program itself, so it is never older than what it
completes; that takes as long as `certeus --version`.
"""

import click
from click.shell_completion import get_completion_class

from certeusd.cli.common import json_option, print_json, wants_json
from certeusd.cli.parameters import examples

SHELLS = ("bash", "zsh", "fish")


def script(program: click.Command, name: str, shell: str) -> str:
    """Return the script that completes the program `name` in a shell."""
    found = get_completion_class(shell)
    assert found is not None, f"click knows {shell}"
    return found(program, {}, name, f"_{name.upper()}_COMPLETE").source().lstrip() + "\n"


@click.command(
    epilog=examples(
        'eval "$(certeus completion bash)"    # in ~/.bashrc',
        'eval "$(certeus completion zsh)"     # in ~/.zshrc, behind compinit',
        "certeus completion fish > ~/.config/fish/completions/certeus.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS), help="The shell that you use.")
@json_option
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that completes certeus in a shell.

    The Debian package brings it along; after an installation by pip see the examples.
    """
    text = script(context.find_root().command, "certeus", shell)
    if wants_json(context):
        print_json({"shell": shell, "script": text})
    else:
        click.echo(text, nl=False)
