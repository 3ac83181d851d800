"""Evidence: what was changed is noticed, whoever changed it and however well."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from certeus_bench import evidence
from certeus_bench.evidence import EvidenceError
from certeus_bench.results import Result, Run
from support.bench_results import fake, latency, rate, result, run

KEY = SigningKey(bytes(range(32)))
PUBLIC = KEY.verify_key.encode().hex()
RUN = run(
    result("ring/one-way", latency(200, 400), bytes=64),
    result("durable/ack"),
    result("durable/throughput", rate(1_000_000, read_sum=3)),
    absent={"ring/one-way of iceoryx2": "kein Übersetzer\nzweite Zeile"},
    memory_gib=16,
)
OTHER_LATENCY = RUN.results[1].latency
assert OTHER_LATENCY is not None
SIGNED = evidence.encode(RUN, KEY)
UNSIGNED = evidence.encode(RUN, None)


def faults(data: bytes, public_key: str | None = None) -> str:
    with pytest.raises(EvidenceError) as raised:
        evidence.verify(data, public_key)
    return str(raised.value)


def resigned(changed: Run) -> bytes:
    """What somebody with the key would write."""
    return evidence.encode(changed, KEY)


def changed_result(position: int, **changes: object) -> Run:
    results: list[Result] = list(RUN.results)
    results[position] = msgspec.structs.replace(results[position], **changes)
    return msgspec.structs.replace(RUN, results=results)


def test_signed_run_comes_back_whole() -> None:
    back = evidence.verify(SIGNED, PUBLIC)
    assert back.run == RUN
    assert back.signature is not None
    assert back.signature.public_key == PUBLIC


def test_unsigned_run_is_readable_and_says_that_nobody_signed_it() -> None:
    assert evidence.verify(UNSIGNED) == (RUN, None)
    assert "nobody signed it" in faults(UNSIGNED, PUBLIC)


def test_whole_numbers_where_fractions_belong_are_evidence_too() -> None:
    whole = run(result("durable/ack", latency(200, 400, facts={"files": 3}, warmup_seconds=1)))
    assert evidence.verify(evidence.encode(whole, KEY)).run == whole


def test_file_is_json_that_every_program_can_read() -> None:
    document = json.loads(SIGNED)
    assert list(document) == ["schema_version", "run", "signature"]
    assert document["run"]["results"][0]["measurement"]["written_sum"] == 2**64 - 1
    assert json.loads(UNSIGNED)["signature"] is None


def test_signature_can_be_checked_without_this_program() -> None:
    document = json.loads(SIGNED)
    begin = SIGNED.index(b'"run": ') + len(b'"run": ')
    signed = SIGNED[begin : SIGNED.index(b',\n"signature"')]
    signature = bytes.fromhex(document["signature"]["signature"])
    VerifyKey(bytes.fromhex(PUBLIC)).verify(signed, signature)


@settings(max_examples=300)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, mask: int) -> None:
    changed = bytearray(SIGNED)
    changed[position] ^= mask
    assert faults(bytes(changed), PUBLIC)


@settings(max_examples=100)
@given(st.integers(0, len(SIGNED) - 1), st.sampled_from([b" ", b"\n", b"0", b'"a":1,']))
def test_any_byte_that_is_put_in_is_noticed_in_the_signed_file(position: int, more: bytes) -> None:
    assert faults(SIGNED[:position] + more + SIGNED[position:], PUBLIC)


def test_cut_file_is_told() -> None:
    assert "no evidence" in faults(SIGNED[:-10])
    assert "no evidence" in faults(b"")
    assert "no evidence" in faults(b"[1]")


def test_key_that_stands_there_twice_is_told() -> None:
    twice = SIGNED.replace(b'"score":', b'"score": 1.0,\n  "score":', 1)
    assert "the file was edited" in faults(twice)


def test_fields_that_nobody_knows_are_told() -> None:
    more = UNSIGNED.replace(b'"commit":', b'"comment": "",\n  "commit":', 1)
    assert "was edited" in faults(more)


@pytest.mark.parametrize("version", [0, 2, 1000])
def test_unknown_schema_version_is_refused(version: int) -> None:
    other = UNSIGNED.replace(b'"schema_version": 1', b'"schema_version": %d' % version)
    assert f"schema version {version} is not known" in faults(other)


def test_schema_version_of_the_run_must_be_that_of_the_file() -> None:
    data = evidence.encode(msgspec.structs.replace(RUN, schema_version=2), None)
    assert "is not the file's" in faults(data)


def test_run_signed_by_another_key_is_refused() -> None:
    other = SigningKey(bytes(32))
    assert f"not by {PUBLIC}" in faults(evidence.encode(RUN, other), PUBLIC)


def test_signature_of_another_run_is_refused() -> None:
    other = json.loads(evidence.encode(msgspec.structs.replace(RUN, commit="f" * 12), KEY))
    mine = json.loads(SIGNED)["signature"]["signature"].encode()
    mixed = SIGNED.replace(mine, other["signature"]["signature"].encode())
    assert "not the one that was signed" in faults(mixed)


def test_signature_of_another_kind_is_refused() -> None:
    assert "only ed25519" in faults(SIGNED.replace(b'"ed25519"', b'"ed448"'))
    for other in (b"zz", PUBLIC.upper().encode(), PUBLIC.encode() + b" "):
        assert "not the one that was signed" in faults(SIGNED.replace(PUBLIC.encode(), other))


@pytest.mark.parametrize(
    ("forged", "told"),
    [
        (changed_result(0, per_second=5e9), "ring/one-way of certeus: per_second is 5000000000.0"),
        (changed_result(2, label="sound"), "durable/throughput of certeus: label is sound"),
        (changed_result(2, reasons=[]), "durable/throughput of certeus: reasons is []"),
        (
            changed_result(0, latency=msgspec.structs.replace(OTHER_LATENCY, p50_ns=9)),
            "ring/one-way of certeus: p50_ns is 9, the measurements give 200",
        ),
        (changed_result(0, latency=None), "ring/one-way of certeus: latency is None"),
        (
            changed_result(1, measurement=fake(operations=9_999)),
            "durable/ack of certeus: per_second is 1000.0, the measurements give 999.9",
        ),
        (msgspec.structs.replace(RUN, score=1.0), "score is 1.0, the gates give"),
        (msgspec.structs.replace(RUN, gates=RUN.gates[1:]), f"{RUN.gates[0].metric!r} is missing"),
        (msgspec.structs.replace(RUN, absent={}), "is not one of this run"),
        (msgspec.structs.replace(RUN, gates=RUN.gates[::-1]), "out of order"),
        (
            msgspec.structs.replace(
                RUN, gates=[*RUN.gates[:-1], msgspec.structs.replace(RUN.gates[-1], passed=True)]
            ),
            "passed is True, the measurements give False",
        ),
    ],
)
def test_signed_figure_that_does_not_follow_from_its_measurement_is_refused(
    forged: Run, told: str
) -> None:
    assert told in faults(resigned(forged), PUBLIC)


def test_everything_that_differs_is_named_at_once() -> None:
    forged = changed_result(0, per_second=5e9, label="artifact")
    assert len(faults(resigned(forged)).splitlines()) == 2
