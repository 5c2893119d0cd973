"""Nodes that attest to a verifier that keeps dying, and remember all that they were told.

They do what an agent does when answers are lost: send the same bytes until there is an answer.
Some of them also do what an attacker would: answer one challenge twice, at once or afterwards.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bootlease.errors import TransportError
from bootlease.evidence import LeaseAnswer
from bootlease.testing.fleet import (
    ConnectionPool,
    FleetImage,
    FleetNode,
    ProblemAnswerError,
    Response,
    ask,
    enrol,
    problem_kind,
    request,
)

_OK = 200
_PAUSE = 0.1
_WAITING = {"busy": 0.1, "unavailable": 0.1, "too-many-requests": 0.5}
"""What a verifier says that will say something else later, and how long to wait for that."""
_TWICE, _REPLAY, _AFTERWARDS, _RETIRE = 0.06, 0.04, 0.04, 0.02


@dataclass(frozen=True, slots=True)
class Told:
    """One lease answer that a client received.

    Attributes:
        node: Who received it.
        nonce: The challenge that was answered.
        previous: Head that the evidence named, or None.
        document: SHA-256 of the evidence without its logs.
        answer: The answer.
        received: ``time.monotonic`` of its arrival.
    """

    node: bytes
    nonce: bytes
    previous: bytes | None
    document: bytes
    answer: LeaseAnswer
    received: float


@dataclass(slots=True)
class Heard:
    """All that the clients of one run were told.

    Attributes:
        nodes: Ids of the nodes that hold an enrolment receipt.
        answers: Lease answers, in the order in which they came.
        complaints: What no verifier may answer.
        counts: What was done, by kind.
    """

    nodes: set[bytes] = field(default_factory=set)
    answers: list[Told] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Clients:
    """A number of nodes at work.

    Args:
        pool: Connections.
        image: What the nodes have booted.
        count: Nodes at work at a time; now and then one retires and a new one enrols.
        seed: Of everything that is left to chance.
    """

    def __init__(self, pool: ConnectionPool, image: FleetImage, count: int, seed: int) -> None:
        self.heard = Heard()
        self._pool = pool
        self._image = image
        self._chance = random.Random(seed)  # noqa: S311 - which client does what
        self._retired: list[FleetNode] = []
        self._active: dict[int, FleetNode] = {}
        self._stopping = False
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(count)]

    def check(self) -> None:
        """Raise what a client has died of, if one has."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Let every client finish what it does; the verifier must run."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        """End the clients where they stand."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def call_the_roll(self) -> None:
        """Demand that every node is known still, and that those at work continue."""
        for node in self._active.values():
            if node.head is not None:
                self.heard.counts["continued at the end"] += 1
                await self._attest(node)
        for node in self._retired:
            await self._ask(node)

    async def _work(self, number: int) -> None:
        while not self._stopping:
            node = self._active.get(number)
            if node is None:
                node = await self._newcomer()
                self._active[number] = node
                continue
            if not await self._attest(node):
                del self._active[number]
            elif self._chance.random() < _RETIRE:
                self._retired.append(self._active.pop(number))

    async def _newcomer(self) -> FleetNode:
        node = FleetNode(self._image)
        await self._insist(lambda: enrol(self._pool, node), retried={"unknown-enrolment"})
        self.heard.nodes.add(node.node)
        return node

    async def _ask(self, node: FleetNode) -> None:
        await self._insist(lambda: ask(self._pool, node))

    async def _insist(
        self, step: Callable[[], Awaitable[None]], retried: frozenset[str] | set[str] = frozenset()
    ) -> None:
        """Take a step until it succeeds or is answered with what cannot be waited out."""
        while True:
            try:
                await step()
            except TransportError:
                await asyncio.sleep(_PAUSE)
            except ProblemAnswerError as exc:
                if exc.kind not in retried and exc.kind not in _WAITING:
                    self.heard.complaints.append(f"a node was answered {exc}")
                    return
                await asyncio.sleep(_WAITING.get(exc.kind, _PAUSE))
            else:
                return

    async def _send(self, node: FleetNode, evidence: bytes) -> Response:
        """Send the same bytes until there is an answer."""
        data = request(f"{node.path}/leases", "evidence", evidence)
        while True:
            try:
                response = await self._pool.send(data)
            except TransportError:
                self.heard.counts["requests without an answer"] += 1
                await asyncio.sleep(_PAUSE)
                continue
            pause = _WAITING.get(problem_kind(response)) if response.status != _OK else None
            if pause is None:
                return response
            self.heard.counts["requests told to wait"] += 1
            await asyncio.sleep(pause)

    async def _attest(self, node: FleetNode) -> bool:
        """Renew, or begin; tell whether the node may go on."""
        if node.nonce is None:
            await self._ask(node)
        nonce, previous = node.nonce, node.head
        if nonce is None:
            return False
        bodies = [node.evidence()]
        if self._chance.random() < _TWICE:
            self.heard.counts["challenges answered twice at once"] += 1
            bodies.append(node.evidence())
        responses = await asyncio.gather(*(self._send(node, body) for body in bodies))
        granted = [
            (body, response)
            for body, response in zip(bodies, responses, strict=True)
            if response.status == _OK
        ]
        refused = [problem_kind(each) for each in responses if each.status != _OK]
        if len(granted) != 1 or any(kind != "challenge-spent" for kind in refused):
            self.heard.complaints.append(
                f"node {node.node.hex()}: {len(granted)} grants on one challenge, {refused}"
            )
        if not granted:
            return False
        body, response = granted[0]
        self._keep(node, nonce, previous, body, response)
        await self._misbehave(node, (nonce, previous), body, response)
        return True

    def _keep(
        self,
        node: FleetNode,
        nonce: bytes,
        previous: bytes | None,
        body: bytes,
        response: Response,
    ) -> None:
        received = time.monotonic()
        answer = LeaseAnswer.parse(response.body)
        document = hashlib.sha256(without_log(body)).digest()
        self.heard.answers.append(Told(node.node, nonce, previous, document, answer, received))
        node.take_answer(answer, received)

    async def _misbehave(
        self,
        node: FleetNode,
        spent: tuple[bytes, bytes | None],
        body: bytes,
        response: Response,
    ) -> None:
        """Now and then, send the same again, or other evidence for the challenge just spent."""
        if self._chance.random() < _REPLAY:
            self.heard.counts["evidence sent again"] += 1
            again = await self._send(node, body)
            if again != response:
                self.heard.complaints.append(
                    f"node {node.node.hex()}: the same evidence was answered differently, "
                    f"{again.status} {problem_kind(again) if again.status != _OK else ''}"
                )
        if self._chance.random() < _AFTERWARDS:
            self.heard.counts["challenges answered twice afterwards"] += 1
            kept = node.nonce, node.head
            node.nonce, node.head = spent
            other = node.evidence()
            node.nonce, node.head = kept
            answered = await self._send(node, other)
            if answered.status == _OK or problem_kind(answered) != "challenge-spent":
                self.heard.complaints.append(
                    f"node {node.node.hex()}: other evidence for a spent challenge was answered "
                    f"{answered.status} {answered.body[:200]!r}"
                )


def without_log(evidence: bytes) -> bytes:
    """Return an evidence document of a fleet's node with ``logs`` empty."""
    marked = b"\x64logs\xa1\x63tcg"
    if marked not in evidence[:16]:
        return evidence
    return (
        b"\xa7\x61v\x01\x64logs\xa0" + evidence[evidence.index(b"\x64pcrs", _log_end(evidence)) :]
    )


def _log_end(evidence: bytes) -> int:
    # The log's length stands behind its name: RFC 8949 §3, two or four bytes of it.
    at = evidence.index(b"\x63tcg") + 4
    size = {0x59: 2, 0x5A: 4}[evidence[at]]
    return at + 1 + size + int.from_bytes(evidence[at + 1 : at + 1 + size], "big")
