"""The short time slice of worker and log writer."""

import errno
import os
import threading

import pytest
import structlog

from certeusd import _native, timeslice


def test_a_thread_has_it_or_the_kernel_knows_no_such_thing() -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(_native.shorten_slice()))
    thread.start()
    thread.join()
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert found == [release >= (6, 12)]


def test_that_it_is_forbidden_is_told_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> bool:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(_native, "shorten_slice", forbidden)
    with structlog.testing.capture_logs() as told:
        timeslice.shorten(structlog.get_logger())
    (line,) = told
    assert line["event"] == "slice_not_shortened"
    assert "sched_setattr" in line["next"]
