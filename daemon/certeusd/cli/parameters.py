"""What options and help texts share; it needs click alone, so that the first import stays small."""

import click

# For completion: whether a place is there, and may be read, is said by who uses it.
ANY_FILE = click.Path(readable=False)
DIRECTORY = click.Path(file_okay=False, readable=False)


def examples(*lines: str) -> str:
    """Return an epilog of command lines, which stay as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def is_text(value: str) -> bool:
    """Whether an argument is UTF-8: other bytes are in it as lone surrogates."""
    return not any("\ud800" <= one <= "\udfff" for one in value)
