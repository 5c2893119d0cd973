"""The middleware, driven as a server drives it, with a clock that the test sets."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final

import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty import StaticContinuity, StaticKeys, TokenChecker
from bootlease.relyingparty.asgi import THREADS, TICK, LeaseMiddleware
from bootlease.relyingparty.guarded import GUARD, Guarded
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC, Need
from bootlease.testing.tokens import AUDIENCE, HOLDER, ISSUER, LIFE, FakeIssuer, execution_claims
from bootlease.token import KeySet, make_proof
from bootlease.token.continuity import Continuity

Message = MutableMapping[str, Any]
ISSUED = FakeIssuer()
BASE: Final = "https://tools.example"
RULES: Final[dict[str, Need]] = {
    "GET /read": "tools:read",
    "GET /write": "tools:write",
    "GET /open": PUBLIC,
    "* /own/*": BY_HANDLER,
}
_jti = itertools.count()


class Party:
    """A relying party: clock, continuity, middleware, and an application that a test writes.

    Attributes:
        late: Seconds by which its clock is ahead.
    """

    def __init__(self, handler: Callable[..., Awaitable[None]] | None = None) -> None:
        self.issued_at = int(time.time())
        self.late = 0.0
        self.source = StaticContinuity(self.statement())
        self.handler = handler or self.answer
        self.called = 0
        self.begun = asyncio.Event()
        self.scopes: list[Any] = []
        self.checker = TokenChecker(
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            audience=AUDIENCE,
            continuity=self.source,
            clock=lambda: time.time() + self.late,
        )
        self.app = LeaseMiddleware(self.inner, checker=self.checker, base_url=BASE, rules=RULES)

    def statement(self, **changes: Any) -> Continuity:
        """Return a statement of now."""
        return ISSUED.continuity(issued_at=self.issued_at, **changes)

    async def inner(self, scope: Any, receive: Any, send: Any) -> None:
        """Be the application."""
        self.called += 1
        self.begun.set()
        self.scopes.append(scope)
        await self.handler(scope, receive, send)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer yes."""
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    def token(self, life: int = LIFE, number: int = 0) -> str:
        """Return a token that was issued now."""
        now = self.issued_at
        claims = {"issued_at": now, "not_before": now, "expires_at": now + life}
        return ISSUED.jwt(execution_claims(number, **claims))

    def headers(
        self, path: str, method: str = "GET", token: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers of a good request."""
        token = token or self.token()
        proof = make_proof(
            HOLDER,
            htm=method,
            htu=BASE + path,
            iat=int(time.time()),
            jti=str(next(_jti)),
            access_token=token,
        )
        return [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]

    async def request(self, path: str = "/read", **scope: Any) -> Exchange:
        """Make a request and wait until it is answered, or cut."""
        exchange = self.begin(path, **scope)
        await exchange.done()
        return exchange

    def begin(
        self,
        path: str = "/read",
        *,
        headers: list[tuple[bytes, bytes]] | None = None,
        token: str | None = None,
        **scope: Any,
    ) -> Exchange:
        """Begin a request."""
        raw = path.encode()
        known = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": raw,
            "root_path": "",
            "query_string": b"",
            "headers": self.headers(path, token=token) if headers is None else headers,
            **scope,
        }
        return Exchange(self.app, known)


class Exchange:
    """One request to an ASGI application."""

    def __init__(self, app: Any, scope: dict[str, Any]) -> None:
        self.sent: list[Message] = []
        self.received = 0
        self.task = asyncio.create_task(app(scope, self.receive, self.send))

    async def receive(self) -> Message:
        """Give the body, and count."""
        self.received += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        """Take what the application says."""
        self.sent.append(message)

    async def done(self) -> None:
        """Wait until the application has returned."""
        await asyncio.wait_for(self.task, 10)

    async def until(self, count: int) -> None:
        """Wait until so many messages were sent."""
        for _ in range(2000):
            if len(self.sent) >= count:
                return
            await asyncio.sleep(0.002)
        pytest.fail(f"{len(self.sent)} messages, not {count}")

    @property
    def status(self) -> int:
        """The answer's status."""
        status: int = self.sent[0]["status"]
        return status

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")

    @property
    def findings(self) -> list[str]:
        """The findings of a problem document."""
        headers = dict(self.sent[0]["headers"])
        assert headers[b"content-type"] == b"application/problem+json"
        body = self.sent[1]["body"]
        assert headers[b"content-length"] == str(len(body)).encode()
        return [each["id"] for each in json.loads(body).get("findings", [])]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop of its own."""
    asyncio.run(asyncio.wait_for(test, 20))


def test_a_good_request_reaches_the_handler() -> None:
    """With what was checked in its state, beside what was there."""

    async def test() -> None:
        party = Party()
        state = {"mine": 1}
        exchange = await party.request(state=state)
        assert (exchange.status, exchange.whole, exchange.received) == (200, True, 0)
        assert exchange.sent[1]["body"] == b"yes"
        seen = party.scopes[0]["state"]
        assert seen["mine"] == 1
        assert seen["bootlease"].token.claims.subject == execution_claims().subject
        assert state == {"mine": 1}

    run(test())


def without(name: bytes) -> Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]:
    """Return what leaves a header out."""
    return lambda headers: [each for each in headers if each[0] != name]


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        (without(b"authorization"), 401, "request.token.missing"),
        (without(b"dpop"), 401, "request.proof.missing"),
        (lambda headers: [*headers, headers[0]], 400, "request.header.repeated"),
        (lambda headers: [*headers, headers[1]], 400, "request.header.repeated"),
    ],
)
def test_a_request_without_its_two_headers_is_refused(
    change: Callable[..., Any], status: int, expected: str
) -> None:
    """Before its body is read and before the application hears of it."""

    async def test() -> None:
        party = Party()
        exchange = await party.request(headers=change(party.headers("/read")))
        assert (exchange.status, exchange.findings) == (status, [expected])
        assert (party.called, exchange.received) == (0, 0)
        assert b"www-authenticate" in dict(exchange.sent[0]["headers"])

    run(test())


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/write", 403, "token.scope.insufficient"),
        ("/nowhere", 403, "request.scope.unruled"),
        ("/own//x", 400, "request.path.ambiguous"),
    ],
)
def test_what_the_lease_or_no_rule_covers_is_refused(path: str, status: int, expected: str) -> None:
    """Nothing is open that nobody opened."""

    async def test() -> None:
        party = Party()
        exchange = await party.request(path)
        assert (exchange.status, exchange.findings, party.called) == (status, [expected], 0)

    run(test())


def test_what_is_public_needs_no_token() -> None:
    """And gets no state."""

    async def test() -> None:
        party = Party()
        exchange = await party.request("/open", headers=[])
        assert (exchange.status, party.called) == (200, 1)
        assert "state" not in party.scopes[0]

    run(test())


def test_the_url_is_the_configured_one() -> None:
    """What Host says is somebody's word; the proof names what this server is configured to be."""

    async def test() -> None:
        party = Party()
        lies = [(b"host", b"evil.example"), (b"x-forwarded-host", b"evil.example")]
        exchange = await party.request(headers=[*lies, *party.headers("/read")])
        assert exchange.status == 200
        token = party.token()
        proof = make_proof(
            HOLDER,
            htm="GET",
            htu="https://evil.example/read",
            iat=int(time.time()),
            jti="evil",
            access_token=token,
        )
        headers = [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]
        exchange = await party.request(headers=[*lies, *headers])
        assert exchange.findings == ["pop.url.mismatch"]

    run(test())


def test_method_and_path_are_those_of_the_request() -> None:
    """A proof for another request does not pass, however the path is spelled."""

    async def test() -> None:
        party = Party()
        exchange = await party.request("/own/x", headers=party.headers("/own/y"))
        assert exchange.findings == ["pop.url.mismatch"]
        exchange = await party.request("/own/x", method="POST")
        assert exchange.findings == ["pop.method.mismatch"]
        spelled = party.headers("/%72ead")
        exchange = await party.request("/read", raw_path=b"/%72ead", headers=spelled)
        assert exchange.status == 200
        queried = party.headers("/read")
        odd = b"/read?a=b//../%2f"
        exchange = await party.request("/read", raw_path=odd, headers=queried)
        assert exchange.status == 200

    run(test())


def test_rules_are_relative_to_where_the_application_is_mounted() -> None:
    """The proof names the whole path."""

    async def test() -> None:
        party = Party()
        exchange = await party.request("/api/read", root_path="/api")
        assert exchange.status == 200
        for path in ("/apiread", "/xyz/read"):
            exchange = await party.request(path, root_path="/api")
            assert exchange.findings == ["request.scope.unruled"]

    run(test())


@pytest.mark.parametrize("raw", [None, b"*", b"http://x/read", b"/r\xc3\xa9ad", "/read"])
def test_a_target_that_is_no_path_is_malformed(raw: Any) -> None:
    """There is no URL that a proof of it could name."""

    async def test() -> None:
        party = Party()
        exchange = await party.request("/read", raw_path=raw)
        assert (exchange.status, party.called) == (400, 0)
        assert exchange.findings == ["request.path.malformed"]

    run(test())


@pytest.mark.parametrize(
    "base", ["tools.example", "ftp://x", "https://", "https://x?a", "https://x#a"]
)
def test_the_base_is_a_url(base: str) -> None:
    """A typo is found at the start."""
    with pytest.raises(ValueError, match="is not a URL"):
        LeaseMiddleware(Party().inner, checker=Party().checker, base_url=base, rules=RULES)


def test_a_base_may_have_a_path() -> None:
    """What a proxy takes away is put before again."""

    async def test() -> None:
        party = Party()
        party.app = LeaseMiddleware(
            party.inner, checker=party.checker, base_url=f"{BASE}/X/", rules=RULES
        )
        exchange = await party.request("/read", headers=party.headers("/X/read"))
        assert exchange.status == 200

    run(test())


def test_lifespan_passes_and_what_is_unknown_does_not() -> None:
    """A kind of request that nobody checks is an error."""

    async def test() -> None:
        seen: list[str] = []

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del receive, send
            seen.append(scope["type"])

        party = Party(handler)
        await party.app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # unused
        with pytest.raises(ValueError, match="webtransport"):
            await party.app({"type": "webtransport"}, None, None)  # type: ignore[arg-type]  # unused
        assert seen == ["lifespan"]

    run(test())


def test_without_continuity_the_answer_is_503() -> None:
    """The token may be good; whether it is, is not known."""

    async def test() -> None:
        party = Party()
        party.source.statement = ISSUED.continuity(issued_at=party.issued_at - 400)
        exchange = await party.request()
        assert (exchange.status, exchange.findings) == (503, ["continuity.stale"])
        assert dict(exchange.sent[0]["headers"])[b"retry-after"] == b"1"

    run(test())


# -- answers that outlive their lease


async def forever(scope: Any, receive: Any, send: Any) -> None:
    """Answer without end."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.005)


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Begin an answer, and say no more."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await asyncio.sleep(3600)


async def thinking(scope: Any, receive: Any, send: Any) -> None:
    """Think too long to begin."""
    del scope, receive, send
    await asyncio.sleep(3600)


BOTH = pytest.mark.parametrize("handler", [forever, silent], ids=["talking", "silent"])


@BOTH
def test_an_answer_is_cut_when_the_lease_expires(handler: Any) -> None:
    """At its end and the leeway, by a timer, whether or not anything is being said."""

    async def test() -> None:
        party = Party(handler)
        party.late = 4.5
        exchange = party.begin(token=party.token(life=1))
        await exchange.until(2)
        end = party.issued_at + 1 + 5 - 4.5
        await exchange.done()
        assert 0 <= time.time() - end < 0.3
        assert not exchange.whole

    run(test())


@BOTH
def test_an_answer_is_cut_when_the_lease_is_revoked(handler: Any) -> None:
    """As soon as the statement that says so is seen."""

    async def test() -> None:
        party = Party(handler)
        exchange = party.begin(token=party.token(number=7))
        await exchange.until(2)
        await asyncio.sleep(3 * TICK)
        assert not exchange.task.done()
        began = time.monotonic()
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()
        assert time.monotonic() - began < 3 * TICK
        assert not exchange.whole

    run(test())


def test_strangers_do_not_keep_the_watch_from_looking() -> None:
    """However many requests wait for keys that a slow verifier does not give."""

    async def test() -> None:
        party = Party(silent)
        released = threading.Event()

        class Slow(StaticKeys):
            def refresh(self) -> KeySet:
                released.wait(10)
                return super().refresh()

        party.checker._keys = Slow(ISSUED.keys)
        exchange = party.begin(token=party.token(number=7))
        await exchange.until(2)
        unknown = FakeIssuer(99).jwt(execution_claims())
        strangers = [party.begin(token=unknown) for _ in range(2 * THREADS)]
        try:
            await asyncio.sleep(2 * TICK)
            party.source.statement = party.statement(sequence=2, revoked=[7])
            await asyncio.wait_for(exchange.task, 10 * TICK)
            assert not exchange.whole
        finally:
            released.set()
        for stranger in strangers:
            await stranger.done()
            assert stranger.findings == ["token.key.unknown"]

    run(test())


def test_an_answer_is_cut_when_nothing_is_known_any_more() -> None:
    """A stream does not go on while a new request would be refused."""

    async def test() -> None:
        party = Party(silent)
        exchange = party.begin()
        await exchange.until(2)

        def gone() -> Continuity:
            raise TransportError("gone")

        party.source.current = gone  # type: ignore[method-assign]  # a source that fails
        await exchange.done()
        assert not exchange.whole

    run(test())


def test_nothing_is_said_after_the_end_though_the_timer_is_late() -> None:
    """A handler that keeps the event loop busy does not get a word out after the end."""

    async def test() -> None:
        seen: list[str] = []
        party = Party()

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            party.late = LIFE + 6
            try:
                await send({"type": "http.response.body", "body": b"2", "more_body": True})
            except OSError:
                seen.append("refused")
                raise

        party.handler = handler
        exchange = await party.request()
        assert [each.get("body") for each in exchange.sent] == [None, b"1"]
        assert seen == ["refused"]

    run(test())


def test_a_lease_that_ends_before_the_answer_begins_is_a_refusal() -> None:
    """The client is told, as the connection is still good for that."""

    async def test() -> None:
        party = Party(thinking)
        exchange = party.begin(token=party.token(number=7))
        await party.begun.wait()
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()
        assert (exchange.status, exchange.findings) == (401, ["token.revoked"])

    run(test())


def test_an_expired_lease_is_refused_by_name_before_the_answer_begins() -> None:
    """The finding is that of any expired token."""

    async def test() -> None:
        party = Party(thinking)
        party.late = 5.5
        exchange = await party.request(token=party.token(life=1))
        assert (exchange.status, exchange.findings) == (401, ["token.expired"])

    run(test())


def test_what_is_done_after_a_whole_answer_is_not_stopped() -> None:
    """Work of the server's own, in the background, is no answer to anybody."""

    async def test() -> None:
        done: list[bool] = []
        party = Party()

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            await party.answer(scope, receive, send)
            party.source.statement = party.statement(sequence=2, revoked=[7])
            await asyncio.sleep(3 * TICK)
            done.append(True)

        party.handler = handler
        exchange = await party.request(token=party.token(number=7))
        assert (exchange.whole, done) == (True, [True])

    run(test())


def test_nor_does_its_expiry_stop_it() -> None:
    """A timer that goes off after the answer was complete ends nothing."""

    async def test() -> None:
        done: list[bool] = []
        party = Party()
        party.late = 4.5

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            await party.answer(scope, receive, send)
            await asyncio.sleep(2)
            done.append(True)

        party.handler = handler
        exchange = await party.request(token=party.token(life=1))
        assert (exchange.whole, done) == (True, [True])

    run(test())


def test_a_handler_that_does_not_stop_keeps_no_connection() -> None:
    """The middleware returns, and what the handler says later is not heard."""

    async def test() -> None:
        free = asyncio.Event()
        said: list[str] = []

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await free.wait()
                try:
                    await send({"type": "http.response.body", "body": b"late"})
                except OSError:
                    said.append("refused")
                    raise

        party = Party(handler)
        exchange = party.begin(token=party.token(number=7))
        await exchange.until(1)
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()
        free.set()
        await asyncio.sleep(0.01)
        assert (len(exchange.sent), said) == (1, ["refused"])

    run(test())


def test_a_server_that_stops_stops_the_application() -> None:
    """Cancelling the middleware cancels what is inside."""

    async def test() -> None:
        stopped: list[bool] = []

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive, send
            try:
                await asyncio.sleep(3600)
            finally:
                stopped.append(True)

        party = Party(handler)
        exchange = party.begin()
        await party.begun.wait()
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
        await asyncio.sleep(0)
        assert stopped == [True]

    run(test())


def test_an_error_of_the_application_is_the_servers() -> None:
    """It is neither swallowed nor turned into a refusal."""

    async def test() -> None:
        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive, send
            raise KeyError("defect")

        with pytest.raises(KeyError):
            await Party(handler).request()

    run(test())


def test_an_application_that_says_nothing_is_not_spoken_for() -> None:
    """While its lease counts; what to make of it is the server's."""

    async def test() -> None:
        async def handler(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive, send

        exchange = await Party(handler).request()
        assert exchange.sent == []

    run(test())


def test_the_watch_ends_when_nothing_is_to_be_watched() -> None:
    """No task is left behind, and a new one begins with the next request, in any event loop."""
    party = Party()

    async def test() -> None:
        await party.request()
        await asyncio.sleep(2 * TICK)
        assert len(asyncio.all_tasks()) == 2  # the test, and asyncio.wait_for's

    async def cut() -> None:
        party.handler = silent
        party.source.statement = party.statement()
        exchange = party.begin(token=party.token(number=7))
        await exchange.until(2)
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()

    run(test())
    run(cut())
    run(cut())


# -- handlers that demand


def demanding(*names: str) -> Callable[..., Awaitable[None]]:
    """Return a handler that demands these scopes of its guard."""

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        del receive
        guarded = scope[GUARD]
        assert isinstance(guarded, Guarded)
        for name in names:
            guarded.demand(name)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"secret"})

    return handler


