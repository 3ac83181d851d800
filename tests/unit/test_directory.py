"""Names of users: those that change, those that are asked for, and a directory that is away."""

import asyncio
import pwd
import threading

import pytest

from certeusd import directory
from certeusd.directory import Lookups, name_of

WAIT_S = 20.0


def entry(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/sh"))


def test_a_user_that_has_another_name_is_known_by_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {7: "ann"}

    def look(uid: int) -> pwd.struct_passwd:
        return entry(names[uid], uid)

    monkeypatch.setattr(pwd, "getpwuid", look)

    async def ask() -> None:
        known = Lookups(name_of)
        assert await known.get(7) == "ann"
        names[7] = "bob"
        assert await known.get(7) == "ann"
        monkeypatch.setattr(directory, "KEPT_S", 0.0)
        again = Lookups(name_of)
        assert await again.get(7) == "bob"
        names[7] = "cid"
        assert await again.get(7) == "cid"
        assert await again.get(8) == "8"

    asyncio.run(ask())


def test_names_of_few_users_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()

    def look(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", look)
    monkeypatch.setattr(directory, "KEPT_MAX", 2)

    async def ask() -> None:
        known = Lookups(name_of)
        for uid in (1, 2, 1, 3, 2, 1):
            assert await known.get(uid) == str(uid)

    asyncio.run(ask())
    assert asked == [1, 2, 3, 1]


def test_a_directory_that_is_away_keeps_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked = threading.Event(), list[int]()

    def look(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        assert answers.wait(WAIT_S)
        return entry("ann", uid)

    monkeypatch.setattr(pwd, "getpwuid", look)

    async def ask() -> None:
        known = Lookups(name_of)
        waiting = [asyncio.create_task(known.get(7)) for _ in range(100)]
        with pytest.raises(TimeoutError):  # Who gives up takes the answer away from nobody.
            await asyncio.wait_for(waiting[0], 0.01)
        answers.set()
        assert await asyncio.gather(*waiting[1:]) == ["ann"] * 99

    asyncio.run(ask())
    assert asked == [7]
