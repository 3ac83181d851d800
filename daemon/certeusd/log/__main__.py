"""The log writer's process: `python -m certeusd.log --channel FD`, started by the supervisor.

The kernel does what is done once a group; this is attaching, detaching and ending.
"""

import argparse
import os
import select
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from certeusd import logs, timeslice
from certeusd._native import (
    LogBlockedError,
    LogFailedError,
    LogMissingError,
    LogNoRoomError,
    LogReadOnlyError,
    LogWriter,
)
from certeusd.board import Board
from certeusd.channel import (
    Attach,
    Channel,
    Detach,
    Drain,
    Level,
    Progress,
    Ready,
    Report,
    Start,
    State,
    adopt,
)
from certeusd.exits import Exit
from certeusd.log import identity, served
from certeusd.log.follower import FollowerPosition, read_position
from certeusd.preparation import Preparation
from certeusd.uncaught import log_uncaught

if TYPE_CHECKING:
    from certeusd._native import LogOptions, Recovery

RUN_MS = 500
"""So often the gauges on the board are fresh, at the least."""
LOCK_RETRY_MS = 20
BLOCKED_RETRY_MS = 1000
"""So often a start that only a human can help looks again."""
OBSTACLE_NEXT = (
    "mend or move away what the message names (the log writer needs plain files that its user may"
    " read and write); it looks again each second, and nothing is lost meanwhile"
)
NO_ROOM_NEXT = (
    "make room on the disk of the state directory (or raise its quota); the log writer looks again"
    " each second, producers wait, and nothing is lost meanwhile"
)
MISSING_NEXT = (
    "mount the log's disk, or put the log back: the log writer looks again each second, producers"
    " wait, and nothing is lost meanwhile; to have what is there instead, remove log.id from the"
    " state directory"
)
FAILED_NEXT = (
    "look at the disk of the state directory (dmesg, smartctl); a new log writer tries again by"
    " itself, and producers still hold what was not acknowledged"
)
READ_ONLY_NEXT = (
    "find out why (dmesg: the kernel does it after an error), then mount -o remount,rw; certeus"
    " goes on by itself, and producers still hold what was not acknowledged"
)
OBSTACLES: dict[type[Exception], tuple[str, str]] = {
    LogBlockedError: ("log-blocked", OBSTACLE_NEXT),
    LogMissingError: ("log-missing", MISSING_NEXT),
    LogNoRoomError: ("disk-full", NO_ROOM_NEXT),
}
"""What may keep a start waiting, until a human has helped: code, and what to do."""


def last_words(error: LogFailedError) -> State:
    """Say why the log writer ends: the supervisor shows it until a later life commits a group."""
    if isinstance(error, LogReadOnlyError):
        return State("log-read-only", what=f"the file system is read-only: {error}",
                     next=READ_ONLY_NEXT)  # fmt: skip
    return State("log-failed", what=str(error), next=FAILED_NEXT)


class SmallFiles(NamedTuple):
    """What stands beside the segments."""

    key: bytes
    follower: FollowerPosition
    named: identity.Identity | None
    """By a fork."""
    served: uuid.UUID | None


def read_small_files(state_dir: Path) -> SmallFiles:
    """Read the log's key, what the follower has confirmed, and which log it is.

    Raises:
        LogFailedError: the disk refuses one of them; to start without would be a guess.
    """
    try:
        return SmallFiles(
            (state_dir / "keys" / "log.key").read_bytes(),
            read_position(state_dir / "followers"),
            identity.read(state_dir / "log"),
            served.read(state_dir),
        )
    except OSError as error:
        raise LogFailedError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise LogFailedError(str(error)) from error


def is_over(channel: Channel, wait_ms: int) -> bool:
    """Wait so long; whether the supervisor wants no log writer meanwhile, or is gone."""
    if not select.select([channel.fileno()], [], [], wait_ms / 1000)[0]:
        return False
    match channel.receive():
        case Level() as level, []:
            logs.set_level(level.level)
            return False
        case _:
            return True


def options_of(start: Start, small: SmallFiles) -> "LogOptions":
    """Put together what the kernel is told."""
    section, dedup, follower = start.config.log, start.config.dedup, small.follower
    return {
        "segment_bytes": section.segment_bytes,
        "group_bytes_max": section.group_bytes_max,
        "group_records_max": section.group_records_max,
        "linger_us": section.linger_us,
        "bytes_max": section.bytes_max,
        "disk_reserve_bytes": section.disk_reserve_bytes,
        "retain_bytes": section.retain_bytes,
        "recycle": section.recycle,
        "dedup_keys": dedup.keys,
        "dedup_producers": dedup.producers,
        "follower_group": follower.group,
        "follower_seq": follower.seq,
        "follower_root": follower.root,
        "log_name": b"" if small.named is None else small.named.log_uuid.bytes,
        "log_served": b"" if small.served is None else small.served.bytes,
    }


