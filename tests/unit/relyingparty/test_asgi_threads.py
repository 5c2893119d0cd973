"""What the middleware runs beside a request: threads, a timer, one watch, and what it leaves."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker, asgi
from bootlease.relyingparty.asgi import LeaseMiddleware
from bootlease.relyingparty.guarded import GUARD
from bootlease.relyingparty.rules import PUBLIC, Need
from bootlease.testing.tokens import AUDIENCE, HOLDER, ISSUER, LIFE, FakeIssuer, execution_claims
from bootlease.token import make_proof

ISSUED: Final = FakeIssuer()
BASE: Final = "https://tools.example"


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop of its own."""
    asyncio.run(asyncio.wait_for(test, 20))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came about")


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Begin an answer and say no more."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(3600)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body of the request."""
    del scope
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


class Place:
    """A middleware around a handler; counts the checks by thread."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.now = int(time.time())
        self.late = 0.0
        self.threads: list[str] = []
        self.guards: list[weakref.ref[Any]] = []
        self.sent: list[Any] = []
        self.number = 0
        self.source = StaticContinuity(ISSUED.continuity(issued_at=self.now))
        checker = TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            audience=AUDIENCE,
            continuity=self.source,
            clock=self.clock,
        )
        rules: dict[str, Need] = {"GET /read": "tools:read", "GET /open": PUBLIC}
        self.app = LeaseMiddleware(self.inner, checker=checker, base_url=BASE, rules=rules)

    def clock(self) -> float:
        """Tell the time, and note who asks."""
        self.threads.append(threading.current_thread().name)
        return time.time() + self.late

    async def inner(self, scope: Any, receive: Any, send: Any) -> None:
        """Be the application."""
        if GUARD in scope:
            self.guards.append(weakref.ref(scope[GUARD]))
        await self.handler(scope, receive, send)

    async def receive(self) -> Any:
        """Give the body."""
        return {"type": "http.request", "body": b"asked", "more_body": False}

    async def send(self, message: Any) -> None:
        """Take an answer."""
        self.sent.append(message)

    def begin(self, path: str = "/read", life: int = LIFE) -> asyncio.Task[None]:
        """Begin a request."""
        self.number += 1
        times = {"issued_at": self.now, "not_before": self.now, "expires_at": self.now + life}
        token = ISSUED.jwt(execution_claims(self.number, **times))
        proof = make_proof(
            HOLDER,
            htm="GET",
            htu=BASE + path,
            iat=self.now,
            jti=str(self.number),
            access_token=token,
        )
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())],
        }
        return asyncio.get_running_loop().create_task(self.app(scope, self.receive, self.send))

    async def begun(self, count: int = 1) -> None:
        """Wait until so many messages were sent."""
        await until(lambda: len(self.sent) >= count)

    def quiet(self) -> bool:
        """Tell whether nothing is watched any more."""
        watch = self.app._watch
        return watch is not None and watch.done()

    def revoke(self) -> None:
        """End every lease."""
        self.source.statement = ISSUED.continuity(
            issued_at=self.now, sequence=2, revoked=range(1, 9)
        )


def test_a_public_request_is_passed_on_whole() -> None:
    """The application reads its body and answers it."""

    async def test() -> None:
        place = Place(answer)
        await place.begin("/open")
        assert [each.get("body") for each in place.sent] == [None, b"asked"]

    run(test())


def test_checks_run_in_threads_of_their_own() -> None:
    """An application that fills asyncio's threads does not keep its requests from being checked."""

    async def test() -> None:
        place = Place(stream)
        task = place.begin()
        await place.begun()
        first = next(name for name in place.threads if name != "MainThread")
        assert first.startswith("bootlease-check")
        await until(lambda: any(name.startswith("bootlease-watch") for name in place.threads))
        task.cancel()

    run(test())


def test_the_end_of_a_lease_needs_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer fires, however long the watch waits for its thread."""
    monkeypatch.setattr(asgi, "TICK", 3600)

    async def test() -> None:
        place = Place(stream)
        place.late = 4.7
        await place.begin(life=1)
        assert place.sent[0]["status"] == 200

    run(test())


def test_a_request_that_is_over_is_forgotten() -> None:
    """Nothing keeps it until its lease ends."""

    async def test() -> None:
        place = Place(answer)
        await place.begin()
        await until(place.quiet)
        gc.collect()
        assert [each() for each in place.guards] == [None]

    run(test())


def test_what_a_stopped_application_raises_is_not_logged() -> None:
    """It is the noise of its being stopped."""

    async def clumsy(scope: Any, receive: Any, send: Any) -> None:
        try:
            await stream(scope, receive, send)
        except asyncio.CancelledError as exc:
            raise RuntimeError("stopped") from exc

    async def test() -> None:
        said: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        place = Place(clumsy)
        task = place.begin()
        await place.begun()
        place.revoke()
        await task
        await asyncio.sleep(0)
        gc.collect()
        assert said == []

    run(test())


def test_one_watch_is_enough() -> None:
    """However many requests are under way."""

    async def test() -> None:
        place = Place(stream)
        tasks = [place.begin() for _ in range(3)]
        await place.begun(3)
        running = [str(task.get_coro()) for task in asyncio.all_tasks()]
        assert sum("_watch_leases" in each for each in running) == 1
        for task in tasks:
            task.cancel()

    run(test())


def test_the_watch_begins_again() -> None:
    """A request after a quiet time is cut like the first."""

    async def test() -> None:
        place = Place(answer)
        await place.begin()
        await until(place.quiet)
        place.handler = stream
        task = place.begin()
        await place.begun(3)
        place.revoke()
        await task

    run(test())


def test_another_event_loop_has_a_watch_of_its_own() -> None:
    """That of a loop which nobody runs any more never wakes, and its requests are not touched."""
    place = Place(stream)
    first = asyncio.new_event_loop()

    async def leave() -> None:
        place.begin()
        await place.begun()

    async def test() -> None:
        task = place.begin()
        await place.begun(2)
        place.revoke()
        await task
        left = place.guards[0]()
        assert left is not None
        assert not left.over.done()

    async def clear() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    try:
        first.run_until_complete(leave())
        run(test())
        first.run_until_complete(clear())
    finally:
        first.close()


def test_a_websocket_is_opened_by_get() -> None:
    """Its scope names no method (RFC 6455 \N{SECTION SIGN}4.1: the handshake is a GET)."""
    assert asgi._target({"path": "/x", "raw_path": b"/x?y"}) == ("GET", "/x", b"/x")
