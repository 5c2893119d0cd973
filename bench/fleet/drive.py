"""Open-loop load: operations are due when they are due, however the verifier fares.

Arrivals are a Poisson process that is drawn before the run. A latency counts from the moment an
operation was *due*, so that one that had to wait for a connection, for its node or for this
process itself has waited (no coordinated omission). asyncio's timers wake up to a millisecond late;
that too is in the figures.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.fleet.figures import Figures
from bootlease.errors import BootleaseError, MalformedError
from bootlease.testing.fleet import (
    ConnectionPool,
    FleetNode,
    ProblemAnswerError,
    Response,
    begin,
    enrol,
    error_kind,
    request,
)
from bootlease.testing.fleet.connections import Outcome

MARGIN = 2.0
"""Seconds before the end of a lease at which a node no longer counts on it."""
_OK = 200


def poisson(rate: float, duration: float, seed: int) -> array[float]:
    """Return the arrivals of a Poisson process, seconds from its start."""
    draw = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    due = array("d")
    moment = draw.expovariate(rate)
    while moment < duration:
        due.append(moment)
        moment += draw.expovariate(rate)
    return due


class Drive:
    """One run over one fleet.

    Args:
        pool: Connections.
        nodes: Enrolled nodes, the one that renewed longest ago first; left in such order.
        newcomers: Manufactured nodes for the arrivals that are enrolments; they join ``nodes``.
        rate: Arrivals a second.
        duration: Seconds of arrivals.
        enrol_share: Share of arrivals that are enrolments; each with its first lease.
        seed: Of the arrivals.
        patience: Give up once as many arrivals wait as come in so many seconds.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        nodes: deque[FleetNode],
        newcomers: list[FleetNode],
        *,
        rate: float,
        duration: float,
        enrol_share: float = 0.0,
        seed: int = 1,
        patience: float = 5.0,
    ) -> None:
        self._pool = pool
        self._nodes = nodes
        self._newcomers = newcomers
        self._due = poisson(rate, duration, seed)
        draw = random.Random(seed + 1)  # noqa: S311 - a mix of operations, no secret
        self._enrols = bytearray(draw.random() < enrol_share for _ in self._due)
        self._figures = Figures(rate, duration)
        self._patience = max(64.0, patience * rate)
        self._waiting: deque[int] = deque()
        self._next = 0
        self._left = len(self._due)
        self._start = 0.0
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, cpu_of_verifier: Callable[[], float] | None = None) -> Figures:
        """Run, wait for the last answer, and return the figures."""
        figures = self._figures
        with _no_collections():
            theirs = cpu_of_verifier() if cpu_of_verifier else 0.0
            own = time.process_time()
            self._start = time.monotonic()
            if self._left:
                self._tick()
                await self._over.wait()
            figures.elapsed = max(time.monotonic() - self._start, 1e-9)
            figures.own_cpu = time.process_time() - own
            if cpu_of_verifier:
                figures.verifier_cpu = cpu_of_verifier() - theirs
        return figures

    def _tick(self) -> None:
        now = time.monotonic()
        passed, due, number = now - self._start, self._due, self._next
        late = self._figures.lateness
        while number < len(due) and due[number] <= passed:
            late.append(passed - due[number])
            self._waiting.append(number)
            number += 1
        self._next = number
        if len(self._waiting) > self._patience:
            self._give_up()
        elif number < len(due):
            self._loop.call_at(self._start + due[number], self._tick)
        self._dispatch()

    def _give_up(self) -> None:
        """Count what has not been sent as failed: the verifier does not keep up."""
        for number in (*self._waiting, *range(self._next, len(self._due))):
            self._finish(number, "overload")
        self._waiting.clear()
        self._next = len(self._due)

    def _dispatch(self) -> None:
        while self._waiting and self._pool.room:
            number = self._waiting[0]
            if self._enrols[number] and self._newcomers:
                self._waiting.popleft()
                node = self._newcomers.pop()
                self._spawn(self._slowly(number, "enrolment", node, _join(self._pool, node)))
                return
            if not self._nodes:
                return
            self._waiting.popleft()
            node = self._nodes.popleft()
            if node.nonce is None or node.fresh_until < time.monotonic() + MARGIN:
                self._spawn(self._slowly(number, "restart", node, begin(self._pool, node)))
                return
            self._renew(number, node)

    def _renew(self, number: int, node: FleetNode) -> None:
        data = request(f"{node.path}/leases", "evidence", node.evidence())
        sent = time.monotonic()

        def finished(outcome: Outcome) -> None:
            now = time.monotonic()
            if isinstance(outcome, Response) and outcome.status == _OK:
                try:
                    node.take_encoded_answer(outcome.body, now)
                except MalformedError as exc:
                    self._finish(number, error_kind(exc))
                else:
                    due = self._due[number]
                    self._figures.renewed(due, now - self._start - due, now - sent)
                    self._finish(number, None)
            else:
                refused = isinstance(outcome, Response)
                node.begin_again()
                self._finish(
                    number,
                    error_kind(ProblemAnswerError(outcome) if refused else outcome),  # type: ignore[arg-type]  # narrowed by ``refused``
                )
            self._nodes.append(node)
            self._dispatch()

        self._pool.submit(data, finished)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # What it sends leaves in a later turn: until then its connection still counts as idle.
        self._loop.call_soon(self._dispatch)

    async def _slowly(
        self, number: int, kind: str, node: FleetNode, work: Coroutine[Any, Any, object]
    ) -> None:
        try:
            await work
        except BootleaseError as exc:
            node.begin_again()
            self._finish(number, error_kind(exc))
        else:
            due = self._start + self._due[number]
            self._figures.succeeded(kind, time.monotonic() - due)
            self._finish(number, None)
        if node.node:
            self._nodes.append(node)
        else:
            self._newcomers.append(node)
        self._dispatch()

    def _finish(self, number: int, error: str | None) -> None:
        if error is not None:
            self._figures.failed(error, self._due[number])
        self._left -= 1
        if self._left == 0:
            self._over.set()


async def _join(pool: ConnectionPool, node: FleetNode) -> None:
    await enrol(pool, node)
    await begin(pool, node)


@contextmanager
def _no_collections() -> Iterator[None]:
    # A collection over thousands of nodes would be a pause of the generator's own making.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def each(
    nodes: Sequence[FleetNode],
    work: Callable[[FleetNode], Coroutine[Any, Any, object]],
    *,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Do ``work`` for every node, ``workers`` at a time; what may be tried again is.

    Raises:
        BootleaseError: What ``work`` raises, where trying again does not help.
    """
    left = iter(nodes)
    done = 0

    async def worker() -> None:
        nonlocal done
        for node in left:
            await _insist(work, node)
            done += 1
            if progress is not None:
                progress(done)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(nodes))):
            group.create_task(worker())


_WAIT = {"too-many-requests": 2.0, "busy": 0.5, "unavailable": 0.5}
_TRIES = 60


async def _insist(
    work: Callable[[FleetNode], Coroutine[Any, Any, object]], node: FleetNode
) -> None:
    for _ in range(_TRIES):
        try:
            await work(node)
        except ProblemAnswerError as exc:
            if exc.kind not in _WAIT:
                raise
            await asyncio.sleep(_WAIT[exc.kind])
        else:
            return
    raise TimeoutError("the verifier was busy for too long")
