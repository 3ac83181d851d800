"""What an operator finds in the real journal: fields, priorities, whole tracebacks; and no waits.

The tests follow each other, and each leaves the service running.
"""

import functools
import json
import uuid
from typing import Any

import pytest

from support.systemd_box import PYTHON, Box, certeus

UNIT = "certeus.service"
CONFIG = "etc/certeus/certeus.toml"
MESSAGE_NAMESPACE = uuid.UUID("6f1c52ae-9d0b-4c1e-8a57-3b7a4ce1f0d2")
"""As docs/operating.md has it."""
LARGE_BYTES = 6 << 20

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

Entry = dict[str, Any]

# What certeus.service allows, as far as it is about sockets, memfds and paths.
SANDBOX = (
    "User=certeus", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
    "PrivateTmp=yes", "PrivateDevices=yes", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX", "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
)  # fmt: skip
LARGE = f"""
from certeusd import logs
log = logs.configure("worker", 63)
try:
    raise RuntimeError("large" + "x" * {LARGE_BYTES})
except RuntimeError:
    log.error("large_tried", exc_info=True)
"""
FAILED_STATEMENT = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    try:
        await connection.execute("SELECT no_such_column")
    except asyncpg.UndefinedColumnError:
        await connection.close()
asyncio.run(main())
"""
# Each order is a line of the audit.
FLOOD = """
import http.client, socket
connection = http.client.HTTPConnection("certeus", timeout=60)
connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.sock.connect("/run/certeus/control.sock")
def ask(method, path):
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text
for _ in range(10_000):
    ask("POST", "/v1/log-level?level=info")
    if 'log_lines_dropped_total{role="supervisor",slot="0"} 0.0' not in ask("GET", "/metrics"):
        break
else:
    raise SystemExit("nothing was dropped")
"""


def entries(box: Box, *matches: str) -> list[Entry]:
    """The journal's entries, oldest first."""
    box.run("journalctl", "--sync")
    text = box.run("journalctl", "--no-pager", "--all", "-o", "json", *matches)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def has_entry(box: Box, *matches: str) -> bool:
    return bool(entries(box, "-u", UNIT, *matches))


def test_an_event_is_found_by_its_name_and_its_worker(box: Box) -> None:
    (entry, *_) = entries(box, "-u", UNIT, "CERTEUS_EVENT=log_writer_attached", "WORKER=0")
    assert entry["_TRANSPORT"] == "journal"
    assert (entry["ROLE"], entry["PRIORITY"]) == ("worker", "6")
    assert entry["SYSLOG_IDENTIFIER"] == "certeusd"
    assert entry["MESSAGE"] == "log_writer_attached role=worker worker=0"
    assert entry["MESSAGE_ID"] == uuid.uuid5(MESSAGE_NAMESPACE, "log_writer_attached").hex
    assert entry["_SYSTEMD_UNIT"] == UNIT
    assert not entries(box, "-u", UNIT, "WORKER=7")
    for role in ("supervisor", "log", "flush"):
        box.wait_for(functools.partial(has_entry, box, f"ROLE={role}", "_TRANSPORT=journal"), UNIT)


def test_every_line_of_the_daemon_came_by_fields(box: Box) -> None:
    streamed = [one["MESSAGE"] for one in entries(box, "-u", UNIT, "_TRANSPORT=stdout")]
    assert streamed == []


def test_errors_alone_are_shown_as_errors(box: Box) -> None:
    (box.root / CONFIG).parent.mkdir(exist_ok=True)
    (box.root / CONFIG).write_text("[limits]\ndepth = 32\n")
    box.run("systemctl", "kill", "--signal=HUP", "--kill-who=main", UNIT)

    def told() -> list[Entry]:
        return entries(box, "-u", UNIT, "-p", "err")

    box.wait_for(lambda: bool(told()), UNIT)
    (box.root / CONFIG).unlink()
    assert {one["CERTEUS_EVENT"] for one in told()} == {"configuration_not_reloaded"}
    assert {one["PRIORITY"] for one in told()} == {"3"}
    assert "nearest: limits.depth_max" in told()[0]["CAUSE"]
    assert any(one["PRIORITY"] == "6" for one in entries(box, "-u", UNIT))


def test_a_failed_statement_in_the_embedded_server_is_a_warning(box: Box) -> None:
    dsn = json.loads(certeus(box, "dsn", "--json"))["dsn"]
    box.run(PYTHON, "-c", FAILED_STATEMENT, dsn)
    found = entries(box, "CERTEUS_EVENT=postgres_logged", "SEVERITY=ERROR", "SEVERITY=STATEMENT")
    assert [(one["PRIORITY"], one["CERTEUS_MESSAGE"]) for one in found] == [
        ("4", 'column "no_such_column" does not exist at character 8'),
        ("4", "SELECT no_such_column"),
    ]


def test_a_record_that_no_datagram_holds_arrives_whole_from_the_sandbox(box: Box) -> None:
    options = [word for setting in SANDBOX for word in ("-p", setting)]
    box.run("systemd-run", "--quiet", "--wait", *options, "--", PYTHON, "-c", LARGE)
    (entry,) = entries(box, "CERTEUS_EVENT=large_tried", "WORKER=63")
    first, traceback, *_, last = entry["MESSAGE"].splitlines()
    assert first == "large_tried role=worker worker=63"
    assert traceback == "Traceback (most recent call last):"
    assert last == "RuntimeError: large" + "x" * LARGE_BYTES
    assert (entry["PRIORITY"], entry["_TRANSPORT"]) == ("3", "journal")


def test_a_journal_that_hangs_stops_nobody_and_what_it_missed_is_told(box: Box) -> None:
    journald = box.show("systemd-journald", "MainPID")["MainPID"]
    box.run("kill", "-STOP", journald)
    try:
        box.run(PYTHON, "-c", FLOOD)
        answer = json.loads(certeus(box, "append", "--json", "-", stdin='{"n":1}\n'))
        assert answer["appended"] == 1
    finally:
        box.run("kill", "-CONT", journald)
    box.run("journalctl", "--sync")
    certeus(box, "log-level", "info")
    told = [one for one in entries(box, "-u", UNIT, "ROLE=supervisor") if "LINES_DROPPED" in one]
    assert told[0]["MESSAGE"].endswith(f" lines_dropped={told[0]['LINES_DROPPED']}")


def test_a_start_that_fails_says_so_as_an_error(box: Box) -> None:
    (box.root / CONFIG).write_text('[postgres]\nnsd = "x"\n')
    box.run("systemctl", "restart", UNIT, check=False)
    (box.root / CONFIG).unlink()
    (entry,) = entries(box, "-u", UNIT, "-p", "err", "CERTEUS_EVENT=certeusd_failed")
    assert (entry["CODE"], entry["ROLE"]) == ("78", "supervisor")
    assert "nearest: postgres.dsn" in entry["CAUSE"]
    box.run("systemctl", "reset-failed", UNIT)
    box.run("systemctl", "start", UNIT)
