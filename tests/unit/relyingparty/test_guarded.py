"""One guarded request, told step by step what its application says and how its lease fares."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.relyingparty import StaticKeys, TokenChecker, UnsafeNoContinuity
from bootlease.relyingparty.checker import CheckedRequest
from bootlease.relyingparty.guarded import Guarded
from bootlease.testing.tokens import (
    AUDIENCE,
    HOLDER,
    ISSUER,
    LIFE,
    NOW,
    FakeIssuer,
    execution_claims,
)
from bootlease.token import VerifiedProof

ISSUED = FakeIssuer()
START = {"type": "http.response.start", "status": 200, "headers": []}
MORE = {"type": "http.response.body", "body": b"a", "more_body": True}
LAST = {"type": "http.response.body", "body": b"z"}
ACCEPT = {"type": "websocket.accept"}
SAID = {"type": "websocket.send", "text": "a"}
CLOSE = {"type": "websocket.close", "code": 1000}


class Stage:
    """A guard, what it sent on, and a clock."""

    def __init__(self, kind: str = "http", *, scope_due: bool = False) -> None:
        self.now = float(NOW)
        self.sent: list[Any] = []
        checker = TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            audience=AUDIENCE,
            continuity=UnsafeNoContinuity(),
            clock=lambda: self.now,
            leeway=0,
        )
        token = checker.check(ISSUED.jwt(execution_claims()))
        proof = VerifiedProof("j", NOW, HOLDER.public.thumbprint())
        self.guard = Guarded(
            {"type": kind},
            self._send,
            checker,
            CheckedRequest(token, proof),
            scope_due=scope_due,
        )

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def kinds(self) -> list[str]:
        """Return what was sent on, by type."""
        return [each["type"] for each in self.sent]

    def statuses(self) -> list[int]:
        """Return the status of every answer that was begun."""
        return [each["status"] for each in self.sent if each["type"] == "http.response.start"]


def played(play: Callable[[], Awaitable[None]]) -> None:
    """Run one play in an event loop."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await play()

    asyncio.run(bounded())


def test_the_first_reason_stays() -> None:
    """A request that was ended is not ended again for another."""

    async def play() -> None:
        stage = Stage()
        stage.guard.end(TransportError("no word from the verifier"))
        stage.guard.expire()
        await stage.guard.finish()
        assert stage.statuses() == [503]

    played(play)


def test_a_complete_answer_is_not_ended() -> None:
    """What has left whole is over, and nobody waits for its end."""

    async def play() -> None:
        stage = Stage()
        await stage.guard.send(START)
        await stage.guard.send(LAST)
        stage.guard.expire()
        assert stage.guard.complete
        assert not stage.guard.over.done()
        await stage.guard.finish()
        assert stage.sent == [START, LAST]

    played(play)


@pytest.mark.parametrize(("left", "passes"), [(1, True), (0.5, True), (0, False), (-1, False)])
def test_an_answer_passes_to_the_last_moment(left: float, passes: bool) -> None:  # noqa: FBT001
    """And from the moment of the end on it does not, though no timer has fired."""

    async def play() -> None:
        stage = Stage()
        await stage.guard.send(START)
        stage.now = NOW + LIFE - left
        if passes:
            await stage.guard.send(MORE)
        else:
            with pytest.raises(OSError, match="over"):
                await stage.guard.send(MORE)
            assert stage.guard.over.done()
        assert (MORE in stage.sent) == passes

    played(play)


def test_what_comes_before_an_answer_does_not_begin_it() -> None:
    """A refusal can still be said after it."""

    async def play() -> None:
        stage = Stage(scope_due=True)
        await stage.guard.send({"type": "http.response.debug", "info": {}})
        await stage.guard.send(START)
        assert stage.kinds()[:2] == ["http.response.debug", "http.response.start"]
        assert stage.statuses() == [403]

    played(play)


def test_an_answer_is_judged_where_it_begins() -> None:
    """A demand that fails in the middle does not put a second answer into the first."""

    async def play() -> None:
        stage = Stage("websocket")
        await stage.guard.send(ACCEPT)
        with pytest.raises(VerificationError):
            stage.guard.demand("tools:never")
        await stage.guard.send(CLOSE)
        assert stage.sent == [ACCEPT, CLOSE]

    played(play)


def test_nothing_follows_a_refusal() -> None:
    """What the application says later, from a task that it left behind, is not heard."""

    async def play() -> None:
        stage = Stage()
        with pytest.raises(VerificationError):
            stage.guard.demand("tools:never")
        await stage.guard.finish()
        await stage.guard.send(START)
        await stage.guard.send(LAST)
        assert stage.statuses() == [403]
        assert LAST not in stage.sent

    played(play)


def test_a_refused_websocket_is_refused_once() -> None:
    """The end of its lease, after that, adds nothing."""

    async def play() -> None:
        stage = Stage("websocket", scope_due=True)
        await stage.guard.send(ACCEPT)
        stage.guard.expire()
        await stage.guard.finish()
        assert stage.kinds() == ["websocket.close"]

    played(play)


def test_a_websocket_whose_lease_lives_is_the_applications_to_close() -> None:
    """The guard says nothing when its application returns."""

    async def play() -> None:
        stage = Stage("websocket")
        await stage.guard.send(ACCEPT)
        await stage.guard.send(SAID)
        await stage.guard.finish()
        assert stage.sent == [ACCEPT, SAID]

    played(play)


def test_a_websocket_that_was_closed_for_its_lease_is_complete() -> None:
    """Nothing is left to end."""

    async def play() -> None:
        stage = Stage("websocket")
        await stage.guard.send(ACCEPT)
        stage.guard.expire()
        await stage.guard.finish()
        assert stage.sent[-1]["code"] == 1008
        assert stage.guard.complete

    played(play)
