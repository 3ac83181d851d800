"""Where things are: `--state-dir`, `--runtime-dir`, their defaults, and what lies in them.

The service has `/var/lib/certeus` and `/run/certeus`. Run by hand as an ordinary user, both are
under `$XDG_*`, unless `/run/certeus` is there to be used.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from certeusd.exits import Exit, ExitError

SYSTEM_RUNTIME_DIR = Path("/run/certeus")
SYSTEM_STATE_DIR = Path("/var/lib/certeus")
SOCKET_PATH_BYTES_MAX = 107


class Paths(NamedTuple):
    """The two directories, absolute, and the names inside."""

    state_dir: Path
    runtime_dir: Path

    @property
    def lock(self) -> Path:
        """`flock`ed by the supervisor; holds its pid."""
        return self.state_dir / "lock"

    @property
    def log(self) -> Path:
        """Segments, sidecars, and the log writer's own lock."""
        return self.state_dir / "log"

    @property
    def log_key(self) -> Path:
        """32 random bytes: salts of the leaves, keyed hashes of the dedup window."""
        return self.state_dir / "keys" / "log.key"

    @property
    def followers(self) -> Path:
        """Positions of the followers."""
        return self.state_dir / "followers"

    @property
    def quarantine(self) -> Path:
        """Copies of damaged bytes."""
        return self.state_dir / "quarantine"

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL: data, socket."""
        return self.state_dir / "postgres"

    @property
    def control_socket(self) -> Path:
        """HTTP of the supervisor."""
        return self.runtime_dir / "control.sock"

    @property
    def ingest_socket(self) -> Path:
        """Where producers say hello, unless `[[ingest]]` says otherwise."""
        return self.runtime_dir / "ingest.sock"


def check_socket_path(path: Path) -> Path:
    """Exit 78 if AF_UNIX cannot carry the path."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot use the socket {path}: {length} bytes, AF_UNIX carries"
            f" {SOCKET_PATH_BYTES_MAX}; choose a shorter --state-dir or --runtime-dir",
        )
    return path


def daemon_paths(
    state_dir: str | None, runtime_dir: str | None, environ: Mapping[str, str] = os.environ
) -> Paths:
    """Both directories for the daemon: what is given, else the defaults of this user."""
    state = Path(state_dir) if state_dir else _default_state_dir(environ)
    runtime = Path(runtime_dir) if runtime_dir else _default_runtime_dir(environ)
    return Paths(state.absolute(), runtime.absolute())


def client_paths(
    state_dir: str | None, runtime_dir: str | None, environ: Mapping[str, str] = os.environ
) -> Paths:
    """Both directories for the CLI: the daemon's that is there, the system's first."""
    if runtime_dir is None and (SYSTEM_RUNTIME_DIR / "control.sock").exists():
        runtime = SYSTEM_RUNTIME_DIR
    else:
        # One that cannot be there is no error here: nobody answers, and that is told.
        runtime = Path(runtime_dir) if runtime_dir else _default_runtime_dir(environ, check=False)
    if state_dir is None and runtime == SYSTEM_RUNTIME_DIR:
        state = SYSTEM_STATE_DIR
    else:
        state = Path(state_dir) if state_dir else _default_state_dir(environ)
    return Paths(state.absolute(), runtime.absolute())


def _system_is_usable() -> bool:
    return os.geteuid() == 0 or os.access(SYSTEM_RUNTIME_DIR, os.W_OK | os.X_OK)


def _default_state_dir(environ: Mapping[str, str]) -> Path:
    if _system_is_usable():
        return SYSTEM_STATE_DIR
    home = environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "certeus"


def _default_runtime_dir(environ: Mapping[str, str], *, check: bool = True) -> Path:
    if _system_is_usable():
        return SYSTEM_RUNTIME_DIR
    own = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if check and not os.access(own, os.W_OK | os.X_OK):
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot use {own} for sockets: not there or not writable; set XDG_RUNTIME_DIR or"
            " give --runtime-dir",
        )
    return Path(own) / "certeus"
