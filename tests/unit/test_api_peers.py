"""Who asks: names of users that change, and keys that are none."""

import base64
import pwd

import pytest
from multidict import CIMultiDict

from certeusd.api import peers
from certeusd.api.peers import USERS_KEPT_S, Peers, Users
from certeusd.api.problems import ProblemError
from certeusd.config import ApiSection

KEY = "k" * 40


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "Bearer \u00e9"), ("Authorization", "Bearer \udce9"),
        ("X-API-Key", "\udcff"), ("Authorization", "Basic \u00e9"),
        ("Authorization", "Basic \udce9"), ("Authorization", "Basic ===="),
        ("Authorization", "Basic " + base64.b64encode(b"x:\xff").decode()),
    ],
)  # fmt: skip
def test_a_key_of_any_bytes_is_no_key(header: str, value: str) -> None:
    with pytest.raises(ProblemError) as told:
        Peers(ApiSection(), KEY).of_headers(CIMultiDict({header: value}))
    assert told.value.status == 401


def test_the_key_is_taken() -> None:
    caller = Peers(ApiSection(), KEY).of_headers(CIMultiDict({"X-API-Key": KEY}))
    assert (caller.name, caller.appends) == ("key", True)


def test_a_user_that_has_another_name_is_known_by_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users, names = Users(), {7: "ann"}

    def look(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((names[uid], "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", look)
    assert users.name(7, now=0.0) == "ann"
    names[7] = "bob"
    assert users.name(7, now=USERS_KEPT_S - 1) == "ann"
    assert users.name(7, now=USERS_KEPT_S) == "bob"
    assert users.name(8, now=0.0) == "8"


def test_names_of_few_users_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    users, asked = Users(), list[int]()

    def look(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", look)
    monkeypatch.setattr(peers, "USERS_MAX", 2)
    for uid in (1, 2, 1, 3, 2, 1):
        assert users.name(uid, now=0.0) == str(uid)
    assert asked == [1, 2, 3, 1]
