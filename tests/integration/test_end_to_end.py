"""From `append` to a row, through every process, on the embedded PostgreSQL and on Debian's."""

import asyncio
import contextlib
import datetime
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

import certeus
from support.daemon import Daemon, running
from support.postgres import installations, server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["embedded", "postgres15"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon with two workers, on a PostgreSQL of its own or on Debian's, by CERTEUS_DB_URL."""
    with contextlib.ExitStack() as stack:
        env: dict[str, str] = {}
        if request.param != "embedded":
            debian = stack.enter_context(server(installations()[request.param]))
            env["CERTEUS_DB_URL"] = debian.dsn()
        daemon = stack.enter_context(running("[worker]\ncount = 2\n", env))
        daemon.certeus("dsn")  # it waits until server and schema are there
        yield daemon
        assert daemon.stop() == 0


def rows(daemon: Daemon, source: str) -> list[dict[str, Any]]:
    async def fetch() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(daemon.dsn())
        try:
            found = await connection.fetch(
                "SELECT * FROM certeus.events WHERE source = $1 ORDER BY seq", source
            )
        finally:
            await connection.close()
        return [dict(row) for row in found]

    daemon.certeus("wait", "--flushed", "--timeout", "60")
    return asyncio.run(fetch())


def test_every_attribute_arrives_as_it_was_given(daemon: Daemon) -> None:
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=datetime.UTC)
    with certeus.connect(daemon.ingest, source="attributes") as producer:
        ticket = producer.append(
            "payment", {"b": 1.0, "ä": "ü"}, id="o-1", subject="s", time=when,
            extensions={"traceparent": "00-1", "n": 7, "flag": True},
        )  # fmt: skip
        producer.append("text", "only text")
        producer.append("raw", b'{"b":1.0,"a":1e2,"a":2}')
        last = producer.append("opaque", b"\x00\xff", content_type="application/octet-stream")
        producer.wait_durable(last, timeout=30.0)
        receipt = producer.receipt(ticket)
    payment, text, raw, opaque = rows(daemon, "attributes")
    assert (payment["seq"], payment["ticket"]) == (receipt.seq, 1)
    assert json.loads(payment["data"]) == {"b": 1.0, "ä": "ü"}
    assert (payment["type"], payment["id"], payment["subject"]) == ("payment", "o-1", "s")
    assert payment["time"] == when
    assert json.loads(payment["extensions"]) == {"traceparent": "00-1", "n": 7, "flag": True}
    assert (payment["tenant"], payment["verdict"]) == ("default", "accepted")
    assert json.loads(text["data"]) == "only text"
    assert text["id"] is None
    assert text["time"] is None
    assert raw["data"] == '{"b":1.0,"a":1e2,"a":2}', "data is the logged text, byte for byte"
    assert (opaque["data"], opaque["data_bytes"]) == (None, b"\x00\xff")
    assert opaque["content_type"] == "application/octet-stream"


def test_async_producer_does_the_same(daemon: Daemon) -> None:
    async def work() -> certeus.Receipt:
        async with await certeus.connect_async(daemon.ingest, source="async") as producer:
            ticket = await producer.append("t", {"n": 1})
            last = await producer.append_many("t", [{"n": n} for n in range(2, 1001)])
            await producer.wait_durable(last, timeout=30.0)
            return producer.receipt(ticket)

    receipt = asyncio.run(work())
    found = rows(daemon, "async")
    assert [json.loads(row["data"])["n"] for row in found] == list(range(1, 1001))
    assert found[0]["seq"] == receipt.seq


def test_status_health_workers_and_metrics_answer(daemon: Daemon) -> None:
    status = json.loads(daemon.certeus("status", "--json").stdout)
    for key in (
        "state", "since", "reasons", "durable_seq", "flushed_seq", "lag_events", "lag_seconds",
        "dedup", "workers", "postgres", "schema_version",
    ):  # fmt: skip
        assert key in status
    assert status["state"] == "ready"
    assert daemon.get("/v1/health/live")
    assert daemon.get("/v1/health/ready")
    workers = json.loads(daemon.certeus("workers", "--json").stdout)["workers"]
    assert [row["role"] for row in workers].count("worker") == 2
    text = daemon.certeus("status").stdout.decode()
    assert "ready" in text


def test_log_ls_and_check_read_the_log_offline_and_online(daemon: Daemon) -> None:
    listing = json.loads(daemon.certeus("log", "ls", "--json").stdout)
    assert listing["segments"]
    check = json.loads(daemon.certeus("log", "check", "--json").stdout)
    assert check["ok"] is True
    assert check["findings"] == []


def test_append_from_a_pipe_counts_what_it_did(daemon: Daemon) -> None:
    lines = b"".join(b'{"order":"o-%d","n":%d}\n' % (n % 90, n % 90) for n in range(100))
    done = daemon.certeus(
        "append", "--json", "--type", "order", "--source", "cli/test", "--id-field", "order",
        stdin=lines,
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert summary["appended"] == 90
    assert summary["duplicates"] == 10
    assert summary["rejected"] == 0
    assert summary["last_seq"]
    assert len(rows(daemon, "cli/test")) == 90
    tail = daemon.certeus("tail", "-n", "1", "--json").stdout
    assert json.loads(tail)["type"] == "order"


def test_openapi_names_every_route(daemon: Daemon) -> None:
    document = daemon.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {"/v1/status", "/v1/workers", "/v1/drain"} <= set(document["paths"])
