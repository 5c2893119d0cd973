"""Statements: made when something changes, the same for everybody, told to whoever listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message

from bootlease.appraisal import CodeIdentity
from bootlease.testing.set_clock import SetClock
from bootlease.testing.tokens import ISSUER, FakeIssuer
from bootlease.token.continuity import Continuity, verify_statement
from bootlease.token.statuslist import verify_status_list
from bootlease.verifier.answers import Issuer
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.continuity.statements import GATHERED, Statements
from bootlease.verifier.http_protocol import ABORT
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.registry import Registry
from bootlease.verifier.routes.listening import Listeners, StatementStream

NOW = 1_900_000_000
SIGNER = FakeIssuer()
LEASE = bytes(12) + (9).to_bytes(4)


@dataclass
class Says:
    """A verifier's statements, and all that they rest on."""

    valid: int | None = None
    clock: SetClock = field(default_factory=lambda: SetClock(NOW))
    live: LiveLeases = field(default_factory=LiveLeases)
    min_epoch: int = 0
    statements: Statements = field(init=False)
    signed: int = 0

    def __post_init__(self) -> None:
        lease = SimpleNamespace(continuity=self.valid)
        active = SimpleNamespace(policy=SimpleNamespace(lease=lease)) if self.valid else None
        snapshot = SimpleNamespace(active=active, min_epoch=lambda _: self.min_epoch)
        counting = SimpleNamespace(
            public=SIGNER.signer.public,
            algorithm=SIGNER.signer.algorithm,
            key_id=SIGNER.signer.key_id,
            sign=self.sign,
        )
        self.statements = Statements(
            Issuer(ISSUER, cast("Any", counting), CodeIdentity("1", bytes(32))),
            lambda: SIGNER.keys,
            cast("Registry", SimpleNamespace(now=snapshot)),
            self.live,
            clock=self.clock,
            limits=DEFAULT_LIMITS,
        )

    def sign(self, data: bytes) -> bytes:
        """Sign, and count it."""
        self.signed += 1
        return SIGNER.signer.sign(data)

    def read(self, text: str) -> Continuity:
        """Verify a statement."""
        return verify_statement(text, SIGNER.keys, now=self.clock.now(), issuer=ISSUER, leeway=0)

    def statement(self) -> Continuity:
        """What is said now."""
        return self.read(self.statements.statement(self.clock.now()))


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run one async story."""

    async def whole() -> None:
        await story()

    asyncio.run(whole())


def test_a_statement_is_signed_once_for_a_third_of_its_life() -> None:
    """However many ask; and what it says is what holds."""
    says = Says(valid=30)
    first = says.statement()
    assert (first.issued_at, first.expires_at) == (NOW, NOW + 30)
    assert first.key_ids == {SIGNER.signer.key_id}
    says.clock.pass_time(9)
    assert says.statement() == first
    assert says.signed == 1
    says.clock.pass_time(1)
    assert says.statement().issued_at == NOW + 10
    assert says.signed == 2


def test_without_a_policy_a_default_holds() -> None:
    """A verifier that was just made answers too."""
    statement = Says().statement()
    assert statement.expires_at == NOW + DEFAULT_LIMITS.continuity


def test_a_change_is_in_the_next_statement_and_list() -> None:
    """Not after a third of its life; each has a greater number, also within one second."""

    async def story() -> None:
        says = Says(valid=30)
        first = says.statement()
        uri = f"{ISSUER}/v1/status"
        says.live.granted(b"n" * 32, b"r" * 32, [LEASE], NOW + 100)
        lists = says.statements.status_jwt(NOW), says.statements.status_cwt(NOW)
        assert (says.statements.status_jwt(NOW), says.statements.status_cwt(NOW)) == lists
        says.live.end_lease(LEASE)
        says.statements.changed()
        second = says.statement()
        assert [first.status.get(9), second.status.get(9)] == [0, 1]
        assert second.sequence > first.sequence
        for data in (says.statements.status_jwt(NOW), says.statements.status_cwt(NOW)):
            listed = verify_status_list(data, SIGNER.keys, now=NOW, uri=uri, leeway=0)
            assert (listed.status.get(9), listed.ttl, listed.expires_at) == (1, 10, NOW + 30)

    run(story)


def test_an_epoch_that_time_has_ended_is_in_the_next_statement() -> None:
    """Nothing calls when a life has passed since an activation."""
    says = Says(valid=300)
    assert says.statement().min_epoch == 0
    says.min_epoch = 2
    assert says.statement().min_epoch == 2


def test_a_clock_that_went_back_makes_no_statement_of_the_future() -> None:
    """It is made anew, with a greater number all the same."""
    says = Says(valid=30)
    first = says.statement()
    says.clock.wall -= 100
    second = says.statement()
    assert second.issued_at == NOW - 100
    assert second.sequence > first.sequence


class Client:
    """An ASGI client that takes what it is sent, or does not."""

    def __init__(self, *, slow: bool = False) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.aborted = False
        self._slow = slow

    async def receive(self) -> Message:
        """Say that the client is gone, once it is."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message."""
        if self._slow and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        self.sent.append(message)

    def abort(self) -> None:
        """End the connection."""
        self.aborted = True

    @property
    def statements(self) -> list[str]:
        """What was told."""
        bodies = [each["body"].decode() for each in self.sent if each.get("body")]
        assert all(each.startswith("event: continuity\ndata: ") for each in bodies)
        return [each.split("data: ")[1].strip() for each in bodies]

    async def listen(self, says: Says, listeners: Listeners, **limits: float) -> None:
        """Listen until one side has enough."""
        bounds = replace(DEFAULT_LIMITS, **cast("Any", limits))
        stream = StatementStream(says.statements, says.clock, listeners, "c", bounds)
        scope = {"type": "http", "state": {ABORT: self.abort}}
        await stream(scope, self.receive, self.send)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for is another task's state
            await asyncio.sleep(0.005)


