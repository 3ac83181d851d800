"""Backups of a log at rest: what verify finds, what restore refuses, and what a kill leaves."""

import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certeusd.backup.create import check_room
from certeusd.exits import Exit, ExitError
from support.log_machine import LOG_KEY, Client, Ledger, Offered
from support.waiting import wait_until

PROGRAM = [sys.executable, "-P", "-m", "certeusd.cli.main"]
NOBODY = 65534
FORMS = ("backup", "backup.tar")


def places(state_dir: Path) -> list[str]:
    return ["--state-dir", str(state_dir), "--runtime-dir", str(state_dir.parent / "run")]


def run(state_dir: Path, *verb: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    done = subprocess.run(
        [*prefix, *PROGRAM, *places(state_dir), *verb],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def backup(state_dir: Path, *verb: str, code: int = 0) -> dict[str, Any]:
    found, out, err = run(state_dir, "backup", *verb, "--json")
    assert found == code, err
    answer: dict[str, Any] = json.loads(out) if out else {"stderr": err}
    return answer


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a real log writer, stopped: trimmed, sealed, active, spare."""
    folder = tmp_path_factory.mktemp("ledger")
    made = Ledger(folder)
    client = Client(0, os.urandom(16))
    made.connect(client)
    assert client.ring is not None
    for number in range(300):
        data = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 3500)
        assert client.ring.append("t", data, False, f"id-{number}")
        client.offered[number + 1] = Offered(data, f"id-{number}", bad=False)
        if number % 10 == 9:
            made.settle()
        if number == 200:
            made.board.set("follower", "trim_segment", 2)
    made.settle()
    made.stop_log()
    state = folder / "state"
    state.mkdir()
    for inner in ("keys", "followers"):
        (state / inner).mkdir()
    (state / "keys" / "log.key").write_bytes(LOG_KEY)
    (folder / "log-0").rename(state / "log")
    yield state
    made.close()


@pytest.fixture(scope="module", params=FORMS)
def whole(request: pytest.FixtureRequest, ledger: Path) -> Path:
    """A backup with the key, as a directory and as a tar file."""
    form: str = request.param
    place = ledger.parent / form
    backup(ledger, "create", str(place), "--with-key")
    return place


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    place = tmp_path / whole.name
    if whole.is_dir():
        shutil.copytree(whole, place)
    else:
        shutil.copy(whole, place)
    return place


def members(place: Path) -> dict[str, bytes]:
    if place.is_dir():
        files = [one for one in sorted(place.rglob("*")) if one.is_file()]
        return {str(one.relative_to(place)): one.read_bytes() for one in files}
    with tarfile.open(place) as tar:
        found = {one.name: tar.extractfile(one) for one in tar}
        return {name: file.read() for name, file in found.items() if file is not None}


def pack(place: Path, files: dict[str, bytes]) -> None:
    """Make the backup anew of these files, in this order."""
    if place.suffix != ".tar":
        shutil.rmtree(place)
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return
    with tarfile.open(place, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def findings(state_dir: Path, place: Path) -> set[tuple[str, str]]:
    told = backup(state_dir, "verify", str(place), code=Exit.FAILED)
    assert told["ok"] is False
    return {(one["path"], one["reason"]) for one in told["findings"]}


def segments(files: dict[str, bytes]) -> list[str]:
    return [name for name in files if name.endswith(".log")]


# --- create and verify -----------------------------------------------------------------------


def test_a_backup_has_the_log_to_its_end_and_its_sidecars_and_nothing_ahead(
    ledger: Path, whole: Path
) -> None:
    told = backup(ledger, "verify", str(whole))
    assert told["ok"]
    assert told["roots_checked"]
    assert told["log"]["last_seq"] == 300
    assert told["log"]["first_seq"] > 1, "the oldest segment was trimmed"
    code, out, _ = run(ledger, "log", "ls", "--json")
    assert code == 0
    states = {f"log/{one['segment_no']:020}.log": one for one in json.loads(out)["segments"]}
    there = [name for name, one in states.items() if one["state"] in ("sealed", "active")]
    files = members(whole)
    assert segments(files) == there
    active = there[-1]
    assert len(files[active]) == states[active]["used_bytes"], "cut behind the last group"
    sidecars = {f"log/{one['segment_no']:020}.keys" for one in states.values()
                if one["sidecar"] == "whole"} - {active.replace(".log", ".keys")}  # fmt: skip
    assert {name for name in files if name.endswith(".keys")} == sidecars
    assert not any(name in files for name in ("log/trim", "log/LOCK", "log/next"))
    if whole.is_dir():
        modes = {one.stat().st_mode & 0o077 for one in whole.rglob("*")}
        assert modes == {0}, "nobody else may read it"
    else:
        assert whole.stat().st_mode & 0o077 == 0


def test_verify_finds_a_flipped_bit_in_every_file(ledger: Path, copy: Path) -> None:
    chance = random.Random(7)
    if copy.is_dir():
        for name, content in members(copy).items():
            at = chance.randrange(len(content))
            altered = bytearray(content)
            altered[at] ^= 1 << chance.randrange(8)
            (copy / name).write_bytes(altered)
            if name == "manifest.json":
                assert "damaged" in backup(ledger, "verify", str(copy), code=1)["stderr"]
            else:
                assert (name, "wrong-checksum") in findings(ledger, copy)
            (copy / name).write_bytes(content)
        return
    content = copy.read_bytes()
    length = len(content)
    # The first header, a member's padding, the end, and anywhere.
    places = [0, 150, length - 1, length - 9000, *(chance.randrange(length) for _ in range(8))]
    for at in places:
        altered = bytearray(content)
        altered[at] ^= 1 << chance.randrange(8)
        copy.write_bytes(altered)
        assert run(ledger, "backup", "verify", str(copy))[0] == Exit.FAILED, at
    copy.write_bytes(content)
    assert backup(ledger, "verify", str(copy))["ok"]


def test_verify_finds_a_file_that_is_missing_or_too_many(ledger: Path, copy: Path) -> None:
    files = members(copy)
    for name in segments(files)[-2:]:
        pack(copy, {one: content for one, content in files.items() if one != name})
        assert (name, "missing-file") in findings(ledger, copy)
    manifest = files.pop("manifest.json")
    more = {"log/" + "9" * 20 + ".keys": b"x", "followers/other": b"{}", "log/stray": b""}
    for name, content in more.items():
        pack(copy, {**files, name: content, "manifest.json": manifest})
        assert (name, "extra-file") in findings(ledger, copy)
    pack(copy, files)
    assert "no backup" in backup(ledger, "verify", str(copy), code=1)["stderr"]


def test_verify_finds_a_truncated_and_a_swapped_segment(ledger: Path, copy: Path) -> None:
    files = members(copy)
    one, two = segments(files)[:2]
    pack(copy, {**files, one: files[one][:-4096]})
    assert (one, "wrong-size") in findings(ledger, copy)
    pack(copy, {**files, one: files[two], two: files[one]})
    found = findings(ledger, copy)
    assert {one, two} <= {name for name, _ in found}


def test_verify_finds_a_log_that_is_not_the_one_of_its_manifest(ledger: Path, copy: Path) -> None:
    """Somebody who has made all checksums right is told by the chain of groups."""
    from msgspec.structs import replace

    from certeusd.backup import manifest as manifests
    from certeusd.backup.manifest import FileEntry

    files = members(copy)
    told = manifests.parse(files.pop("manifest.json"), copy)
    last = segments(files)[-1]
    gone = {name: content for name, content in files.items() if name != last}
    assert told.log is not None
    told = replace(told, log=replace(told.log, first_seq=told.log.first_seq - 1))
    made = manifests.Manifest(
        **{name: getattr(told, name) for name in told.__struct_fields__ if name != "files"},
        files=[FileEntry(name, len(content), hashlib.sha256(content).hexdigest())
               for name, content in gone.items()],
    )  # fmt: skip
    pack(copy, {**gone, "manifest.json": manifests.render(made)})
    wrong = {("log", "wrong-segments"), ("log", "wrong-begin"), ("log", "wrong-end")}
    assert wrong <= findings(ledger, copy)


def test_create_refuses_what_exists_and_a_disk_without_room(
    ledger: Path, whole: Path, tmp_path: Path
) -> None:
    before = members(whole)
    assert "exists" in backup(ledger, "create", str(whole), code=1)["stderr"]
    assert members(whole) == before
    assert "choose another" in backup(ledger, "create", "/proc/backup", code=1)["stderr"]
    with pytest.raises(ExitError, match="choose another disk"):
        check_room(tmp_path / "backup", 1 << 62)


def test_a_create_that_is_killed_leaves_nothing_that_looks_like_a_backup(
    ledger: Path, tmp_path: Path
) -> None:
    for form in FORMS:
        place = tmp_path / form
        process = started(ledger, tmp_path, "create", str(place), stop="log/")
        assert process == -signal.SIGKILL
        assert not place.exists()
        assert list(tmp_path.glob("*.partial*"))
        partial = next(one for one in tmp_path.glob("*.partial*") if "staging" not in one.name)
        code, _, err = run(ledger, "backup", "verify", str(partial))
        assert (code, "Traceback" in err) == (Exit.FAILED, False)
        backup(ledger, "create", str(place))
        assert backup(ledger, "verify", str(place))["ok"]
        assert not list(tmp_path.glob("*.partial*")), "what was left is gone"


def started(
    state: Path, folder: Path, *verb: str, stop: str, by: signal.Signals = signal.SIGKILL
) -> int:
    """Run a verb of `backup`, ended when the first file of that prefix has been told."""
    (flag := folder / "reached").unlink(missing_ok=True)
    script = (
        "import os, select, signal, sys\n"
        # Who is started in the background by a shell has inherited that it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from certeusd.cli import backup\n"
        "def tell(self, name, length):\n"
        f"    if name.startswith({stop!r}):\n"
        f"        open({str(flag)!r}, 'w').close()\n"
        "        while True: select.select([], [], [], 0.05)\n"  # Not pause(2), which has a race.
        "backup.Progress.tell = tell\n"
        "from certeusd.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-P", "-c", script, *places(state), "backup", *verb]
    env = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=env) as process:
        try:
            wait_until("the file", lambda: flag.exists() or process.poll() is not None)
            process.send_signal(by)
            process.communicate(timeout=60)
            return process.returncode
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_verb_leaves_nothing_at_all(
    ledger: Path, whole: Path, tmp_path: Path, by: signal.Signals, code: int
) -> None:
    place, state = tmp_path / whole.name, tmp_path / "state"
    assert started(ledger, tmp_path, "create", str(place), stop="log/", by=by) == code
    assert [one.name for one in tmp_path.iterdir()] == ["reached"]
    assert started(ledger, tmp_path, "verify", str(whole), stop="log/", by=by) == code
    assert [one.name for one in tmp_path.iterdir()] == ["reached"]
    assert started(state, tmp_path, "restore", str(whole), stop="log/", by=by) == code
    assert [one.name for one in state.iterdir()] == ["lock"]


# --- restore ---------------------------------------------------------------------------------


def test_a_restore_brings_back_the_same_log_and_key(
    ledger: Path, whole: Path, tmp_path: Path
) -> None:
    state = tmp_path / "new" / "state"
    backup(state, "restore", str(whole))
    code, out, _ = run(state, "log", "check", "--json")
    assert code == 0
    assert json.loads(out)["roots_checked"]
    assert run(state, "log", "export")[1] == run(ledger, "log", "export")[1]
    assert (state / "keys" / "log.key").read_bytes() == LOG_KEY
    assert not (state / "restoring").exists()
    assert {one.stat().st_mode & 0o777 for one in (state / "log").iterdir()} == {0o600}


def test_a_restore_refuses_what_is_not_empty_and_what_is_in_use(
    ledger: Path, whole: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (state / "log").mkdir(parents=True)
    assert "not empty" in backup(state, "restore", str(whole), code=1)["stderr"]
    assert list((state / "log").iterdir()) == []
    (state / "log").rmdir()
    from certeusd.supervisor import locks

    held = locks.hold(state / "lock")
    try:
        refused = backup(state, "restore", str(whole), code=Exit.TRY_AGAIN)
        assert f"pid {os.getpid()}" in refused["stderr"]
    finally:
        os.close(held)
    backup(state, "restore", str(whole))


def test_a_restore_wants_the_right_key_or_to_be_told_that_it_is_lost(
    ledger: Path, tmp_path: Path
) -> None:
    place, state = tmp_path / "backup", tmp_path / "state"
    backup(ledger, "create", str(place))
    assert "keys/log.key" not in members(place)
    assert LOG_KEY not in b"".join(members(place).values())
    assert "--key" in backup(state, "restore", str(place), code=1)["stderr"]
    wrong = tmp_path / "wrong.key"
    wrong.write_bytes(bytes(32))
    refused = backup(state, "restore", str(place), "--key", str(wrong), code=1)
    assert "not the key of this log" in refused["stderr"]
    backup(state, "restore", str(place), "--key", str(ledger / "keys" / "log.key"))
    assert (state / "keys" / "log.key").read_bytes() == LOG_KEY
    other = tmp_path / "other"
    backup(other, "restore", str(place), "--without-key")
    assert list((other / "keys").iterdir()) == []


def test_a_damaged_backup_is_not_restored(ledger: Path, copy: Path, tmp_path: Path) -> None:
    files = members(copy)
    state = tmp_path / "state"
    # One that the check of the log would see, and one that only its checksum tells.
    for name in (segments(files)[0], "config/certeus.toml"):
        altered = bytearray(files[name])
        altered[len(altered) // 2] ^= 1
        pack(copy, {**files, name: bytes(altered)})
        assert name in backup(state, "restore", str(copy), code=1)["stderr"]
        assert [one.name for one in state.iterdir()] == ["lock"], "as it was before"


def assert_unusable(state: Path) -> None:
    """The daemon does not start in what a restore has not finished."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "certeusd", *places(state)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == Exit.CONFIGURATION
    assert "a restore into it was not finished" in done.stderr


@pytest.mark.parametrize("at", ["log/", "keys/", "config/"])
def test_a_killed_restore_is_told_and_can_be_run_again(
    ledger: Path, whole: Path, tmp_path: Path, at: str
) -> None:
    state = tmp_path / "state"
    code = started(state, tmp_path, "restore", str(whole), stop=at)
    assert code == -signal.SIGKILL
    assert_unusable(state)
    backup(state, "restore", str(whole))
    assert run(state, "log", "export")[1] == run(ledger, "log", "export")[1]


def test_a_restore_that_is_killed_while_it_moves_begins_anew(
    ledger: Path, whole: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    backup(state, "restore", str(whole))
    # As after a kill between two of the moves.
    (state / "restoring.whole").mkdir()
    (state / "log").rename(state / "restoring.whole" / "log")
    assert_unusable(state)
    backup(state, "restore", str(whole))
    assert run(state, "log", "check")[0] == 0


def test_names_outside_of_a_backup_are_never_written(
    ledger: Path, copy: Path, tmp_path: Path
) -> None:
    if copy.is_dir():
        (copy / "log" / "stray").symlink_to("/etc/passwd")
        assert ("log/stray", "extra-file") in findings(ledger, copy)
        return
    files = members(copy)
    for name in ("../evil", "/tmp/certeus-evil", "log/../../evil", "followers/UP"):
        pack(copy, {name: b"x", **files})
        assert (name, "extra-file") in findings(ledger, copy)
        backup(tmp_path / "deep" / "state", "restore", str(copy), code=1)
        assert not list(tmp_path.rglob("evil"))
        assert not Path("/tmp/certeus-evil").exists()


def test_an_empty_log_is_backed_up_and_restored(tmp_path: Path) -> None:
    state, place, new = tmp_path / "state", tmp_path / "backup.tar", tmp_path / "new"
    for inner in ("log", "keys", "followers"):
        (state / inner).mkdir(parents=True)
    made = backup(state, "create", str(place))
    assert made["log"] is None
    assert made["log_id"] is None
    assert backup(state, "verify", str(place))["ok"]
    backup(new, "restore", str(place))
    assert list((new / "log").iterdir()) == []


def test_an_ordinary_user_backs_up_and_restores_what_is_its_own(
    ledger: Path, as_nobody: Callable[..., tuple[int, str, str]], shared: Path
) -> None:
    state = shared / "state"
    shutil.copytree(ledger, state)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", shared], check=True)
    code, _, err = as_nobody(state, "backup", "create", str(shared / "b.tar"), "--with-key")
    assert code == 0, err
    code, _, err = as_nobody(shared / "new", "backup", "restore", str(shared / "b.tar"))
    assert code == 0, err
    assert {one.stat().st_uid for one in (shared / "new").rglob("*")} == {NOBODY}
    # What root restores belongs to who had it.
    backup(shared / "root", "restore", str(shared / "b.tar"), "--owner", "nobody")
    assert {one.stat().st_uid for one in (shared / "root").rglob("*")} == {NOBODY}
    os.chmod(state / "log", 0o700)
    os.chown(state / "log", 0, 0)
    code, _, err = as_nobody(state, "backup", "create", str(shared / "c"))
    assert (code, "Traceback" in err) == (Exit.NOT_ALLOWED, False)


@pytest.fixture
def shared() -> Iterator[Path]:
    from support.daemon import scratch_dir

    with scratch_dir() as folder:
        yield folder


@pytest.fixture
def as_nobody() -> Callable[..., tuple[int, str, str]]:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")

    def run_as(state: Path, *verb: str) -> tuple[int, str, str]:
        """In a fork, so that a checkout that user cannot enter is imported before."""
        for name in ("create", "verify", "restore"):
            importlib.import_module(f"certeusd.backup.{name}")
        importlib.import_module("certeusd.cli.backup")
        from certeusd.cli import main as program

        output = state.parent / "said"
        pid = os.fork()
        if pid == 0:
            descriptor = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = sys.stderr = os.fdopen(descriptor, "w")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            sys.argv = ["certeus", *places(state), *verb]
            code = 70
            try:
                program.main()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), "", output.read_text()

    return run_as