def open_log(channel: Channel, start: Start, board: int, log: logs.Logger) -> LogWriter | None:
    """Recover the log and open it; wait for a predecessor that the kernel has not ended yet.

    Returns:
        None when the supervisor is gone meanwhile.
    """
    state_dir = Path(start.state_dir)
    waiting, blocked = False, ""
    while True:
        small = read_small_files(state_dir)
        options = options_of(start, small)
        try:
            writer = LogWriter(
                state_dir / "log", state_dir / "quarantine", board, small.key, options
            )
        except BlockingIOError as error:
            if not waiting:
                log.warning("lock_awaited", cause=str(error))
                channel.send(State(
                    "waiting-for-lock", what=str(error),
                    next="the log writer before this one is still ending; nothing to do",
                ))  # fmt: skip
            waiting = True
            if is_over(channel, LOCK_RETRY_MS):
                return None
            continue
        except (LogBlockedError, LogMissingError, LogNoRoomError) as error:
            # No new process would fare better: this one stays, says why, and looks again.
            code, next_step = OBSTACLES[type(error)]
            if blocked != code:
                log.error("log_blocked", code=code, cause=str(error), next=next_step)
                if blocked:
                    channel.send(State(blocked, active=False))
            channel.send(State(code, what=str(error), next=next_step))
            blocked = code
            if is_over(channel, BLOCKED_RETRY_MS):
                return None
            continue
        if waiting:
            channel.send(State("waiting-for-lock", active=False))
        if blocked:
            channel.send(State(blocked, active=False))
            log.info("log_unblocked")
        if read_small_files(state_dir).named != small.named:
            raise LogFailedError("the log's disk came back while the log was opened: once more")
        found = uuid.UUID(bytes=writer.recovery()["log_uuid"])
        if found != small.served:  # The first time, or damage has cost the log its name.
            note_served(state_dir, found)
        return writer


def note_served(state_dir: Path, log_uuid: uuid.UUID) -> None:
    """Note which log it is.

    Raises:
        LogFailedError: the disk does not take it.
    """
    try:
        served.write(state_dir, log_uuid)
    except OSError as error:
        raise LogFailedError(f"cannot write {served.FILE}: {error.strerror}") from error


def report_recovery(channel: Channel, writer: LogWriter, seconds: float, log: logs.Logger) -> None:
    """Tell what recovery found; missing numbers are a reason that stays."""
    found = writer.recovery()
    log_id = str(uuid.UUID(bytes=found["log_name"]))
    facts = {
        "label": found["label"], "segments": found["segments"],
        "groups_read": found["groups_read"], "last_group": found["last_group"],
        "next_seq": found["next_seq"], "epoch": found["epoch"], "seconds": round(seconds, 3),
    }  # fmt: skip
    gaps = [{"first_seq": a, "last_seq": b, "reason": why} for a, b, why in found["gaps"]]
    log.info("log_recovered", log_id=log_id, gaps=len(gaps), **facts)
    channel.send(Report("recovery", {"log_id": log_id, "gaps": gaps, **facts}))
    for gap in gaps:
        log.error("log_gap_found", **gap)
    tell_damage(channel, found, log)
    if gaps:
        first, last = gaps[0]["first_seq"], gaps[-1]["last_seq"]
        channel.send(State(
            "log-gap",
            what=f"events {first}..{last} cannot be read from the log",
            next="look at the state directory's quarantine/ and at certeus.gaps in PostgreSQL",
        ))  # fmt: skip


def tell_damage(channel: Channel, found: "Recovery", log: logs.Logger) -> None:
    """Tell what was set aside, and what could not be copied to the quarantine."""
    for segment_no, label, name in found["aside"]:
        log.error("segment_set_aside", segment_no=segment_no, label=label, name=name)
        channel.send(State(
            "segment-aside",
            what=f"segment {segment_no} is none of this log ({label}): it is now {name}",
            next="find out who put it there, before that file is removed",
        ))  # fmt: skip
    for path, cause in found["uncopied"]:
        log.error("quarantine_failed", path=path, cause=cause)
        channel.send(State(
            "quarantine-failed",
            what=f"cannot write {path}: {cause}; the damaged bytes stay in their segment",
            next="copy the segment away before PostgreSQL has confirmed it, then make room",
        ))  # fmt: skip


def serve(channel: Channel, writer: LogWriter, preparation: Preparation) -> Exit:
    """Commit groups until the supervisor says `Drain`, or is gone."""
    writer.watch(channel.fileno())
    told_progress = False
    started_at = writer.durable_seq()
    while True:
        readable = writer.run(RUN_MS)
        if not told_progress and writer.durable_seq() > started_at:
            told_progress = channel.send(Progress())
        if not readable:
            continue
        received = channel.receive()
        match received:
            case None:
                return Exit.OK
            case Attach() as attach, [pair, forward_bell, return_bell]:
                writer.attach(
                    attach.worker, pair, attach.forward_bytes, attach.return_bytes,
                    forward_bell, return_bell,
                )  # fmt: skip
                for descriptor in (pair, forward_bell, return_bell):
                    os.close(descriptor)
                preparation.tell()
            case Detach() as detach, []:
                writer.detach(detach.worker)
            case Level() as level, []:
                logs.set_level(level.level)
            case Drain(), []:
                writer.seal()
                return Exit.OK
            case message, _:
                raise AssertionError(f"no message for a log writer: {type(message).__name__}")


def main() -> int:
    """Take the channel, recover the log, and write it."""
    parser = argparse.ArgumentParser(prog="certeusd.log", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, metavar="FD")
    channel = adopt(parser.parse_args().channel)
    received = channel.receive()
    if received is None:
        return Exit.OK
    start, descriptors = received
    assert isinstance(start, Start), f"first came {type(start).__name__}, not Start"
    board, bell = descriptors
    os.set_blocking(bell, False)
    counts = Board(board)
    log = logs.configure(
        "log", level=start.log_level, on_dropped=lambda: counts.count_dropped_line("log")
    )
    log_uncaught(log)
    timeslice.shorten(log)
    try:
        before = time.monotonic()
        writer = open_log(channel, start, board, log)
        if writer is None:
            return Exit.OK
        writer.follower_bell(bell)
        report_recovery(channel, writer, time.monotonic() - before, log)
        preparation = Preparation(writer, start.config.memory, log)
        preparation.tell()
        channel.send(Ready())
        return serve(channel, writer, preparation)
    except LogFailedError as error:
        words = last_words(error)
        log.error("log_failed", code=words.code, cause=words.what, next=words.next)
        channel.send(words)
        return Exit.LOG_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
