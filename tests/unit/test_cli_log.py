"""`certeus log`: what each verb shows of a log, whole and damaged, and that none of them writes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd._native import SegmentBuilder
from certeusd.exits import Exit
from support.log_machine import LOG_KEY, Client, Ledger, Offered

PROGRAM = [sys.executable, "-P", "-m", "certeusd.cli.main"]
AT_NS = 1_700_000_000_000_000_000
NOBODY = 65534
READERS = (["ls"], ["ls", "--json"], ["check"], ["check", "--json"], ["inspect", "3"],
           ["inspect", "1..9", "--json"], ["export"], ["export", "2..5"])  # fmt: skip


def certeus(state_dir: Path, *verb: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    places = ["--state-dir", str(state_dir), "--runtime-dir", str(state_dir / "run")]
    done = subprocess.run(
        [*prefix, *PROGRAM, *places, "log", *verb], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Whatever a write would change: names, inodes, times, bytes."""
    found: dict[str, tuple[int, int, int, str]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        stat = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, content)
    return found


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Two segments; 1..3 in the first, 6..8 in the second, whose header claims 4 and 5."""
    for inner in ("log", "keys"):
        (tmp_path / inner).mkdir()
    (tmp_path / "keys" / "log.key").write_bytes(LOG_KEY)
    builder = SegmentBuilder(tmp_path / "log", bytes(16), LOG_KEY)
    builder.segment()
    builder.producer(1, "default", "made", uid=7)
    for ticket in (1, 2, 3):
        builder.record(1, ticket, "line", b'{"n": %d}' % ticket, id=f"id-{ticket}")
    builder.commit(AT_NS)
    builder.segment(before_next_seq=6)
    builder.producer(1, "default", "made", uid=7)
    for ticket in (6, 7, 8):
        builder.record(1, ticket, "line", b'{"n": %d}' % ticket)
        builder.commit(AT_NS + ticket)
    return tmp_path


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """The state directory of a real log writer, stopped: trimmed, sealed, active, spare."""
    ledger = Ledger(tmp_path)
    client = Client(0, os.urandom(16))
    ledger.connect(client)
    assert client.ring is not None
    for number in range(300):
        data = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 3500)
        assert client.ring.append("t", data, False, f"id-{number}")
        client.offered[number + 1] = Offered(data, f"id-{number}", bad=False)
        if number % 10 == 9:
            ledger.settle()
        if number == 200:
            ledger.board.set("follower", "trim_segment", 2)
    ledger.settle()
    ledger.stop_log()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "log.key").write_bytes(LOG_KEY)
    (tmp_path / "log-0").rename(tmp_path / "log")
    yield tmp_path
    ledger.close()


def damage(state_dir: Path, text: bytes) -> None:
    """Change one byte of a logged event."""
    for path in sorted((state_dir / "log").glob("*.log")):
        content = bytearray(path.read_bytes())
        if text in content:
            content[content.index(text) + 1] ^= 1
            path.write_bytes(content)
            return
    raise AssertionError("nothing to damage")


# --- ls --------------------------------------------------------------------------------------


def test_ls_tells_what_each_number_of_the_directory_is(written: Path) -> None:
    code, out, err = certeus(written, "ls", "--json")
    assert code == 0, err
    segments = json.loads(out)["segments"]
    states = [one["state"] for one in segments]
    assert states[0] == "trimmed"
    active = states.index("active")
    assert set(states[active + 1 :]) == {"spare"}
    assert set(states[1:active]) == {"sealed"}
    assert {one["sidecar"] for one in segments[:active]} == {"whole"}
    bare = [one["records"] for one in segments if one["sidecar"] == "none"]
    assert sum(one["keys"] for one in segments) + sum(bare) == 300
    assert (segments[0]["first_seq"], segments[active]["last_seq"]) == (1, 300)
    assert all(one["epoch"] == 1 and one["created_at_ns"] for one in segments[1:active])
    assert certeus(written, "ls")[1].count("sealed") == states.count("sealed")


def test_ls_prints_one_line_a_segment(built: Path) -> None:
    code, out, _ = certeus(built, "ls")
    assert code == 0
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert rows == [
        "segment state first seq last seq records used file epoch created last sidecar",
        "1 sealed 1 3 3 8.0 KiB 8.0 KiB 1 1970-01-01T00:00:00.000Z 2023-11-14T22:13:20.000Z none",
        "2 active 6 8 3 16.0 KiB 16.0 KiB 1 1970-01-01T00:00:00.000Z 2023-11-14T22:13:20.000Z none",
    ]


# --- check -----------------------------------------------------------------------------------


def test_check_reads_sidecars_too(written: Path) -> None:
    assert certeus(written, "check")[0] == 0
    sidecars = sorted((written / "log").glob("*.keys"))
    for sidecar in (sidecars[0], sidecars[-1]):
        whole = sidecar.read_bytes()
        sidecar.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
        code, out, _ = certeus(written, "check", "--json")
        assert code == Exit.FAILED
        reasons = {(one["segment_no"], one["reason"]) for one in json.loads(out)["findings"]}
        assert reasons == {(int(sidecar.stem), "sidecar-damaged")}
        sidecar.write_bytes(whole)
    content = bytearray(sidecars[-2].read_bytes())
    shutil.copy(sidecars[-1], sidecars[-2])
    assert certeus(written, "check")[0] == Exit.FAILED, "another segment's sidecar"
    sidecars[-2].write_bytes(forged(content))
    code, out, _ = certeus(written, "check", "--json")
    assert code == Exit.FAILED
    assert [one["reason"] for one in json.loads(out)["findings"]] == ["sidecar-differs"]
    sidecars[-2].unlink()
    assert certeus(written, "check")[0] == 0, "a start reads the segment instead"


def forged(content: bytearray) -> bytes:
    """A sidecar whose checksum is right, and whose first key is another one."""
    content[56] ^= 1
    content[12:16] = crc32c(bytes(content[16:])).to_bytes(4, "little")
    return bytes(content)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# --- inspect ---------------------------------------------------------------------------------


def test_inspect_shows_a_record_and_all_that_is_derived_from_it(built: Path) -> None:
    code, out, err = certeus(built, "inspect", "2", "--json")
    assert code == 0, err
    told = json.loads(out)
    (record,) = told["records"]
    assert (told["missing"], told["keyed"]) == ([], True)
    path = built / "log" / f"{record['segment_no']:020}.log"
    content = path.read_bytes()
    logged = content[record["offset"] : record["offset"] + record["bytes"]]
    assert logged.endswith(b'{"n": 2}')
    key, no, ticket = LOG_KEY, (1).to_bytes(8, "little"), (2).to_bytes(8, "little")
    assert len(record["leaf"]) == 64
    assert record["leaf"] not in (one["leaf"] for one in others(built))
    expected = hashlib.sha256(key + b"dedup")
    for part in (b"default", b"made", b"id-2"):
        expected.update(len(part).to_bytes(8, "little") + part)
    assert record["dedup_key"] == expected.hexdigest()[:32]
    assert no in logged[:64]
    assert ticket in logged[:64]
    assert record["uid"] == 7
    group = record["group"]
    assert (group["group"], group["first_seq"], group["last_seq"]) == (1, 1, 3)
    assert (group["offset"], group["root_matches"]) == (4096, True)
    assert content[4096 + 96 : 4096 + 128].hex() == group["root"]
    assert json.loads(record["event"])["data"] == {"n": 2}


def others(state_dir: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for seq in ("1", "3"):
        found += json.loads(certeus(state_dir, "inspect", seq, "--json")[1])["records"]
    return found


def test_inspect_prints_nine_lines_a_record(built: Path) -> None:
    code, out, _ = certeus(built, "inspect", "7")
    lines = out.splitlines()
    assert code == 0
    assert lines[:4] == [
        "seq 7",
        "  record   segment 2, offset 8320, 47 bytes",
        "  group    3: seq 7..7, offset 8192, 4096 bytes, 0 entries, epoch 1",
        "  recorded 2023-11-14T22:13:20.000Z",
    ]
    assert lines[4].endswith("(matches the records)")
    assert lines[7:9] == ["  dedup    none: no id of its own", "  uid      7"]
    assert '"seq": 7' in lines[9]
    (built / "keys" / "log.key").unlink()
    without = certeus(built, "inspect", "7")[1]
    assert "(not computed again: no key)" in without
    assert "  leaf     unknown: no key" in without


def test_inspect_says_why_a_number_is_not_there(built: Path) -> None:
    code, out, _ = certeus(built, "inspect", "3..7", "--json")
    told = json.loads(out)
    assert code == Exit.FAILED
    assert [one["seq"] for one in told["records"]] == [3, 6, 7]
    gaps = [(one["first_seq"], one["last_seq"], one["reason"]) for one in told["missing"]]
    assert gaps == [(4, 5, "lost")]
    code, out, _ = certeus(built, "inspect", "9..12")
    assert (code, out) == (Exit.FAILED, "seq 9..12: not yet: the log ends before it\n")
    damage(built, b'"n": 7}')
    code, out, _ = certeus(built, "inspect", "7")
    assert code == Exit.FAILED
    assert out.startswith("seq 7..7: damaged")
    assert certeus(built, "inspect", "0")[0] == Exit.USAGE
    assert certeus(built, "inspect", "5..4")[0] == Exit.USAGE
    assert certeus(built, "inspect", "1..99999")[0] == Exit.USAGE


def test_inspect_says_that_a_number_is_trimmed(written: Path) -> None:
    code, out, _ = certeus(written, "inspect", "1")
    assert code == Exit.FAILED
    assert "trimmed: every required follower has it" in out


# --- export ----------------------------------------------------------------------------------


def test_export_prints_exactly_what_tail_prints(built: Path) -> None:
    code, out, err = certeus(built, "export")
    assert code == Exit.FAILED, "4 and 5 are not there"
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2, 3, 6, 7, 8]
    assert err == (
        "certeus: seq 4..5 missing: lost: a start found the log shorter than what was"
        " acknowledged\n"
    )
    code, out, err = certeus(built, "export", "6..7")
    assert (code, err) == (0, "")
    assert out == (
        '{"seq": 6, "recorded_at": "2023-11-14T22:13:20.000Z", "specversion": "1.0",'
        ' "source": "made", "type": "line", "tenant": "default", "verdict": "accepted",'
        ' "id": "1:6", "data": {"n": 6}}\n'
        '{"seq": 7, "recorded_at": "2023-11-14T22:13:20.000Z", "specversion": "1.0",'
        ' "source": "made", "type": "line", "tenant": "default", "verdict": "accepted",'
        ' "id": "1:7", "data": {"n": 7}}\n'
    )


@pytest.mark.parametrize(("which", "expected"), [("1..3", 0), ("2..2", 0), ("3..4", 1), ("5", 1),
                                                 ("8", 0), ("8..9", 1), ("99", 1)])  # fmt: skip
def test_export_exits_1_when_a_number_of_the_range_is_missing(
    built: Path, which: str, expected: int
) -> None:
    code, out, err = certeus(built, "export", which)
    assert code == expected, err
    first, _, last = which.partition("..")
    wanted = set(range(int(first), int(last or first) + 1))
    shown = {json.loads(line)["seq"] for line in out.splitlines()}
    assert shown == wanted & {1, 2, 3, 6, 7, 8}
    assert bool(err) == bool(expected)


def test_export_tells_damage_and_trimming(written: Path, tmp_path: Path) -> None:
    damage(written, b'"n":250,')
    outside = tmp_path.parent / f"{tmp_path.name}.ndjson"
    code, out, _ = certeus(written, "export", "1..300", "--output", str(outside), "--json")
    told = json.loads(out)
    shown = [json.loads(line)["seq"] for line in outside.read_text().splitlines()]
    outside.unlink()
    assert code == Exit.FAILED
    assert told["events"] == len(shown)
    missing: set[int] = set()
    for gap in told["gaps"]:
        missing |= set(range(gap["first_seq"], gap["last_seq"] + 1))
    assert 251 in missing
    assert not missing & set(shown)
    assert sorted(missing | set(shown)) == list(range(1, 301))
    assert {gap["reason"] for gap in told["gaps"]} == {"trimmed", "damaged"}


def test_export_ends_in_silence_when_its_reader_has_enough(written: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*PROGRAM, "--state-dir", str(written), "log", "export"]
    done = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (Exit.FAILED, b"")


def test_export_does_not_write_into_the_state_directory(built: Path) -> None:
    code, _, err = certeus(built, "export", "--output", str(built / "log" / "x"))
    assert (code, not (built / "log" / "x").exists()) == (Exit.USAGE, True)
    assert "choose another place" in err
    assert certeus(built, "export", "--json")[0] == Exit.USAGE


# --- nothing is written ----------------------------------------------------------------------


def test_readers_leave_every_byte_time_and_name_as_they_were(written: Path) -> None:
    before = snapshot(written)
    for verb in READERS:
        certeus(written, *verb)
        assert snapshot(written) == before, verb


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts, and becomes another uid")
@pytest.mark.parametrize("how", ["read-only mount", "another uid"])
def test_readers_need_no_right_to_write(written: Path, how: str) -> None:
    prefix: tuple[str, ...]
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
              "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
              "--bounding-set=-all,+dac_read_search")  # fmt: skip
    if how == "read-only mount":
        mount = f"mount --bind {written} {written} && mount -o remount,ro,bind {written}"
        prefix = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")
    expected = [certeus(written, *verb) for verb in READERS]
    before = snapshot(written)
    assert [certeus(written, *verb, prefix=prefix) for verb in READERS] == expected
    assert expected[0][0] == 0
    assert snapshot(written) == before


# --- repair ----------------------------------------------------------------------------------


def test_repair_shows_and_does_what_a_start_would_do(written: Path) -> None:
    code, out, _ = certeus(written, "repair")
    assert (code, out.startswith("nothing to repair")) == (0, True)
    files = sorted((written / "log").glob("*.log"))
    newest = next(path for path in files if b'"n":270,' in path.read_bytes())
    ahead = {str(path) for path in files if path > newest}
    damage(written, b'"n":270,')
    before = snapshot(written / "log")
    code, out, err = certeus(written, "repair", "--json")
    told = json.loads(out)
    assert code == Exit.TRY_AGAIN
    assert "nothing was done: give --yes" in err
    assert (told["damage"], told["done"]) == (True, False)
    (gap,) = told["gaps"]
    assert gap["first_seq"] <= 271 <= gap["last_seq"]
    assert snapshot(written / "log") == before
    code, out, err = certeus(written, "repair", "--yes", "--json")
    assert (code, json.loads(out)["gaps"]) == (0, [gap]), err
    assert list((written / "quarantine").iterdir())
    after = snapshot(written / "log")
    made = ahead | {str(written / "log"), str(newest), str(newest.with_suffix(".keys"))}
    made |= {str(written / "log" / "trim")}
    made.add(str(written / "log" / "LOCK"))  # It names who holds it.
    for name in set(before) - made:
        assert after[name] == before[name], name
    kept = newest.read_bytes()
    assert before[str(newest)][3] == hashlib.sha256(kept + bytes(1 << 18)[len(kept) :]).hexdigest()
    code, out, _ = certeus(written, "repair", "--json")
    assert (code, json.loads(out)["damage"]) == (0, False), "recorded already"
    code, out, _ = certeus(written, "export", f"{gap['first_seq']}..{gap['last_seq']}")
    assert (code, out) == (Exit.FAILED, "")


def test_repair_needs_the_daemon_stopped_and_its_own_user(written: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path\n"
         "from certeusd.supervisor import locks\n"
         f"locks.hold(Path({str(written / 'lock')!r})); print('held', flush=True)\n"
         "sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        damage(written, b'"n":270,')
        code, _, err = certeus(written, "repair", "--yes")
        assert code == Exit.TRY_AGAIN
        assert f"in use by pid {holder.pid}" in err
        holder.communicate()
    if os.geteuid() == 0:
        os.chown(written / "log", NOBODY, NOBODY)
        code, _, err = certeus(written, "repair", "--yes")
        assert code == Exit.NOT_ALLOWED
        assert f"it belongs to uid {NOBODY}" in err
