"""Values of parameters are held to their schemas."""

import pytest

from certeusd.api.parameters import APPEND, READ, SEQ_MAX
from certeusd.api.queries import fault

KNOWN = {one.name: one for one in (*APPEND, *READ)}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("type", ["t", "é" * 255], ["", "t" * 256]),
        ("wait", ["durable", "none"], ["", "Durable", "no"]),
        ("timeout_s", ["1", "0.5", "3600"], ["", "-1", "3601", "nan", "inf", "1s", "\u0661"]),
        ("after_seq", ["0", str(SEQ_MAX)], ["-1", str(SEQ_MAX + 1), "1.0", "", "x"]),
        ("limit", ["1"], ["0", "1e3"]),
    ],
)
def test_a_value_is_what_its_schema_says(name: str, right: list[str], wrong: list[str]) -> None:
    assert [fault(KNOWN[name], text) for text in right] == [""] * len(right)
    for text in wrong:
        assert fault(KNOWN[name], text).startswith(name), text
