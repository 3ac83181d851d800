"""One producer cannot reach another one's ids: real processes of two uids, the same source and id.

Whoever could would have its neighbour's events taken for duplicates: they would not be stored.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.daemon import Daemon, running

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become two other users"),
]

ALICE, BOB = 64_001, 64_002
CONFIG = f"""
[[ingest]]
path = "alice.sock"
tenant = "alice"
uids = [{ALICE}]
sources = ["checkout"]

[[ingest]]
path = "bob.sock"
tenant = "bob"
uids = [{BOB}]
sources = ["checkout"]

[[ingest]]
path = "shared-a.sock"
tenant = "shared"
uids = [{ALICE}]
sources = ["a/*"]

[[ingest]]
path = "shared-b.sock"
tenant = "shared"
uids = [{BOB}]
sources = ["b/*"]
"""
PROGRAM = """
import json, os, sys, certeus
from certeus import _native
uid, path, source, who, own = int(sys.argv[1]), *sys.argv[2:6]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    with certeus.connect(path, source=source) as producer:
        override = {"source": own} if own else {}
        ticket = producer.append("t", {"of": who}, id="order-1", **override)
        try: producer.wait_durable(ticket, timeout=60.0)
        except certeus.RejectedError: pass
        receipt = producer.receipt(ticket)
        print(json.dumps([receipt.verdict, receipt.reason or "", receipt.seq or 0]))
except certeus.ConnectError as error:
    print(json.dumps(["refused", str(error), 0]))
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(CONFIG) as daemon:
        # Two other users have to come to the sockets.
        daemon.root.chmod(0o755)
        daemon.runtime_dir.chmod(0o755)
        yield daemon


def append(
    daemon: Daemon, uid: int, path: str, source: str, *, content: str = "", own: str = ""
) -> list[object]:
    """Append order-1 as that user: verdict, reason, seq."""
    place = str(daemon.runtime_dir / path)
    arguments = [sys.executable, "-c", PROGRAM, str(uid), place, source, content or str(uid), own]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: list[object] = json.loads(done.stdout)
    return told


def test_tenants_do_not_share_ids(daemon: Daemon) -> None:
    verdict, _, first = append(daemon, ALICE, "alice.sock", "checkout")
    assert verdict == "accepted"
    verdict, _, second = append(daemon, BOB, "bob.sock", "checkout")
    assert verdict == "accepted", "the same source and id, of another tenant"
    assert first != second
    assert append(daemon, ALICE, "alice.sock", "checkout") == ["duplicate", "", first]
    assert append(daemon, BOB, "bob.sock", "checkout") == ["duplicate", "", second]
    conflict = append(daemon, BOB, "bob.sock", "checkout", content=str(ALICE))
    assert conflict == ["rejected", "id-conflict", second]


def test_a_uid_cannot_come_in_by_another_ones_socket(daemon: Daemon) -> None:
    verdict, reason, _ = append(daemon, BOB, "alice.sock", "checkout")
    assert verdict == "refused"
    assert "uid-not-allowed" in str(reason)


def test_uids_of_one_tenant_are_kept_apart_by_their_sources(daemon: Daemon) -> None:
    verdict, _, first = append(daemon, ALICE, "shared-a.sock", "a/1")
    assert verdict == "accepted"
    verdict, reason, _ = append(daemon, BOB, "shared-b.sock", "a/1")
    assert verdict == "refused"
    assert "source-not-allowed" in str(reason)
    # Nor by naming the other one's source in an event.
    verdict, reason, _ = append(daemon, BOB, "shared-b.sock", "b/1", own="a/1")
    assert (verdict, reason) == ("rejected", "source-not-allowed")
    assert append(daemon, ALICE, "shared-a.sock", "a/1") == ["duplicate", "", first]
