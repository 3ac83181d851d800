"""What an extra of pyproject.toml needs, as lines of requirements.lock with their hashes.

The lock file is one for everything that certeus runs, builds and measures with; a package brings a
part of it. Who needs what stands in the lock file itself: pip-compile's ``# via``.

    locked.py daemon embedded      two extras
    locked.py build-system         what makes the wheel
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[2]
BUILD_SYSTEM = "build-system"
BUILDERS = ("pip", "wheel")
"""What tools/lock.py adds to the build system's own requirements."""


def normal(name: str) -> str:
    """Name of a package as the lock file spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """Name in a requirement or in a locked line: what stands before the version."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    assert found is not None, requirement
    return normal(found.group())


def entries(lock: str) -> dict[str, str]:
    """Locked packages: each with its lines, hashes and ``# via`` among them."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {name_of(part): part for part in parts if not part.startswith("#") and part.strip()}


def needed_by(entry: str) -> set[str]:
    """Names of the packages for which one is locked."""
    comments = re.findall(r"^ +#(?: via)?(.*)$", entry, flags=re.MULTILINE)
    return {normal(text.strip()) for text in comments if text.strip() not in ("", "-r -")}


def closure(lock: str, names: Iterable[str]) -> str:
    """Lines of these packages and of all that they need.

    Raises:
        KeyError: one of them is not in the lock file.
    """
    locked = entries(lock)
    wanted = set(names)
    if missing := wanted - locked.keys():
        raise KeyError(f"not in requirements.lock: {', '.join(sorted(missing))}; run make lock")
    while more := {one for one in locked if needed_by(locked[one]) & wanted} - wanted:
        wanted |= more
    return "".join(locked[one] for one in sorted(wanted))


def requirements(project: dict[str, dict[str, object]], extra: str) -> list[str]:
    """Names that an extra, or the build system, asks for."""
    if extra == BUILD_SYSTEM:
        asked = project["build-system"]["requires"]
        return [*BUILDERS, *strings(asked)]
    extras = cast("dict[str, object]", project["project"]["optional-dependencies"])
    return strings(extras[extra])


def strings(value: object) -> list[str]:
    """Names out of a TOML array of requirements."""
    assert isinstance(value, list)
    return [name_of(str(one)) for one in cast("list[object]", value)]


def main() -> None:
    """Print what the extras on the command line need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [name for extra in sys.argv[1:] for name in requirements(project, extra)]
    sys.stdout.write(closure((ROOT / "requirements.lock").read_text(), names))


if __name__ == "__main__":
    main()
