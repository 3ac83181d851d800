"""Whether the service waits for memory."""

from pathlib import Path

from certeusd import systemd
from certeusd.supervisor.pressure import Pressure

TEXT = """\
some avg10={some} avg60=0.00 avg300=0.00 total=1
full avg10=99.00 avg60=0.00 avg300=0.00 total=1
"""


def test_it_is_entered_at_one_bound_and_left_at_a_lower_one(tmp_path: Path) -> None:
    file = tmp_path / "memory.pressure"
    pressure = Pressure(file)
    seen = list[tuple[bool, bool]]()
    for some in ("0.00", "4.99", "5.00", "3.10", "1.00", "0.99", "4.99"):
        file.write_text(TEXT.format(some=some))
        seen.append((pressure.look(), pressure.high))
    assert seen == [
        (False, False), (False, False), (True, True), (False, True), (False, True),
        (True, False), (False, False),
    ]  # fmt: skip


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    for file in (None, tmp_path / "missing"):
        pressure = Pressure(file)
        assert not pressure.look()
        assert not pressure.high


def test_systemd_may_name_the_file_or_forbid_to_look() -> None:
    assert systemd.memory_pressure_file({}) == Path("/proc/pressure/memory")
    named = {"MEMORY_PRESSURE_WATCH": "/sys/fs/cgroup/x/memory.pressure"}
    assert systemd.memory_pressure_file(named) == Path("/sys/fs/cgroup/x/memory.pressure")
    assert systemd.memory_pressure_file({"MEMORY_PRESSURE_WATCH": "/dev/null"}) is None
