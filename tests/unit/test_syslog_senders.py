"""Who sent a datagram: asked of the user database, which may be slow."""

import asyncio
import os
import pwd
import threading

import pytest

from certeusd.config import SyslogSection
from certeusd.syslog.senders import Senders

UID, GID = os.geteuid(), os.getegid()
USER = pwd.getpwuid(UID)


def test_a_slow_user_database_holds_no_loop_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    went_on, asked = threading.Event(), list[int]()

    def slow(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        assert went_on.wait(10.0), "the loop waits for the answer"
        return USER

    monkeypatch.setattr(pwd, "getpwuid", slow)

    async def main() -> None:
        senders = Senders(SyslogSection())
        asyncio.get_running_loop().call_soon(went_on.set)
        for _ in range(2):
            assert await senders.source_of((UID, GID)) == f"syslog/{USER.pw_name}"

    asyncio.run(main())
    assert asked == [UID]