def test_a_handler_that_demands_a_covered_scope_is_heard() -> None:
    """Each of several."""

    async def test() -> None:
        exchange = await Party(demanding("tools:read", "repo:acme:x")).request("/own/x")
        assert (exchange.status, exchange.sent[1]["body"]) == (200, b"secret")

    run(test())


def test_a_handler_that_demands_nothing_is_not_heard() -> None:
    """Forgetting the scope opens nothing."""

    async def test() -> None:
        party = Party()
        exchange = await party.request("/own/x")
        assert (exchange.status, exchange.findings) == (403, ["request.scope.undemanded"])
        assert len(exchange.sent) == 2

    run(test())


def test_a_handler_that_goes_on_after_a_refusal_is_not_heard() -> None:
    """Whatever it answers, the client gets the refusal."""

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        try:
            scope[GUARD].demand("tools:read")
            scope[GUARD].demand("tools:write")
        except Exception:  # noqa: BLE001 - what careless handlers do
            await Party().answer(scope, receive, send)

    async def test() -> None:
        exchange = await Party(handler).request("/own/x")
        assert (exchange.status, exchange.findings) == (403, ["token.scope.insufficient"])
        assert len(exchange.sent) == 2

    run(test())


def test_a_handler_that_says_nothing_after_a_refusal_is_answered_for() -> None:
    """The refusal is sent when it returns."""

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        del receive, send
        with pytest.raises(Exception, match="does not cover"):
            scope[GUARD].demand("tools:write")

    async def test() -> None:
        exchange = await Party(handler).request("/own/x")
        assert exchange.findings == ["token.scope.insufficient"]

    run(test())


