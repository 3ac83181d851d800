"""`certeus bundle`: what is in it, with and without a daemon, and that no secret ever is."""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certeus
from certeusd.cli.bundle_parts import PARTS, journal_line
from support.daemon import Daemon, scratch_dir

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DSN_SECRET = "canary-in-the-dsn"
QUERY_SECRET = "canary-in-the-query"
FILE_SECRET = "canary-in-the-file"
CREDENTIAL_SECRET = "canary-in-the-credential"
EVENT_SECRET = "canary-in-the-event"
ID_SECRET = "canary-in-the-id"
COMMENT_SECRET = "canary-in-a-comment"


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as folder:
        yield folder


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {one.name.removeprefix("certeus-bundle/"): tar.extractfile(one) for one in tar}
        return {name: file.read() for name, file in found.items() if file is not None}


def bundle(daemon: Daemon, path: Path, *more: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    answer = daemon.certeus("bundle", str(path), "--json", "--config", str(daemon.config_path),
                            *more)  # fmt: skip
    told: dict[str, Any] = json.loads(answer.stdout)
    found = contents(path)
    manifest = json.loads(found.pop("manifest.json"))
    assert {one["name"]: one["sha256"] for one in manifest["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items()
    }
    assert told["files"] == manifest["files"]
    named = {one["name"] for one in manifest["files"] + manifest["missing"]}
    assert named == {one.name for one in PARTS}
    assert all(one["why"] for one in manifest["missing"])
    return found, manifest


def test_a_bundle_has_every_part_and_no_secret_from_any_place(root: Path) -> None:
    password_file, credentials = root / "password", root / "credentials"
    password_file.write_text(FILE_SECRET + "\n")
    credentials.mkdir()
    (credentials / "postgres-password").write_text(CREDENTIAL_SECRET)
    config = (
        f"# {COMMENT_SECRET}\n[postgres]\n"
        f'dsn = "postgresql://u:{DSN_SECRET}@127.0.0.1:1/d?sslpassword={QUERY_SECRET}"\n'
        f'password_file = "{password_file}"\n'
    )
    env = {"CREDENTIALS_DIRECTORY": str(credentials), "CERTEUS_LOGGING__LEVEL": '"debug"'}
    daemon = Daemon(root, config, env)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="canary") as producer:
            producer.append("t", {"secret": EVENT_SECRET}, id=ID_SECRET, subject=EVENT_SECRET)
        found, manifest = bundle(daemon, root / "up.tar.gz")
        assert {"status.json", "workers.json", "config-running.json", "config-files.json",
                "doctor.json", "metrics.txt", "log-ls.json", "log-check.json", "versions.json",
                "followers.json", "processes.json"} <= set(found)  # fmt: skip
        assert (root / "up.tar.gz").stat().st_mode & 0o777 == 0o600
        key = (daemon.state_dir / "keys" / "log.key").read_bytes()
        everything = b"".join(found.values()) + json.dumps(manifest).encode()
        assert b"canary-" not in everything
        assert key not in everything
        assert key.hex().encode() not in everything
        assert json.loads(found["status.json"])["durable_seq"] == 1
        assert json.loads(found["log-check.json"])["ok"] is True
        assert len(json.loads(found["processes.json"])["processes"]) >= 4
        running = {one["key"]: one for one in json.loads(found["config-running.json"])["keys"]}
        assert running["logging.level"]["origin"] == "$CERTEUS_LOGGING__LEVEL"
        assert running["postgres.password_file"]["value"] == str(password_file)
        # A password that stands where none is looked for keeps its part out.
        daemon.config_path.write_text(config + f'[control]\ngroup = "{FILE_SECRET}"\n')
        found, manifest = bundle(daemon, root / "misplaced.tar.gz")
        assert FILE_SECRET.encode() not in b"".join(found.values())
        assert "config-files.json" in {one["name"] for one in manifest["missing"]}
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def test_a_bundle_is_made_without_a_daemon_and_says_what_is_missing(root: Path) -> None:
    daemon = Daemon(root, "[nonsense]\n")
    found, manifest = bundle(daemon, root / "down.tar.gz")
    assert {"versions.json", "doctor.json"} <= set(found)
    missing = {one["name"]: one["why"] for one in manifest["missing"]}
    assert "cannot reach the daemon" in missing["status.json"]
    assert "certeusd check" in missing["config-files.json"]
    assert daemon.certeus("bundle", str(root / "down.tar.gz"), code=1).stdout == b""


def test_a_reason_why_a_part_is_missing_holds_no_secret_either(root: Path) -> None:
    folder = root / DSN_SECRET
    folder.mkdir()
    daemon = Daemon(folder, f'[postgres]\ndsn = "postgresql://u:{DSN_SECRET}@127.0.0.1:1/d"\n')
    found, manifest = bundle(daemon, root / "named.tar.gz")
    missing = {one["name"]: one["why"] for one in manifest["missing"]}
    assert missing["status.json"].startswith("left out"), "it would name the socket, and so it"
    assert DSN_SECRET.encode() not in b"".join(found.values()) + json.dumps(manifest).encode()


def test_a_dry_run_lists_every_part_and_makes_nothing(root: Path) -> None:
    daemon = Daemon(root)
    told = json.loads(daemon.certeus("bundle", str(root / "x"), "--dry-run", "--json").stdout)
    assert [one["name"] for one in told["parts"]] == [one.name for one in PARTS]
    assert not (root / "x").exists()


def test_a_part_that_takes_too_long_is_left_out_and_the_rest_is_there(root: Path) -> None:
    daemon = Daemon(root)
    daemon.state_dir.mkdir()
    (daemon.state_dir / "log").mkdir()
    # Nobody writes to it: who reads it waits for ever.
    os.mkfifo(daemon.state_dir / "log" / f"{1:020}.log")
    found, manifest = bundle(daemon, root / "slow.tar.gz", "--timeout", "3")
    missing = {one["name"]: one["why"] for one in manifest["missing"]}
    assert re.search("took longer|cannot", missing["log-check.json"])
    assert "versions.json" in found


@pytest.mark.parametrize(
    "message",
    [
        f'postgres_left code=postgres-away error="x {EVENT_SECRET}" rows=3 role=flush',
        json.dumps({"event": "postgres_left", "code": "postgres-away", "rows": 3, "role": "flush",
                    "error": EVENT_SECRET, "state": f"a {EVENT_SECRET}"}),
    ],
)  # fmt: skip
def test_of_a_log_line_only_words_and_numbers_stay(message: str) -> None:
    record: dict[str, object] = {
        "MESSAGE": message, "PRIORITY": "4", "_PID": "17", "_CMDLINE": EVENT_SECRET,
        "DETAIL": EVENT_SECRET, "WORKER": "3", "__REALTIME_TIMESTAMP": "5",
    }  # fmt: skip
    kept = journal_line(record)
    assert EVENT_SECRET not in json.dumps(kept)
    assert {
        "event": "postgres_left",
        "code": "postgres-away",
        "worker": "3",
    }.items() <= kept.items()
    assert str(kept["rows"]) == "3"


@pytest.mark.parametrize(
    "message",
    [
        "invalid input: amount=4111111111111111 ssn=123456789",
        "state=secretword label=alice count=4111",
        "note state=secretword label=alice count=4111",
        "secretword",
        json.dumps({"state": "secretword", "count": 4111, "amount": 41}),
        "4111",
        'failed worker=1 role=flush amount=4111 "count=4111',
    ],
)
def test_of_a_line_that_is_none_of_ours_nothing_stays(message: str) -> None:
    record: dict[str, object] = {"MESSAGE": message, "PRIORITY": "4", "_PID": "17"}
    assert journal_line(record).keys() == {"at_us", "priority", "pid"}


def test_of_our_lines_only_listed_numbers_stay() -> None:
    kept = journal_line(
        {"MESSAGE": "batch_flushed rows=3 amount=4111 role=flush", "_PID": "17", "AMOUNT": "4111",
         "CERTEUS_EVENT": "batch_flushed", "SEGMENT_NO": "8"}
    )  # fmt: skip
    assert "amount" not in kept
    assert {"event": "batch_flushed", "rows": "3", "segment_no": "8", "role": "flush"}.items() <= (
        kept.items()
    )
