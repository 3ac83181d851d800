"""Whether the server's installation is still being unpacked, file by file, by somebody else.

Half of its files can be enough for `initdb`, and make a damaged cluster, or a damaged copy of them
that has the name of a whole one.
"""

import os
from collections.abc import Iterator
from pathlib import Path

QUIET_S = 2.0
"""So long nothing has changed in an installation that is used."""


def is_unpacking(install: Path, package: str, now: float) -> bool:
    """Whether files of an installation in the wheel `package` may still come; `now` since 1970.

    pip writes RECORD last; dpkg gives the first file its own name when all are written; whoever
    else comes changes a file or a directory again and again, and cannot choose its ctime.
    """
    site = install.parents[1]
    if any(not (info / "RECORD").exists() for info in site.glob(f"{package}-*.dist-info")):
        return True
    newest = 0.0
    try:
        for path, at in _inodes((install, site / f"{package}.libs")):
            if path.endswith(".dpkg-new"):
                return True
            newest = max(newest, at.st_ctime)
    except FileNotFoundError:
        return True  # It has got its name just now.
    # A clock that was put back since leaves times of the future: they are no news either.
    return abs(now - newest) < QUIET_S


def _inodes(folders: tuple[Path, ...]) -> Iterator[tuple[str, os.stat_result]]:
    for folder in folders:
        for directory, _, names in os.walk(folder):
            yield directory, os.lstat(directory)
            for name in names:
                path = os.path.join(directory, name)
                yield path, os.lstat(path)
