"""Open-loop load: waiting is never left out of a latency."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator

import pytest

from bench.fleet.drive import Drive, poisson
from bench.fleet.echo import canned_answer, fleet_for_echo, measure_ceiling
from bench.fleet.figures import Figures
from bootlease.testing.fleet import ConnectionPool, FleetImage

PROBLEM = b'{"type": "tag:bootlease.dev,2026:problem/busy"}'
BUSY = b"HTTP/1.1 503 X\r\ncontent-length: %d\r\n\r\n%s" % (len(PROBLEM), PROBLEM)


@pytest.fixture(scope="module")
def image() -> FleetImage:
    """What the fleet has booted."""
    return FleetImage()


class Stalling:
    """A server in this loop that stands still from one moment to another."""

    def __init__(self, answer: bytes, stall: tuple[float, float] = (0.0, 0.0)) -> None:
        self.answer = answer
        self.first: float | None = None
        self.stall = stall

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.first = self.first or time.monotonic()
                passed = time.monotonic() - self.first
                if self.stall[0] <= passed < self.stall[1]:
                    await asyncio.sleep(self.stall[1] - passed)
                writer.write(self.answer)
        writer.close()


@contextlib.asynccontextmanager
async def pool_for(server: Stalling, *, at_most: int) -> AsyncIterator[ConnectionPool]:
    """A pool that is connected to the server."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    pool = ConnectionPool("127.0.0.1", listening.sockets[0].getsockname()[1], at_most=at_most)
    await pool.fill()
    try:
        yield pool
    finally:
        await pool.close()
        listening.close()
        await asyncio.sleep(0.01)


def drive(
    image: FleetImage, server: Stalling, *, rate: float, duration: float, patience: float = 5.0
) -> Figures:
    """Make one run on four connections."""

    async def run() -> Figures:
        async with pool_for(server, at_most=4) as pool:
            nodes = fleet_for_echo(image, 32)
            run = Drive(pool, nodes, [], rate=rate, duration=duration, patience=patience)
            return await run.run()

    return asyncio.run(run())


def test_arrivals_are_poisson_and_repeat_by_seed() -> None:
    """As many as the rate says, in order, and the same for the same seed."""
    due = poisson(100, 50, seed=3)
    assert len(due) == pytest.approx(5000, rel=0.06)
    assert list(due) == sorted(due)
    assert 0 < due[0] < due[-1] < 50
    assert poisson(100, 50, seed=3) == due != poisson(100, 50, seed=4)


def test_a_stall_counts_for_everybody_who_was_due(image: FleetImage) -> None:
    """A closed-loop client would see four slow answers; all who were due in the stall do."""
    server = Stalling(canned_answer(), (0.3, 0.7))
    figures = drive(image, server, rate=150, duration=1.0)
    assert not figures.errors
    assert len(figures.latencies) == len(poisson(150, 1.0, seed=1))
    late = [latency for latency in figures.latencies if latency > 0.1]
    assert len(late) > 25
    sent_late = [service for service in figures.services if service > 0.1]
    assert len(sent_late) <= 8


def test_refusals_are_counted_by_kind(image: FleetImage) -> None:
    """They are no latencies."""
    figures = drive(image, Stalling(BUSY), rate=40, duration=0.3)
    assert set(figures.errors) == {"busy"}
    assert len(figures.latencies) == 0


def test_a_verifier_that_does_not_keep_up_is_given_up(image: FleetImage) -> None:
    """What was never sent counts as failed, at once."""
    server = Stalling(canned_answer(), (0.0, 0.6))
    started = time.monotonic()
    figures = drive(image, server, rate=400, duration=30.0, patience=0.1)
    assert time.monotonic() - started < 5
    assert figures.errors["overload"] > 10_000
    total = len(figures.latencies) + sum(figures.errors.values())
    assert total == len(poisson(400, 30.0, seed=1))


def test_nodes_take_turns(image: FleetImage) -> None:
    """The node that renewed longest ago is next, so that none lapses while others renew twice."""

    async def run() -> list[int]:
        async with pool_for(Stalling(canned_answer()), at_most=1) as pool:
            nodes = fleet_for_echo(image, 8)
            order = {id(node): number for number, node in enumerate(nodes)}
            fleet = deque(nodes)
            figures = await Drive(pool, fleet, [], rate=100, duration=0.2).run()
            turned = len(figures.latencies) % 8
            return [(order[id(node)] - turned) % 8 for node in fleet]

    assert asyncio.run(run()) == list(range(8))


def test_the_generator_knows_its_own_ceiling(image: FleetImage) -> None:
    """It measures itself against a server that does nothing."""
    ceiling = asyncio.run(measure_ceiling(image, seconds=0.3, connections=8))
    assert ceiling["ceiling_per_second"] > 100
    assert 0 < ceiling["cpu_us_per_renewal"] < 10_000
    assert ceiling["at_half_p50_ms"] > 0
