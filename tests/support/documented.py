"""A served API against what its own OpenAPI document says, by schemathesis."""

import importlib
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hypothesis import given, settings

from certeusd.openapi import Query
from forward import forwarded

# Its types are not for strict checkers.
schemathesis: Any = importlib.import_module("schemathesis")
not_a_server_error: Any = schemathesis.checks.not_a_server_error

WAIT_S_MAX = 0.05
EXAMPLES = 25


class Route(Protocol):
    """A row of a table of routes."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> Sequence[Query]: ...


@contextmanager
def documented(path: Path, document: object) -> Generator[Any]:
    """What the document says of what a Unix socket serves."""
    with forwarded(path) as url:
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=url)
        yield schema


def check_answers(
    api: Any,  # noqa: ANN401 - schemathesis' own
    route: Route,
    mode: str,
    told: Collection[int],
    *,
    change: Callable[[Any], None] | None = None,
    unsaid: Sequence[object] = (),
) -> None:
    """Ask in many ways, right or wrong; `told`: refusals, of which 503 and 504 are answers, too.

    500 is a bug. `change` makes a case that would take long a short one.
    """
    if mode == "negative" and not route.query:
        return  # There is nothing that could be wrong.

    @given(
        case=api[route.path][route.method].as_strategy(
            generation_mode=schemathesis.GenerationMode(mode)
        )
    )
    @settings(max_examples=EXAMPLES, deadline=None)
    def ask(case: Any) -> None:  # noqa: ANN401
        if "timeout_s" in {one.name for one in route.query}:
            # Whoever asks for an hour waits for an hour.
            waits = case.query.get("timeout_s", WAIT_S_MAX)
            if isinstance(waits, int | float) and waits >= 0:
                case.query["timeout_s"] = min(waits, WAIT_S_MAX)
        if change is not None:
            change(case)
        answer = case.call_and_validate(excluded_checks=[not_a_server_error, *unsaid])
        assert answer.status_code in (200, *told), answer.text

    ask()
