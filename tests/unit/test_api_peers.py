"""Who asks by the port: keys, and what is none."""

import base64

import pytest
from multidict import CIMultiDict

from certeusd.api.peers import Peers
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
