"""What each verb prints with `--json` keeps its shape: keys are added, none is taken or retyped.

`tests/golden/VERB.json` has the shape (`support.shapes`). A verb that is new, or has a new key:
give it a scenario in `support.golden_verbs` and run

    python -m pytest tests/integration/test_golden_json.py --golden-update

which writes what is new. It takes nothing away: that is another `schema_version`, by hand.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from certeusd.cli.common import SCHEMA_VERSION
from certeusd.cli.main import command
from support.golden_verbs import SCENARIOS, World, made_world
from support.shapes import Shape, faults, joined, shape_of

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "golden"
HOW = (
    "write a scenario in tests/support/golden_verbs.py, then"
    " `python -m pytest tests/integration/test_golden_json.py --golden-update`"
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with made_world() as made:
        yield made


def printing(group: click.Group = command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every verb and subcommand that prints JSON."""
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None
        if any("--json" in parameter.opts for parameter in one.params):
            yield " ".join((*path, name))
        if isinstance(one, click.Group):
            yield from printing(one, (*path, name))


def file_of(verb: str) -> Path:
    return GOLDEN / f"{verb.replace(' ', '-')}.json"


def test_every_verb_has_a_scenario_and_a_golden_file() -> None:
    verbs = set(printing())
    for verb in verbs:
        assert verb in SCENARIOS, f"certeus {verb}: {HOW}"
        assert file_of(verb).exists(), f"certeus {verb}: {HOW}"
    assert verbs == set(SCENARIOS), "a scenario of a verb that is not there"
    assert {file_of(verb) for verb in verbs} == set(GOLDEN.iterdir())


@pytest.mark.parametrize("verb", SCENARIOS)
def test_what_a_verb_prints_keeps_its_shape(
    verb: str, world: World, request: pytest.FixtureRequest
) -> None:
    printed = SCENARIOS[verb](world)
    documents = [json.loads(line) for one in printed for line in one.splitlines()]
    assert documents, f"certeus {verb} --json printed nothing"
    for one in documents:
        assert next(iter(one.items())) == ("schema_version", SCHEMA_VERSION)
    if request.config.option.golden_update:
        update(file_of(verb), joined([shape_of(one) for one in documents]), documents)
    assert file_of(verb).exists(), f"certeus {verb}: {HOW}"
    golden: Shape = json.loads(file_of(verb).read_text())
    found = sorted({fault for one in documents for fault in faults(golden, one)})
    assert not found, f"certeus {verb} --json: {'; '.join(found)}. Something added? {HOW}"


def update(file: Path, seen: Shape, documents: list[object]) -> None:
    """Write a new golden file, or add to one; what was taken or retyped stays a fault."""
    if file.exists():
        golden: Shape = json.loads(file.read_text())
        found = {fault for one in documents for fault in faults(golden, one)}
        if not found:
            return
        gone = [fault for fault in found if not fault.endswith(": added")]
        assert not gone, f"{file.name}: {'; '.join(gone)}"
        seen = added(golden, seen)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(seen, indent=2) + "\n")


def added(golden: Shape, seen: Shape) -> Shape:
    """The golden shape, and what it does not have yet."""
    if isinstance(golden, dict) and isinstance(seen, dict) and not {"*", "any of"} & {*golden}:
        known = {key.removesuffix("?"): key for key in golden}
        grown = dict(golden)
        for key, shape in seen.items():
            name = known.get(key.removesuffix("?"))
            grown[name or key] = added(golden[name], shape) if name else shape
        return grown
    if isinstance(golden, list) and isinstance(seen, list) and golden and seen:
        return [added(golden[0], seen[0])]
    return seen if golden == [] else golden
