"""The Unix socket behind a forwarded port (`ssh -L 8080:/run/certeus/api.sock`): no page gets in.

The kernel says who asks, and that is whoever forwards: so every web page of a browser that reaches
such a port would speak for that user. What a browser sends must look as it must on `api.listen`.
A program may call the socket what it likes; but not by a name that a page may have been found by.
"""

import re

from multidict import CIMultiDictProxy

from certeusd.api.port import check_site

OF_BROWSERS = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
_DOMAIN = re.compile(r"[\w-]+(\.[\w-]+)+\.?(:\d*)?")
"""A name that DNS may have: `unix`, `certeus` and encoded paths are none, numbers are."""


def check_forwarded(headers: CIMultiDictProxy[str]) -> None:
    """Refuse what a page of another site had a browser send, by whatever name it found the port.

    Raises:
        ProblemError: 403.
    """
    hosts = headers.getall("Host", [])
    if any(name in headers for name in OF_BROWSERS) or any(map(_DOMAIN.fullmatch, hosts)):
        check_site(headers)
