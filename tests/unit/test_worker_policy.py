"""What the worker decides without touching a socket."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd.config import IngestSection, LimitsSection
from certeusd.peer import Peer
from certeusd.rule import OVERFLOW_ID, Rule
from certeusd.worker.access import decide
from certeusd.worker.handshake import (
    ENDED,
    HELLO_TIMEOUT_S,
    UNCONFIRMED_MAX,
    Hello,
    Refusal,
    Unconfirmed,
    encode_ended,
    encode_welcome,
    is_goodbye,
    parse_hello,
)
from certeusd.worker.ledger import HEARTBEAT_MAX_S, Caps, Ledger, is_over_share

RING = 1 << 16
RING_MAX = 16 << 20


def rule(
    uids: tuple[int, ...] = (), gids: tuple[int, ...] = (), sources: tuple[str, ...] = ("*",)
) -> Rule:
    return Rule.of(IngestSection(uids=uids, gids=gids, sources=sources))


def peer(uid: int, *gids: int) -> Peer:
    return Peer(pid=1, uid=uid, gids=frozenset(gids))


# --- access ------------------------------------------------------------------------------------


def test_uids_and_gids_admit() -> None:
    listener = rule(uids=(1000,), gids=(50, 51))
    assert listener.admits(peer(1000))
    assert listener.admits(peer(1, 7, 51))
    assert not listener.admits(peer(1, 7))


def test_a_rule_without_numbers_admits_nobody() -> None:
    assert not rule().admits(peer(0, 0))


def test_ids_that_the_kernel_could_not_translate_never_match() -> None:
    listener = rule(uids=(OVERFLOW_ID,), gids=(OVERFLOW_ID,))
    assert not listener.admits(peer(OVERFLOW_ID, OVERFLOW_ID))


@pytest.mark.parametrize(
    ("patterns", "source", "allowed"),
    [
        (("*",), "anything", True),
        (("checkout",), "checkout", True),
        (("checkout",), "checkouts", False),
        (("sensor/*",), "sensor/1", True),
        (("sensor/*",), "sensor", False),
        (("a*b",), "axb", False),
        (("a*b",), "a*b", True),
        ((), "a", False),
    ],
)
def test_sources_are_names_or_prefixes(
    patterns: tuple[str, ...], source: str, allowed: bool
) -> None:
    assert rule(sources=patterns).allows(source) is allowed


def test_a_refusal_says_reason_and_next_step() -> None:
    listener = rule(uids=(1,), sources=("a",))
    assert decide(listener, peer(1), "a") is None
    for who, source, reason in [(2, "a", "uid-not-allowed"), (1, "b", "source-not-allowed")]:
        refusal = decide(listener, peer(who), source)
        assert refusal is not None
        message = json.loads(refusal.encode())
        assert message["refused"] == reason
        assert message["what"]
        assert message["next"]


# --- hello ---------------------------------------------------------------------------------------


def hello(**changes: object) -> bytes:
    fields = {
        "certeus": 1,
        "producer": "0123456789abcdef" * 2,
        "source": "checkout",
        "ring_bytes": RING,
        "birth_seq": None,
        "settled": 0,
        "pid": 1,
    }
    return json.dumps(fields | changes).encode()


def test_a_hello_is_read() -> None:
    said = parse_hello(hello(birth_seq=7, settled=3, source="é"), RING_MAX)
    producer = bytes.fromhex("0123456789abcdef" * 2)
    assert said == Hello(producer, "é", RING, birth_seq=7, settled=3)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "malformed-hello"),
        (b"\x01", "malformed-hello"),
        (b"[]", "malformed-hello"),
        (b"{}", "malformed-hello"),
        (b"\xff", "malformed-hello"),
        (b'{"certeus":1,"producer":"\xff","source":"s","ring_bytes":65536}', "malformed-hello"),
        (b'{"certeus":1,"x":' + b"[" * 3900, "malformed-hello"),
        (hello(certeus=2), "version"),
        (hello(certeus=2, producer=1), "version"),
        (hello(certeus="1"), "malformed-hello"),
        (hello(producer="0" * 31), "malformed-hello"),
        (hello(producer="G" * 32), "malformed-hello"),
        (hello(producer="0" * 32 + "\n"), "malformed-hello"),
        (hello(source=""), "malformed-hello"),
        (hello(source="x" * 256), "malformed-hello"),
        (hello(source="a\x00"), "malformed-hello"),
        (hello(source="a\n"), "malformed-hello"),
        (hello(source=1), "malformed-hello"),
        (hello(settled=1), "malformed-hello"),
        (hello(birth_seq=-1), "malformed-hello"),
        (hello(birth_seq=1, settled=-1), "malformed-hello"),
        (hello(birth_seq=1, settled=2**63), "malformed-hello"),
        (hello(birth_seq=2**64 - 1), "malformed-hello"),
        (hello(birth_seq=2**200), "malformed-hello"),
        (hello(ring_bytes=0), "ring-bytes"),
        (hello(ring_bytes=-RING), "ring-bytes"),
        (hello(ring_bytes=RING // 2), "ring-bytes"),
        (hello(ring_bytes=RING + 16), "ring-bytes"),
        (hello(ring_bytes=RING_MAX * 2), "ring-bytes"),
    ],
)
def test_a_bad_hello_is_refused_with_its_reason(packet: bytes, reason: str) -> None:
    said = parse_hello(packet, RING_MAX)
    assert isinstance(said, Refusal)
    assert said.reason == reason


def test_a_ring_larger_than_configured_is_refused() -> None:
    assert isinstance(parse_hello(hello(ring_bytes=RING * 2), RING), Refusal)
    assert isinstance(parse_hello(hello(ring_bytes=RING), RING), Hello)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_packet_breaks_the_worker(packet: bytes) -> None:
    assert isinstance(parse_hello(packet, RING_MAX), Refusal)
    assert isinstance(is_goodbye(packet), bool)


def test_messages_of_the_daemon() -> None:
    packet = encode_welcome(
        session=5,
        log_uuid=bytes(range(16)),
        birth_seq=6,
        high=7,
        producer_no=8,
        event_bytes_max=9,
        depth_max=10,
    )
    assert json.loads(packet) == {
        "welcome": True,
        "session": 5,
        "log_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "birth_seq": 6,
        "high": 7,
        "producer_no": 8,
        "event_bytes_max": 9,
        "depth_max": 10,
    }
    for reason in ENDED:
        assert json.loads(encode_ended(reason))["ended"] == reason
    assert is_goodbye(b'{"goodbye":true}')
    assert not is_goodbye(b'{"goodbye":false}')


# --- handshakes ----------------------------------------------------------------------------------


def test_who_says_nothing_expires() -> None:
    waiting = Unconfirmed[str]()
    waiting.add("a", 1, 0.0)
    waiting.add("b", 1, 0.5)
    assert waiting.next_deadline() == HELLO_TIMEOUT_S
    assert list(waiting.expired(HELLO_TIMEOUT_S - 0.001)) == []
    assert list(waiting.expired(HELLO_TIMEOUT_S)) == ["a"]
    waiting.discard("a")
    assert waiting.next_deadline() == 0.5 + HELLO_TIMEOUT_S
    waiting.discard("b")
    assert waiting.next_deadline() is None


def test_a_user_who_opens_many_pushes_out_only_its_own() -> None:
    waiting = Unconfirmed[int]()
    assert waiting.add(0, 1, 0.0) is None
    for key in range(1, UNCONFIRMED_MAX):
        assert waiting.add(key, 2, 0.0) is None
    for key in range(UNCONFIRMED_MAX, 200):
        surplus = waiting.add(key, 2, 0.0)
        assert surplus is not None
        assert surplus == key - UNCONFIRMED_MAX + 1, "the oldest of user 2"
        waiting.discard(surplus)
    assert len(waiting) == UNCONFIRMED_MAX


# --- limits --------------------------------------------------------------------------------------


def caps(**changes: int) -> Caps:
    fields = {
        "sessions": 4,
        "sessions_per_uid": 2,
        "ring_bytes": 10 * RING,
        "ring_bytes_per_uid": 4 * RING,
    }
    return Caps(**(fields | changes))


def reason(refusal: Refusal | None) -> str | None:
    return refusal.reason if refusal else None


def test_sessions_are_limited_by_user_and_in_all() -> None:
    ledger = Ledger(caps())
    takes = [reason(ledger.take(uid, RING)) for uid in (1, 1, 1, 2, 2, 3)]
    assert takes == [None, None, "too-many-sessions", None, None, "too-many-sessions"]
    ledger.give_back(1, RING)
    assert ledger.take(3, RING) is None
    assert ledger.sessions == 4


def test_ring_bytes_are_limited_by_user_and_in_all() -> None:
    ledger = Ledger(caps(sessions=9, sessions_per_uid=9))
    takes = [reason(ledger.take(uid, 2 * RING)) for uid in (1, 1, 1, 2, 2, 3, 3)]
    assert takes == [None, None, "ring-bytes", None, None, None, "ring-bytes"]
    ledger.give_back(1, 2 * RING)
    assert ledger.take(3, 2 * RING) is None


@given(st.integers(1, 64), st.integers(64, 2000))
def test_the_parts_of_all_workers_make_the_whole(workers: int, most: int) -> None:
    limits = LimitsSection(
        sessions_max=most,
        sessions_per_uid_max=most,
        ring_bytes_max=RING,
        ring_bytes_total_max=most * RING + 1,
        ring_bytes_per_uid_max=most * RING + 1,
    )
    parts = [Caps.of(limits, workers, index) for index in range(workers)]
    assert sum(part.sessions for part in parts) == most
    assert sum(part.sessions_per_uid for part in parts) == most
    assert sum(part.ring_bytes for part in parts) == most * RING + 1
    assert sum(part.ring_bytes_per_uid for part in parts) == most * RING + 1


def test_no_part_is_below_one_session_with_one_ring() -> None:
    limits = LimitsSection(
        sessions_max=1,
        sessions_per_uid_max=1,
        ring_bytes_max=RING,
        ring_bytes_total_max=RING,
        ring_bytes_per_uid_max=RING,
    )
    assert {Caps.of(limits, 3, index) for index in range(3)} == {Caps(1, 1, RING, RING)}


def test_what_is_above_the_limits_is_what_came_last() -> None:
    ledger = Ledger(caps())
    held = [(10, 1, RING), (11, 1, RING), (12, 1, RING), (13, 2, 4 * RING), (14, 2, RING)]
    assert ledger.surplus(held) == [12, 14]


def test_a_worker_leaves_clients_to_others_above_its_share() -> None:
    assert not is_over_share(1000, [])
    assert is_over_share(100, [(0, 0.0)])
    assert not is_over_share(0, [(100, 0.0)])
    assert not is_over_share(10, [(10, 0.0), (10, 0.0)])


def test_a_worker_that_gives_no_sign_of_life_does_not_count() -> None:
    assert not is_over_share(100, [(0, HEARTBEAT_MAX_S)])


def test_whoever_has_fewest_takes_clients_while_it_is_strict() -> None:
    assert is_over_share(2, [(0, 0.0), (4, 0.0)], strict=True)
    assert not is_over_share(2, [(2, 0.0), (4, 0.0)], strict=True)
    assert not is_over_share(2, [(0, HEARTBEAT_MAX_S)], strict=True)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.booleans())
def test_somebody_always_takes_clients(sessions: list[int], strict: bool) -> None:
    over = [
        is_over_share(
            own, [(other, 0.0) for other in sessions[:at] + sessions[at + 1 :]], strict=strict
        )
        for at, own in enumerate(sessions)
    ]
    assert not all(over)
