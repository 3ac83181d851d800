"""The embedded cluster as a restore makes it from what was packed, and whether that is whole.

`backup_manifest` has the SHA-256 of every file as the server sent it, and the range of WAL that a
start needs. It is compared here and not by `pg_verifybackup`, which some builds of the binaries
bring in a form that does not run.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from certeusd.backup.reading import Fault
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import postgres_install

WAL_SEGMENT_BYTES = 16 << 20
"""initdb's default, which certeus leaves as it is."""
LABEL = "postgres/base.tar"

Json = dict[str, object]


def unpack(version: str, packed: Path, home: Path) -> list[Fault]:
    """Make `home` with the cluster in it, and return what is wrong with that.

    Raises:
        ExitError: 1, the cluster is of another major version than the binaries here.
        OSError, tarfile.TarError: what was packed cannot be unpacked.
    """
    ours = postgres_install.server_version(postgres_install.wheel_install()).split(".")[0]
    if version != ours:
        raise ExitError(
            Exit.FAILED,
            f"cannot restore the embedded PostgreSQL {version}: this certeus brings {ours}; install"
            " the certeus that made the backup",
        )
    data = home / "data"
    home.mkdir()
    home.chmod(0o711)
    data.mkdir(mode=0o700)
    for name, to in (("base.tar", data), ("pg_wal.tar", data / "pg_wal")):
        if (packed / name).exists():
            with tarfile.open(packed / name, "r:") as tar:
                tar.extractall(to, filter="data")
    data.chmod(0o700)
    manifest = packed / "backup_manifest"
    return list(_faults(data, json.loads(manifest.read_bytes()))) if manifest.exists() else []


def _faults(data: Path, manifest: Json) -> Iterator[Fault]:
    for entry in cast(list[Json], manifest["Files"]):
        name = str(entry["Path"])
        path = data / name
        if not path.is_file():
            yield Fault(LABEL, "missing-file", f"{name} is named by PostgreSQL and not there")
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry["Checksum"]:
            yield Fault(LABEL, "wrong-checksum", f"{name} is not what PostgreSQL sent")
    for needed in cast(list[Json], manifest["WAL-Ranges"]):
        first, last = (_position(str(needed[key])) for key in ("Start-LSN", "End-LSN"))
        for number in range(first // WAL_SEGMENT_BYTES, (last - 1) // WAL_SEGMENT_BYTES + 1):
            high, low = divmod(number, (1 << 32) // WAL_SEGMENT_BYTES)
            name = f"{cast(int, needed['Timeline']):08X}{high:08X}{low:08X}"
            if not (data / "pg_wal" / name).is_file():
                yield Fault("postgres/pg_wal.tar", "missing-file", f"{name} is needed for a start")


def _position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
