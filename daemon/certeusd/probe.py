"""`certeusd check --probe`: whether what the configuration names is there, within five seconds.

Everything that may wait (the server, a sync) runs in a thread of its own, so that a host that
answers nobody, or a disk that hangs, costs the time limit and no more. Nothing is made or changed.
"""

import os
import pwd
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from certeusd import config_sources, cpus, systemd
from certeusd.config_sources import Loaded
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths, check_socket_path
from certeusd.supervisor import directories

Result = TypeVar("Result")
Level = Literal["ok", "warning", "fault", "unreachable"]

LIMIT_S = 5.0
SYNCS = 8
BLOCK = bytes(4096)
PASSWORD = "postgres.password_file"


class Found(NamedTuple):
    """One thing that was looked at."""

    check: str
    level: Level
    what: str
    key: str = ""
    """Of the configuration."""
    where: str = ""
    """File and line, or variable, that set the key; `default`."""
    next: str = ""


class Probe:
    """Looks at everything, once; `findings` as far as it has come."""

    def __init__(self, loaded: Loaded, paths: Paths, limit_s: float = LIMIT_S) -> None:
        self.findings: list[Found] = []
        self._loaded = loaded
        self._paths = paths
        self._deadline = time.monotonic() + limit_s

    def run(self) -> None:
        """Look; what waits begins first."""
        answer = self._begin(self._ask_postgres)
        syncs = self._begin(self._time_syncs)
        for looked in (self._names, self._cpus, self._state_dir, self._sockets):
            self.findings.extend(looked())
        self.findings.append(
            self._end(syncs, "disk sync", "", "Look at the disk: dmesg, iostat -x 1.")
        )
        self.findings.extend(
            [
                self._end(
                    answer, "postgres", "postgres.dsn", "Start the server, or correct postgres.dsn."
                )
            ]
        )

    def exit_code(self) -> Exit:
        """78 on a fault of the configuration, 69 if only the server does not answer."""
        levels = {one.level for one in self.findings}
        if "fault" in levels:
            return Exit.CONFIGURATION
        return Exit.UNREACHABLE if "unreachable" in levels else Exit.OK

    def is_waiting(self) -> bool:
        """Whether something was given up that still waits."""
        return any(one.name == "probe" for one in threading.enumerate())

    # --- what waits ---------------------------------------------------------------------------

    def _left_s(self) -> float:
        return max(0.1, self._deadline - time.monotonic())

    def _begin(self, work: Callable[[], Found]) -> tuple[threading.Thread, list[Found]]:
        outcome = list[Found]()
        thread = threading.Thread(target=lambda: outcome.append(work()), name="probe", daemon=True)
        thread.start()
        return thread, outcome

    def _end(
        self, begun: tuple[threading.Thread, list[Found]], check: str, key: str, step: str
    ) -> Found:
        thread, outcome = begun
        thread.join(self._left_s())
        if outcome:
            return outcome[0]
        level: Level = "unreachable" if key else "fault"
        return self._found(check, level, f"no answer within {LIMIT_S:g} s", key, step)

    def _found(self, check: str, level: Level, what: str, key: str = "", step: str = "") -> Found:
        where = origin_of(self._loaded, key) if key else ""
        return Found(check, level, what, key, where, step)

    def _ask_postgres(self) -> Found:
        key = "postgres.dsn"
        try:
            dsn = config_sources.postgres_dsn(self._loaded)
        except ExitError as error:
            step = "Make it readable for this user, or correct the path."
            return self._found("postgres", "fault", str(error), PASSWORD, step)
        if not dsn:
            return self._embedded()
        from certeusd.flush import probe as server

        answer = server.ask(dsn, self._left_s() - 0.05)
        if not answer.next_step:
            return self._found("postgres", "ok", answer.what, key)
        level: Level = "fault" if answer.reached else "unreachable"
        return self._found("postgres", level, answer.what, key, answer.next_step)

    def _embedded(self) -> Found:
        from certeusd.supervisor import postgres_install as installation

        home, key = self._paths.postgres, "postgres.user"
        try:
            installation.wheel_install()
            user = installation.server_user(self._loaded.config.postgres.user, home / "data")
        except (ExitError, PermissionError) as error:
            return self._found("postgres", "fault", str(error), key, "See above, then try again.")
        blocked = installation.blocked_directory(home.parent, user.uid, user.groups)
        if blocked is not None:
            what = f"embedded, as {user.name}, who cannot enter {blocked}"
            return self._found("postgres", "fault", what, key, f"chmod o+x {blocked}")
        return self._found("postgres", "ok", f"embedded, as {user.name}")

    def _time_syncs(self) -> Found:
        folder = _nearest(self._paths.state_dir)
        try:
            descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            return self._found("disk sync", "warning", f"not tried in {folder}: {error.strerror}")
        try:
            os.pwrite(descriptor, BLOCK * SYNCS, 0)
            os.fsync(descriptor)
            begun = time.monotonic()
            for at in range(SYNCS):
                os.pwrite(descriptor, BLOCK, at * len(BLOCK))
                os.fdatasync(descriptor)
            each_ms = (time.monotonic() - begun) * 1000 / SYNCS
        except OSError as error:
            step = "Mend the file system (dmesg), or choose another --state-dir."
            return self._found("disk sync", "fault", f"{folder}: {error.strerror}", "", step)
        finally:
            os.close(descriptor)
        return self._found("disk sync", "ok", f"4 KiB are durable in {each_ms:.2f} ms, in {folder}")

    # --- what does not ------------------------------------------------------------------------

    def _names(self) -> Iterator[Found]:
        config = self._loaded.config
        tried: tuple[tuple[str, Callable[[], object]], ...] = (
            ("ingest.users", lambda: config_sources.effective(config, 1, os.geteuid())),
            ("control.admins", lambda: config_sources.roles(config.control)),
            ("postgres.user", lambda: _user(config.postgres.user)),
        )
        faults = 0
        for key, resolve in tried:
            try:
                resolve()
            except (ExitError, KeyError) as error:
                faults += 1
                what = error.args[0] if isinstance(error, KeyError) else str(error)
                told = next((one for one in self._loaded.origins if one in str(what)), key)
                step = "Make that user or group, or correct the name."
                yield self._found("users", "fault", str(what), told, step)
        if not faults:
            yield self._found("users", "ok", "every user and group that is named is there")

    def _cpus(self) -> Iterator[Found]:
        allowed = os.sched_getaffinity(0)
        wanted = cpus.parse(self._loaded.config.cpu.cpus)
        beyond = wanted - allowed
        if beyond:
            what = f"CPU {cpus.shown(beyond)} is not allowed: {cpus.shown(allowed)} are"
            step = "Correct it, or AllowedCPUs= and CPUAffinity= of the unit."
            yield self._found("cpus", "fault", what, "cpu.cpus", step)
        else:
            yield self._found(
                "cpus", "ok", f"{cpus.shown(wanted or allowed)} of {cpus.shown(allowed)}"
            )

    def _state_dir(self) -> Iterator[Found]:
        yield self._directory("state directory", self._paths.state_dir)
        if directories.is_half_restored(self._paths):
            step = "Run certeus backup restore again."
            yield self._found("state directory", "fault", "a restore was not finished", "", step)
        try:
            pid = _holder(self._paths.lock)
        except OSError as error:
            yield self._found("lock", "fault", f"{self._paths.lock}: {error.strerror}", "",
                              "Become the daemon's user.")  # fmt: skip
            return
        what = "nobody has it" if pid is None else f"pid {pid} has it: a certeusd runs there"
        yield self._found("lock", "ok", what)

    def _sockets(self) -> Iterator[Found]:
        runtime = self._paths.runtime_dir
        yield self._directory("runtime directory", runtime)
        for listener in self._loaded.config.ingest:
            path = runtime / listener.path
            try:
                check_socket_path(path)
            except ExitError as error:
                yield self._found("sockets", "fault", str(error), "ingest.path", "A shorter path.")
                continue
            if path.parent != runtime and not path.parent.is_dir():
                what = f"{path.parent} is no directory"
                yield self._found("sockets", "fault", what, "ingest.path", f"mkdir {path.parent}")

    def _directory(self, check: str, folder: Path) -> Found:
        nearest = _nearest(folder)
        if not os.access(nearest, os.W_OK | os.X_OK):
            what = f"{folder}: {nearest} is not to be written by uid {os.geteuid()}"
            step = "Become the daemon's user, or give --state-dir and --runtime-dir."
            return self._found(check, "fault", what, "", step)
        state = "is there" if nearest == folder else f"will be made in {nearest}"
        return self._found(check, "ok", f"{folder} {state}")


