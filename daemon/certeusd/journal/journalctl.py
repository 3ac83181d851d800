"""journalctl as a child: its command lines, what it prints, and why it ended.

The door asks for entries *from* a cursor on, never behind one: with `--after-cursor` journalctl
takes whatever entry is nearest for the one that was named, and leaves it out. So a cursor that the
journal has not any more shows, and costs nothing.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from certeusd.config import JournalSection
from certeusd.journal.position import OLDEST, Position

BLOCK_BYTES = 256 * 1024
WORDS_BYTES_MAX = 2048
END_TIMEOUT_S = 10.0
CURSOR = b"__CURSOR="
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CGROUP = Path("/proc/self/cgroup")


class UnreadableError(Exception):
    """The journal cannot be read; its text says why."""


class Journalctl:
    """The journal that the configuration names."""

    def __init__(self, section: JournalSection, program: str = "journalctl") -> None:
        self._section = section
        place = ("--directory", section.directory) if section.directory else ()
        self._command = (program, "--output=export", "--quiet", "--no-pager", *place)

    async def begin(self) -> Position:
        """Return where `journal.since` says that the first entry is.

        Raises:
            UnreadableError: it cannot be told now.
        """
        since = self._section.since
        if since == "boot" and (first := await self.first(f"_BOOT_ID={boot_id()}")):
            return Position(first, taken=False)
        if since == "oldest" or not (last := await self.first("--lines=1")):
            return OLDEST
        return Position(last, taken=True)

    async def at(self, cursor: str) -> str:
        """Return the cursor of the entry from which on one would read; empty: there is none.

        Raises:
            UnreadableError: nothing can be read now.
        """
        return await self.first(*([f"--cursor={cursor}"] if cursor else ["--lines=1"]))

    async def behind_gap(self, cursor: str, found: str) -> str:
        """Return the cursor of the entry to go on with where that of a cursor is gone.

        Of a boot that it was not in journalctl takes what has a later time, and until the clock is
        set it may be behind: then nothing of this boot was taken, so it is read from its beginning.

        Args:
            cursor: of the entry that is gone.
            found: what `at` gives for it.

        Raises:
            UnreadableError: nothing can be read now.
        """
        boot = boot_id()
        of_boot = f";b={boot};"
        if of_boot not in cursor and (not found or of_boot in found):
            found = await self.first(f"_BOOT_ID={boot}") or found
        return found or cursor

    async def first(self, *arguments: str) -> str:
        """Return the cursor of the first entry of these; empty: there is none.

        Raises:
            UnreadableError: journalctl failed.
        """
        async with _started([*self._command, *arguments]) as child:
            line = await child.line()
            if not line:
                await child.check()
                return ""
        if not (line.startswith(CURSOR) and line.endswith(b"\n")):
            raise UnreadableError("journalctl printed no entry")
        return line.removeprefix(CURSOR).decode(errors="replace").rstrip("\n")

    async def blocks(self, position: Position) -> AsyncGenerator[bytes]:
        """Yield the journal from that entry on, as it comes, and for ever.

        What is not asked for waits in the pipe, and journalctl with it.

        Raises:
            UnreadableError: journalctl has ended.
        """
        start = [f"--cursor={position.cursor}"] if position.cursor else []
        command = [*self._command, "--follow", "--no-tail", *start, *self._section.matches]
        async with _started(command) as child:
            while block := await child.block():
                yield block
            await child.check()
            raise UnreadableError("journalctl ended")


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._out = process.stdout
        self._words = asyncio.get_running_loop().create_task(_last_words(process.stderr))

    async def line(self) -> bytes:
        try:
            return await self._out.readline()
        except ValueError as error:
            raise UnreadableError("journalctl printed no entry") from error

    async def block(self) -> bytes:
        return await self._out.read(BLOCK_BYTES)

    async def check(self) -> None:
        """Wait for its end; an error where that is none in order."""
        code = await self._process.wait()
        words = await self._words
        if code != 0:
            raise UnreadableError(words or f"journalctl ended with code {code}")

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._words.cancel()
        # What is left in the pipe would keep its transport open.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                while await self._out.read(BLOCK_BYTES):
                    pass
                await self._process.wait()


@contextlib.asynccontextmanager
async def _started(command: Sequence[str]) -> AsyncGenerator[_Child]:
    """Start it as a child that dies with this process; killed at the end."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "certeusd.journal.child_exec", str(os.getpid()), "--",
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=BLOCK_BYTES,
        )  # fmt: skip
    except OSError as error:
        raise UnreadableError(f"no process can be started: {error.strerror}") from error
    child = _Child(process)
    try:
        yield child
    finally:
        await child.end()


async def _last_words(stream: asyncio.StreamReader) -> str:
    """Return the last line that it prints; nothing else of it is kept."""
    kept = b""
    while block := await stream.read(WORDS_BYTES_MAX):
        kept = (kept + block)[-WORDS_BYTES_MAX:]
    lines = kept.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def boot_id() -> str:
    """Return the name of this boot as the journal writes it."""
    return BOOT_ID.read_text().strip().replace("-", "")


def own_cgroup(path: Path = CGROUP) -> str | None:
    """Return the control group of the service that this is; None: it is none.

    By it the journal's entries of the daemon itself are told: the kernel's word, which no program
    can claim. Somebody's shell has a group too, which is not the daemon's alone.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if (number == "0" or controllers == "name=systemd") and group.endswith(".service"):
            return group
    return None
