"""The two things measured of every durable log: how many events a second, and one event's time.

- ``durable/throughput``: two producer processes offer events of 200 B as fast as they are taken,
  until the last is acknowledged as durable. How many are on their way at once is what is best for
  the peer: each module says what it tried.
- ``durable/ack``: one producer, one event at a time, from before it is sent until the producer
  knows that it is durable.

Both read the whole log back at their end.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import psutil

from certeus_bench.peers import loads, running
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

EVENT_BYTES = 200


class Target(NamedTuple):
    """A peer that is ready."""

    producer: list[str]
    """Command of a program that takes `producing.parser`'s arguments."""
    servers: list[psutil.Process]
    """The peer's own processes; none, where it is a library and runs in its producers."""


Serve = Callable[[Context], AbstractContextManager[Target]]


def measure(context: Context, serve: Serve, producers: int, batch: int) -> Measurement:
    """One load on a log that is empty at first, and all of it read back."""
    with serve(context) as target:
        commands = [
            [*target.producer, *loads.arguments(context, EVENT_BYTES, seed, batch)]
            for seed in range(producers)
        ]
        load = loads.offer(commands, context, running.meter(target.servers))
        held = running.run([*target.producer, "--read"], loads.ReadBack)
    return loads.measurement(load, context, EVENT_BYTES, producers * batch, held.read_sum)


def scenarios(
    system: str,
    serve: Serve,
    *,
    batch: int,
    batch_is: str,
    how: str,
    settings: dict[str, str | int | float | bool],
    unsafe: bool = False,
) -> list[Scenario]:
    """Both scenarios of one peer.

    Args:
        system: its name with its version.
        serve: makes it ready, with an empty log, for the length of a block.
        batch: events on their way at once of each of the two producers.
        batch_is: what the peer calls that.
        how: the peer and its promise, as an end of a sentence.
        settings: what it was told.
        unsafe: it acknowledges before it has synced.
    """

    def throughput(context: Context) -> Measurement:
        return measure(context, serve, loads.PRODUCERS, batch)

    def ack(context: Context) -> Measurement:
        return measure(context, serve, 1, 1)

    return [
        Scenario(
            name="durable/throughput",
            system=system,
            scope=Scope.DURABLE,
            what=f"{loads.PRODUCERS} processes offer events of {EVENT_BYTES} B, {batch} each on"
            f" their way at once, until the last is acknowledged by {how}.",
            measure=throughput,
            settings={**settings, "producers": loads.PRODUCERS, batch_is: batch},
            unsafe=unsafe,
        ),
        Scenario(
            name="durable/ack",
            system=system,
            scope=Scope.DURABLE,
            what=f"One process, one event of {EVENT_BYTES} B at a time, until it is acknowledged"
            f" by {how}.",
            measure=ack,
            settings={**settings, "producers": 1, batch_is: 1},
            unsafe=unsafe,
        ),
    ]
