"""The journal's door in the real service: the right to read, entries of real programs, no loop.

The tests follow each other, and each leaves the service running.
"""

import functools
import json
from typing import Any

import pytest

from support.systemd_box import UNIT, Box, certeus, is_active_again_after

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

CONFIG = "etc/certeus/certeus.toml"
DROP_IN = "etc/systemd/system/certeus.service.d/journal.conf"
# What is flushed stays readable, through every life.
OPEN = "[journal]\nenabled = true\n[log]\nretain_bytes = 17179869184\n"


def status(box: Box) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(certeus(box, "status", "--json"))
    return answer


def codes(box: Box) -> list[str]:
    return [one["code"] for one in status(box)["reasons"]]


def events(box: Box) -> list[dict[str, Any]]:
    text = certeus(box, "tail", "--after-seq", "0", "--source", "journal", "--json")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def numbers(box: Box) -> list[int]:
    return [
        int(one["data"]["MESSAGE"])
        for one in events(box)
        if one["data"].get("SYSLOG_IDENTIFIER") == "e2e"
    ]


def log(box: Box, first: int, count: int) -> None:
    """Entries of a real program, by number."""
    text = "".join(f"{number}\n" for number in range(first, first + count))
    box.run("systemd-cat", "-t", "e2e", "cat", stdin=text)


def wait_for(box: Box, count: int) -> None:
    """Wait until as many numbers, from 0 on, are events."""
    wanted = set(range(count))
    try:
        box.wait_for(lambda: wanted <= set(numbers(box)), UNIT)
    except AssertionError as late:
        missing = sorted(wanted - set(numbers(box)))
        late.add_note(f"missing {len(missing)}, the first {missing[:20]}; {status(box)['reasons']}")
        raise


def test_a_service_that_may_not_read_says_what_to_do(box: Box) -> None:
    (box.root / CONFIG).write_text(OPEN)
    box.run("systemctl", "restart", UNIT)
    box.wait_for(lambda: "journal-unreadable" in codes(box), UNIT)
    (told,) = [one for one in status(box)["reasons"] if one["code"] == "journal-unreadable"]
    assert "SupplementaryGroups=systemd-journal" in told["next"]


def test_with_the_group_entries_are_events(box: Box) -> None:
    path = box.root / DROP_IN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[Service]\nSupplementaryGroups=systemd-journal\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", UNIT)
    box.wait_for(lambda: (box.root / "var/lib/certeus/doors/journal").exists(), UNIT)
    assert "journal-unreadable" not in codes(box)
    log(box, 0, 100)
    wait_for(box, 100)
    (one,) = [one for one in events(box) if one["data"].get("MESSAGE") == "0"]
    shown = box.run("journalctl", "-q", f"--cursor={one['id']}", "-n", "1", "-o", "json")
    assert json.loads(shown)["MESSAGE"] == "0"


def test_restarts_kills_and_rotations_lose_and_double_nothing(box: Box) -> None:
    first = 100
    for _ in range(3):
        log(box, first, 50)
        old = box.show(UNIT, "MainPID")["MainPID"]
        box.run("systemctl", "kill", "-s", "KILL", UNIT)
        log(box, first + 50, 50)
        box.wait_for(functools.partial(is_active_again_after, box, UNIT, old), UNIT)
        box.run("journalctl", "--rotate")
        log(box, first + 100, 50)
        box.run("systemctl", "restart", UNIT)
        first += 150
    wait_for(box, first)
    assert numbers(box) == list(range(first))


def test_its_own_lines_are_no_events_so_that_nothing_goes_round(box: Box) -> None:
    certeus(box, "log-level", "debug")
    log(box, 10_000, 1)
    box.wait_for(lambda: 10_000 in numbers(box), UNIT)
    certeus(box, "wait", "--flushed", "--timeout", "60")
    own = [
        one for one in events(box) if one["data"].get("_SYSTEMD_CGROUP", "").endswith(f"/{UNIT}")
    ]
    assert own == []
    # systemd's words about the service are there.
    assert any(one["data"].get("UNIT") == UNIT for one in events(box))
    certeus(box, "log-level", "info")
