"""What a browser may have sent for a page of another site is refused on the port."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from certeusd.api.port import check_site
from certeusd.api.problems import ProblemError

OWN = "127.0.0.1:4318"


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        [("Host", OWN)],
        [("host", "localhost")],
        [("Host", "LOCALHOST:4318")],
        [("Host", "[::1]:4318")],
        [("Host", "127.9.9.9")],
        [("Host", OWN), ("Origin", f"http://{OWN}")],
        [("Host", OWN), ("Sec-Fetch-Site", "same-origin")],
        [("Host", OWN), ("Sec-Fetch-Site", "none")],
    ],
)
def test_programs_and_pages_of_its_own_may_ask(pairs: list[tuple[str, str]]) -> None:
    check_site(headers(*pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("Host", "")],
        [("Host", "rebound.example:4318")],
        [("Host", "localhost.example")],
        [("Host", "127.0.0.1.example")],
        [("Host", "10.0.0.1:4318")],
        [("Host", "0.0.0.0:4318")],
        [("Host", "[::1")],
        [("Host", OWN), ("Host", "rebound.example")],
        [("Host", OWN), ("Origin", "https://example.com")],
        [("Host", OWN), ("Origin", "null")],
        [("Host", OWN), ("Origin", f"https://{OWN}")],
        [("Host", OWN), ("Origin", "http://127.0.0.1:9999")],
        [("Host", OWN), ("Origin", f"http://{OWN}"), ("Origin", "http://example.com")],
        [("Host", OWN), ("Sec-Fetch-Site", "cross-site")],
        [("Host", OWN), ("Sec-Fetch-Site", "same-site")],
    ],
)
def test_pages_of_others_may_not(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ProblemError) as refused:
        check_site(headers(*pairs))
    assert refused.value.status == 403
    assert refused.value.document["type"] == "urn:certeus:problem:cross-site"
