"""Lists of CPUs, and what is read of them under /sys."""

import os
from pathlib import Path

import pytest

from certeusd import cpus
from certeusd.supervisor.topology import Cpu, read


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("\n", []), ("3", [3]), ("0-2,5,7-8\n", [0, 1, 2, 5, 7, 8]), ("4, 1", [1, 4])],
)
def test_a_list_of_cpus_is_read_and_written_again(text: str, numbers: list[int]) -> None:
    assert sorted(cpus.parse(text)) == numbers
    assert cpus.parse(cpus.shown(numbers)) == set(numbers)


def test_a_list_of_cpus_is_written_as_short_as_it_goes() -> None:
    assert cpus.shown([8, 0, 1, 2, 5, 7]) == "0-2,5,7-8"
    assert cpus.shown([]) == ""


@pytest.mark.parametrize("text", ["a", "1-", "-1", "5-2", "1;2", "0-8192", "1-2-3", "0x1", "٣"])
def test_what_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        cpus.parse(text)


def test_siblings_packages_nodes_and_isolated_cpus_are_read(tmp_path: Path) -> None:
    files = {"cpu/online": "0-2,4", "cpu/isolated": "2,4", "cpu/cpu3/online": "0"}
    for number, (siblings, package) in {0: ("0,2", 0), 2: ("0,2", 0), 4: ("4", 1)}.items():
        files[f"cpu/cpu{number}/topology/thread_siblings_list"] = siblings
        files[f"cpu/cpu{number}/topology/physical_package_id"] = str(package)
    files |= {"cpu/cpu1/topology/core_cpus_list": "1,3", "node/node0/cpulist": "0-3"}
    files["node/node1/cpulist"] = "4-7"
    assert list(read(tree(tmp_path, files)).values()) == [
        Cpu(0, 0, 0, 0, isolated=False),
        Cpu(1, 1, 0, 0, isolated=False),
        Cpu(2, 0, 0, 0, isolated=True),
        Cpu(4, 4, 1, 1, isolated=True),
    ]


def test_a_kernel_that_shows_less_is_no_error(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    files = {"cpu/online": "0-1", "cpu/isolated": "(null)"}
    files["cpu/cpu1/topology/physical_package_id"] = "-1"
    assert list(read(tree(tmp_path, files)).values()) == [
        Cpu(0, 0, 0, 0, isolated=False),
        Cpu(1, 1, 0, 0, isolated=False),
    ]


def test_this_machine_shows_every_cpu_that_we_may_use() -> None:
    assert os.sched_getaffinity(0) <= read().keys()