def test_a_listener_hears_of_a_change_within_100_ms() -> None:
    """Changes that come together make one statement; who goes gives the place back."""

    async def story() -> None:
        says, listeners, client = Says(valid=300), Listeners(DEFAULT_LIMITS), Client()
        listening = asyncio.create_task(client.listen(says, listeners))
        await until(lambda: len(client.statements) == 1)
        assert len(listeners) == 1
        says.live.granted(b"n" * 32, b"r" * 32, [LEASE], NOW + 100)
        says.live.end_lease(LEASE)
        start = time.monotonic()
        for _ in range(50):
            says.statements.changed()
            await asyncio.sleep(0)
        await until(lambda: len(client.statements) == 2)
        assert time.monotonic() - start < 0.1
        await asyncio.sleep(2 * GATHERED)
        assert says.read(client.statements[1]).status.get(9) == 1
        assert len(client.statements) == says.signed == 2
        client.gone.set()
        await listening
        assert len(listeners) == 0
        assert not client.aborted

    run(story)


def test_listeners_are_let_go_when_the_verifier_ends() -> None:
    """A stream would hold up its end."""

    async def story() -> None:
        says, client = Says(valid=300), Client()
        listening = asyncio.create_task(client.listen(says, Listeners(DEFAULT_LIMITS)))
        await until(lambda: len(client.statements) == 1)
        says.statements.close()
        await asyncio.wait_for(listening, 1)
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    run(story)


def test_a_listener_that_does_not_take_it_is_dropped() -> None:
    """What waits for it would fill the memory."""

    async def story() -> None:
        says, listeners, client = Says(valid=300), Listeners(DEFAULT_LIMITS), Client(slow=True)
        await asyncio.wait_for(client.listen(says, listeners, listener_time=0.05), 2)
        assert client.aborted
        assert len(listeners) == 0

    run(story)


def test_there_are_so_many_listeners() -> None:
    """Of one client, and in all; a place that is given back is free."""
    listeners = Listeners(replace(DEFAULT_LIMITS, listeners=2, listeners_per_client=1))
    with listeners.place("a"):
        with pytest.raises(ProblemError) as refused, listeners.place("a"):
            pass
        assert refused.value.kind is ProblemKind.BUSY_CLIENT
        with listeners.place("b"), pytest.raises(ProblemError) as full:
            listeners.demand_room("c")
        assert full.value.kind is ProblemKind.BUSY
    with listeners.place("a"):
        assert len(listeners) == 1
