"""`certeus pipe` and a real daemon: standard input, files that grow and rotate, hostile input."""

import json
from collections.abc import Iterator

import pytest

from support.daemon import Daemon, running

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as made:
        yield made


def test_each_line_of_standard_input_is_one_event(daemon: Daemon) -> None:
    done = daemon.certeus(
        "pipe", "--source", "t/lines", "--type", "t", "--subject", "s", "--json",
        stdin="eins\n\nzwölf\r\nlast".encode(),
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert (summary["appended"], summary["rejected"]) == (4, 0)