# -- WebSockets


async def talking(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and talk without end."""
    del scope
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "text": "x"})
        await asyncio.sleep(0.005)


def socket(party: Party, path: str = "/read", **scope: Any) -> Exchange:
    """Begin a WebSocket."""
    return party.begin(path, type="websocket", **scope)


def test_a_websocket_is_closed_when_its_lease_ends() -> None:
    """With 1008, and nothing after it."""

    async def test() -> None:
        party = Party(talking)
        exchange = socket(party, token=party.token(number=7))
        await exchange.until(3)
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()
        assert exchange.sent[-1] == {
            "type": "websocket.close",
            "code": 1008,
            "reason": "lease over",
        }

    run(test())


@pytest.mark.parametrize("denial", [False, True])
def test_a_websocket_is_refused_before_it_is_open(*, denial: bool) -> None:
    """With the whole refusal where the server can say it, else by closing."""

    async def test() -> None:
        party = Party(talking)
        extensions: Any = {"websocket.http.response": {}} if denial else None
        exchange = socket(party, headers=[], extensions=extensions)
        await exchange.done()
        assert party.called == 0
        if denial:
            assert exchange.sent[0]["type"] == "websocket.http.response.start"
            assert exchange.sent[1]["type"] == "websocket.http.response.body"
            assert exchange.findings == ["request.token.missing"]
        else:
            assert exchange.sent == [{"type": "websocket.close", "code": 1008}]

    run(test())


def test_a_websocket_whose_handler_demands_nothing_is_not_opened() -> None:
    """As with any other request."""

    async def test() -> None:
        party = Party(talking)
        exchange = socket(party, "/own/x")
        await exchange.until(1)
        exchange.task.cancel()
        await asyncio.sleep(0.05)
        assert exchange.sent == [{"type": "websocket.close", "code": 1008}]

    run(test())


def test_a_websocket_that_its_handler_closed_is_closed_once() -> None:
    """Nothing follows the end of a conversation."""

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        await asyncio.sleep(3 * TICK)

    async def test() -> None:
        party = Party(handler)
        exchange = socket(party, token=party.token(number=7))
        await exchange.until(2)
        party.source.statement = party.statement(sequence=2, revoked=[7])
        await exchange.done()
        assert [each["type"] for each in exchange.sent] == ["websocket.accept", "websocket.close"]

    run(test())
