"""Floors of the disk: what the same file system does for a program that only writes and syncs.

All write into a file that was filled with zeros and synced before, as the log's segments are: what
is timed changes no metadata. The file has a segment's size and is written at growing offsets, again
from its start when it is full.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from certeus_bench import loops
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

FILE_BYTES = 64 * 2**20
ZEROS_BYTES = 2**20
WRITE_BYTES = 256 * 2**10


def synced(block_bytes: int, flags: int = 0) -> Callable[[Context], Measurement]:
    """One block written, then synced, one after the other; `flags` as for `segments`."""

    def measure(context: Context) -> Measurement:
        block = mmap.mmap(-1, block_bytes)
        block.write(os.urandom(block_bytes))
        position = 0
        with zero_filled(context) as descriptor:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)

            def operate() -> None:
                nonlocal position
                os.pwrite(descriptor, block, position)
                os.fdatasync(descriptor)
                position = (position + block_bytes) % FILE_BYTES

            return loops.closed(operate, context, block_bytes)

    return measure


def streamed(context: Context) -> Measurement:
    """Whole files, each written from start to end, then synced once; only whole ones count."""
    block = os.urandom(WRITE_BYTES)
    with zero_filled(context) as descriptor:

        def write_file() -> None:
            for position in range(0, FILE_BYTES, WRITE_BYTES):
                os.pwrite(descriptor, block, position)
            os.fdatasync(descriptor)

        warm = time.perf_counter() + context.warmup_seconds
        while time.perf_counter() < warm:
            write_file()
        files, cpu, begin = 0, time.process_time(), time.perf_counter()
        while (passed := time.perf_counter() - begin) < context.seconds:
            write_file()
            files += 1
    return Measurement(
        operations=files * (FILE_BYTES // WRITE_BYTES),
        seconds=passed,
        warmup_seconds=context.warmup_seconds,
        bytes_each=WRITE_BYTES,
        cpu_seconds=time.process_time() - cpu,
        facts={"files": files, "file_bytes": FILE_BYTES},
    )


def segments(flags: int) -> Callable[[Context], Measurement]:
    """New files, filled with zeros, then written in pieces that are synced each: a growing log.

    `flags` are those of `open`: with ``O_DIRECT`` all of it goes past the kernel's cache.
    """

    def measure(context: Context) -> Measurement:
        # Anonymous mappings begin at a page, as direct I/O wants it.
        zeros, block = mmap.mmap(-1, ZEROS_BYTES), mmap.mmap(-1, WRITE_BYTES)
        block.write(os.urandom(WRITE_BYTES))
        path = context.home / "segment"

        def write_segment() -> None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
            for position in range(0, FILE_BYTES, ZEROS_BYTES):
                os.pwrite(descriptor, zeros, position)
            os.fsync(descriptor)
            for position in range(0, FILE_BYTES, WRITE_BYTES):
                os.pwrite(descriptor, block, position)
                os.fdatasync(descriptor)
            os.close(descriptor)
            path.unlink()

        warm = time.perf_counter() + context.warmup_seconds
        while time.perf_counter() < warm:
            write_segment()
        files, cpu, begin = 0, time.process_time(), time.perf_counter()
        while (passed := time.perf_counter() - begin) < context.seconds:
            write_segment()
            files += 1
        cpu = time.process_time() - cpu
        return Measurement(
            operations=files * (FILE_BYTES // WRITE_BYTES),
            seconds=passed,
            warmup_seconds=context.warmup_seconds,
            bytes_each=WRITE_BYTES,
            cpu_seconds=cpu,
            facts={"cpu_ns_per_byte": cpu * 1e9 / max(files * FILE_BYTES, 1)},
        )

    return measure


@contextmanager
def zero_filled(context: Context) -> Generator[int, None, None]:
    """A descriptor of a file of zeros that are on the disk; the file goes in the end."""
    path = context.home / "floor"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(0, FILE_BYTES, ZEROS_BYTES):
            os.write(descriptor, bytes(ZEROS_BYTES))
        os.fsync(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink()


SCENARIOS = [
    Scenario(
        name="floor/fdatasync-4k",
        system="floor",
        scope=Scope.DURABLE,
        what="4 KiB written into a file of zeros, then fdatasync.",
        measure=synced(4096),
    ),
    Scenario(
        name="floor/fdatasync-4k-direct",
        system="floor",
        scope=Scope.DURABLE,
        what="The same past the kernel's cache, as the log writes.",
        measure=synced(4096, os.O_DIRECT),
    ),
    Scenario(
        name="floor/fdatasync-64k",
        system="floor",
        scope=Scope.DURABLE,
        what="64 KiB written into a file of zeros, then fdatasync.",
        measure=synced(65536),
    ),
    Scenario(
        name="floor/write",
        system="floor",
        scope=Scope.DURABLE,
        what="64 MiB written from start to end in pieces of 256 KiB, then one fdatasync.",
        measure=streamed,
    ),
    Scenario(
        name="floor/segment",
        system="floor, past the cache",
        scope=Scope.DURABLE,
        what="A new file of 64 MiB, filled with zeros, then written in synced pieces of 256 KiB.",
        measure=segments(os.O_DIRECT),
    ),
    Scenario(
        name="floor/segment",
        system="floor, through the cache",
        scope=Scope.DURABLE,
        what="The same through the kernel's cache.",
        measure=segments(0),
    ),
]
