"""What became of the events of a request, while a ticket before them is not settled."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from certeusd._native import DoorEncoder, Encoded
from certeusd.api import append
from certeusd.api.intake import Intake
from certeusd.api.problems import ProblemError
from certeusd.api.refusals import Refusal
from certeusd.api.verdicts import Verdicts
from certeusd.door import Door


def test_refusals_behind_an_unsettled_ticket_are_one_piece() -> None:
    verdicts = Verdicts(cast(Door, SimpleNamespace(settled_ticket=0)))
    verdicts.begin([])
    verdicts.appended(range(1, 2))
    verdicts.end()
    for _ in range(1000):
        verdicts.begin([Refusal(0, 4096, "invalid-json")])
        verdicts.end()
        assert not verdicts.take()
    assert verdicts.pieces == 2
    assert (verdicts.seen, verdicts.pending, verdicts.first_untaken) == (4_096_001, 4_096_001, 1)


def test_what_found_no_room_is_not_seen_nor_what_was_refused_behind_it() -> None:
    verdicts = Verdicts(cast(Door, SimpleNamespace(settled_ticket=0)))
    verdicts.begin([Refusal(0, 2, "a"), Refusal(4, 1, "b"), Refusal(9, 1, "a")])
    verdicts.appended(range(1, 2))
    verdicts.appended(range(2, 3))
    verdicts.end()
    assert (verdicts.seen, verdicts.last_ticket, verdicts.pieces) == (5, 2, 4)
    verdicts.take()
    assert (verdicts.rejected, verdicts.pending) == (2, 3)


def test_what_is_no_longer_known_is_in_doubt() -> None:
    def forgotten(_: range) -> None:
        raise LookupError

    verdicts = Verdicts(cast(Door, SimpleNamespace(settled_ticket=2, runs=forgotten)))

    async def taken(encoded: Encoded) -> bool:
        verdicts.begin([])
        verdicts.appended(range(1, encoded.count + 1))
        verdicts.end()
        verdicts.take()
        return True

    async def settled() -> None:
        assert verdicts.pending == 2

    async def parts() -> AsyncGenerator[Encoded]:
        yield DoorEncoder(1024, "s", ()).data_lines(b"{}\n{}\n", "t")

    def charge(_: int) -> None: ...

    intake = cast(
        Intake, SimpleNamespace(verdicts=verdicts, append=taken, charge=charge, settle=settled)
    )
    request = cast(web.BaseRequest, make_mocked_request("POST", "/"))
    asked = append.Asked.of({})
    work = append._append(  # pyright: ignore[reportPrivateUsage]  # nothing else forgets verdicts
        intake, parts(), request, asked, 1.0
    )
    with pytest.raises(ProblemError, match="no longer known") as told:
        asyncio.run(work)
    assert (told.value.status, told.value.document["pending"]) == (503, 2)
