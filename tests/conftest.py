"""Options and fixtures of all tests: the size and the seed of attacks, and their closing table."""

import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import structlog
from hypothesis import settings

from support.attack import Attack, Outcome, outcomes_of, table

# An example that takes long on a busy machine is not wrong: no test asserts a time.
settings.register_profile("certeus", deadline=None)
settings.load_profile("certeus")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--attack",
        choices=("fast", "full"),
        default="fast",
        help="size of the attacks: fast in `make test`, full in `make crash`",
    )
    parser.addoption(
        "--golden-update",
        action="store_true",
        help="adds to tests/golden what verbs print by now; takes nothing away",
    )
    parser.addoption("--seed", type=int, default=None, help="repeats the attacks of a run")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = random.randrange(1 << 31)


def pytest_report_header(config: pytest.Config) -> str:
    return f"attacks: {config.option.attack}, --seed {config.option.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only ``--attack full`` runs: it is not skipped, it belongs to another run.

    The packages are built by the first test that wants them, while others run beside: first of all.
    """
    items.sort(key=lambda item: item.path.name != "test_package.py")
    if config.option.attack == "fast":
        later = [item for item in items if item.get_closest_marker("full")]
        if later:
            config.hook.pytest_deselected(items=later)
            items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """What a test configures in this process holds for no other one."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Attack:
    """The means of an attack test."""
    option = request.config.option
    return Attack(
        full=option.attack == "full",
        seed=option.seed,
        name=request.node.name,
        outcomes=outcomes_of(request.config),
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the rows of this process to the one that prints the table."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["outcomes"] = [asdict(one) for one in outcomes_of(session.config)]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist's, which has no types
    """Take the rows of another process, which has ended."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    rows = [Outcome(**row) for row in output.get("outcomes", [])]
    outcomes_of(node.config).extend(rows)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outcomes = outcomes_of(config)
    if outcomes:
        terminalreporter.section(f"attacks, {config.option.attack}, --seed {config.option.seed}")
        for line in table(outcomes):
            terminalreporter.write_line(line)
