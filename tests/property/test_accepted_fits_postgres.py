"""What the worker accepts, PostgreSQL holds: any JSON text, any number, any time."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certeusd import _native
from support.postgres import Server, installations, server

DEPTH = 64
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

texts = st.lists(
    st.one_of(
        st.sampled_from(
            ["{", "}", "[", "]", ",", ":", '"', "\\u0000", "\\ud83d\\ude00", "\\ud83d", " ", "\\",
             "1e131071", "1e131072", "1e-16383", "1e-16384", "-0", "0.0", "9" * 400, "true", "nul"]
        ),
        st.text(max_size=3),
        st.from_regex(r'-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,6})?', fullmatch=True),
        st.from_regex(r'\{"[a-z]{1,3}":(1|"x"|null|\[\])\}', fullmatch=True),
    ),
    max_size=4,
).map("".join)  # fmt: skip


@pytest.fixture(scope="module", params=sorted(installations()))
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(installations()[request.param]) as running:
        yield running


def refusals(dsn: str, statement: str, values: list[str]) -> list[str]:
    """The values that the server refuses."""

    async def ask() -> list[str]:
        refused: list[str] = []
        connection = await asyncpg.connect(dsn)
        try:
            for value in values:
                try:
                    await connection.execute(statement.format(value.replace("'", "''")))
                except asyncpg.DataError:
                    refused.append(value)
        finally:
            await connection.close()
        return refused

    return asyncio.run(ask())


quiet = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.integration
@quiet
@given(st.lists(texts, min_size=20, max_size=60))
def test_every_accepted_text_is_json_and_jsonb_to_postgres(
    postgres: Server, candidates: list[str]
) -> None:
    accepted: list[str] = []
    for text in candidates:
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            continue
        if _native.check_json(encoded, DEPTH) is None:
            accepted.append(text)
    for kind in ("json", "jsonb"):
        assert refusals(postgres.dsn(), f"SELECT '{{}}'::{kind}", accepted) == []


@pytest.mark.integration
@quiet
@given(
    st.lists(
        st.from_regex(
            r"[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?"
            r"(Z|[+-][0-2][0-9]:[0-5][0-9])",
            fullmatch=True,
        ),
        min_size=20,
        max_size=60,
    )
)
def test_every_accepted_time_is_a_timestamp_to_postgres(
    postgres: Server, candidates: list[str]
) -> None:
    accepted: list[str] = []
    for text in candidates:
        micros = _native.parse_time(text.encode())
        if micros is not None:
            accepted.append((EPOCH + timedelta(microseconds=micros)).isoformat())
    assert refusals(postgres.dsn(), "SELECT '{}'::timestamptz", accepted) == []