def origin_of(loaded: Loaded, key: str) -> str:
    """Return where a key was set: `file:line`, a variable, or `default`."""
    if key == PASSWORD and key not in loaded.origins:
        file = systemd.credential(config_sources.CREDENTIAL)
        return "default" if file is None else str(file)
    origin = loaded.origins.get(key, "default")
    if not origin.startswith(("/", ".")) and not Path(origin).is_file():
        return origin
    section, _, name = key.partition(".")
    inside = False
    for number, line in enumerate(Path(origin).read_text().splitlines(), start=1):
        if header := re.match(r"\s*\[{1,2}\s*([\w-]+)\s*\]", line):
            inside = header[1] == section
        elif inside and re.match(rf'\s*"?{re.escape(name)}"?\s*=', line):
            return f"{origin}:{number}"
    return origin


def _user(name: str) -> None:
    try:
        if name:
            pwd.getpwnam(name)
    except KeyError:
        raise KeyError(f"cannot use postgres.user: there is no user {name}") from None


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _holder(lock: Path) -> int | None:
    """Who has the state directory: the kernel lists it; to try the lock would stop who starts now.

    A file system may be listed with another device than `stat` names: then the pid that the holder
    wrote must be the listed one.
    """
    try:
        there, written = lock.stat(), lock.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    device = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}"
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, access, pid, file, *_ = line.split()  # One that waits has kind `->`.
        where, _, inode = file.rpartition(":")
        if (kind, access, inode) != ("FLOCK", "WRITE", str(there.st_ino)):
            continue
        if where == device or pid == written:
            return int(written) if written.isdigit() else 0
    return None
