"""Receiving security events: the verifier's alone, each acted on once, pushed over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.relyingparty import events
from bootlease.relyingparty.eventkeys import StaticEventKeys
from bootlease.relyingparty.events import EventReceiver, PushEndpoint
from bootlease.testing.keys import event_signer
from bootlease.token import PrivateKeySigner, Signer
from bootlease.token.caep import Cause, Initiator, SessionRevoked, SessionSubject
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.secevent import MAX_SET, SECEVENT, SecurityEvent, sign_set

ISSUER, AUDIENCE = "https://verifier.example", "https://tools.example"
SIGNER = event_signer()
OTHER = PrivateKeySigner(rsa.generate_private_key(65537, 2048))
KEYS = EventKeySet((EventKey(SIGNER.public),))
HEADER = "Bearer of-the-receiver"


def event(number: int = 0, **changes: Any) -> SecurityEvent:
    """An event."""
    why = Cause(1_900_000_000, Initiator.ADMIN, "stolen")
    members: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jti": f"event-number-{number:04}",
        "issued_at": 1_900_000_000,
        "subject": SessionSubject(b"\x01" * 32),
        "event": SessionRevoked(why),
        **changes,
    }
    return SecurityEvent(**members)


def signed(number: int = 0, signer: Signer = SIGNER, **changes: Any) -> str:
    """An event as it is sent."""
    return sign_set(event(number, **changes), signer)


class Rotating:
    """Keys that are others after a refresh."""

    def __init__(self, *sets: EventKeySet) -> None:
        self.sets = list(sets)
        self.refreshed = 0

    def key_set(self) -> EventKeySet:
        """The keys now."""
        return self.sets[0]

    def refresh(self) -> EventKeySet:
        """The next ones, if there are any."""
        self.refreshed += 1
        if len(self.sets) > 1:
            del self.sets[0]
        return self.sets[0]


class Listener:
    """A receiver and what it was called with."""

    def __init__(self, keys: Any = None, **options: Any) -> None:
        self.heard: list[SecurityEvent] = []
        self.trouble: Exception | None = None
        self.receiver = EventReceiver(
            keys or StaticEventKeys(KEYS),
            issuer=ISSUER,
            audience=AUDIENCE,
            on_event=self._keep,
            **options,
        )

    def _keep(self, heard: SecurityEvent) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.heard.append(heard)


@pytest.fixture
def listener() -> Listener:
    """A receiver."""
    return Listener()


def test_an_event_is_acted_on_once(listener: Listener) -> None:
    """However often it comes; another one is another one."""
    assert listener.receiver.take(signed(1)) == event(1)
    assert listener.receiver.take(signed(1)) is None
    assert listener.receiver.take(signed(2)) == event(2)
    assert listener.heard == [event(1), event(2)]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (signed(signer=OTHER), "set.key.unknown"),
        (signed(issuer="https://other.example"), "set.issuer.mismatch"),
        (signed(audience="https://other.example"), "set.audience.mismatch"),
        (signed()[:-4] + ("AAAA" if signed()[-4:] != "AAAA" else "BBBB"), "set.signature.invalid"),
    ],
)
def test_what_does_not_count_is_not_acted_on(listener: Listener, text: str, finding: str) -> None:
    """Nor remembered: the true event of that name is heard after it."""
    with pytest.raises(VerificationError) as caught:
        listener.receiver.take(text)
    assert [each.id for each in caught.value.findings] == [finding]
    assert listener.heard == []
    assert listener.receiver.take(signed()) == event()


def test_an_event_under_another_name_is_malformed(listener: Listener) -> None:
    """Whoever gives it would be told that another event was taken."""
    with pytest.raises(MalformedError, match="another name"):
        listener.receiver.take(signed(1), name=event(2).jti)
    assert listener.heard == []
    assert listener.receiver.take(signed(1), name=event(1).jti) == event(1)


def test_an_event_that_could_not_be_acted_on_comes_again(listener: Listener) -> None:
    """It is not remembered as done."""
    listener.trouble = TransportError("the verifier cannot be reached")
    with pytest.raises(TransportError):
        listener.receiver.take(signed())
    listener.trouble = None
    assert listener.receiver.take(signed()) == event()


def test_memory_is_bounded() -> None:
    """The oldest names are forgotten: one of theirs is one more hint."""
    listener = Listener(remembered=2)
    for number in (1, 2, 3, 3, 2, 1):
        listener.receiver.take(signed(number))
    assert [each.jti[-1] for each in listener.heard] == ["1", "2", "3", "1"]


def test_another_key_of_the_verifier_is_found() -> None:
    """Once for each event that names it; a key that nobody has is refused."""
    other = EventKeySet((EventKey(OTHER.public),))
    keys = Rotating(KEYS, other)
    listener = Listener(keys)
    assert listener.receiver.take(signed(signer=OTHER)) == event()
    assert keys.refreshed == 1
    with pytest.raises(VerificationError):
        listener.receiver.take(signed(1))
    assert keys.refreshed == 2


def test_a_bad_signature_does_not_make_keys_be_fetched() -> None:
    """Strangers cause no requests."""
    keys = Rotating(KEYS)
    with pytest.raises(VerificationError):
        Listener(keys).receiver.take(signed(audience="https://other.example"))
    assert keys.refreshed == 0


def test_an_event_that_is_being_acted_on_is_not_done() -> None:
    """Whoever brings it again meanwhile waits, and learns what became of it."""
    entered, leave = threading.Event(), threading.Event()
    results: list[object] = []

    def slow(_: SecurityEvent) -> None:
        entered.set()
        assert leave.wait(10)
        raise TransportError("it failed")

    receiver = EventReceiver(StaticEventKeys(KEYS), issuer=ISSUER, audience=AUDIENCE, on_event=slow)

    def take() -> None:
        try:
            results.append(receiver.take(signed()))
        except TransportError as exc:
            results.append(exc)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    assert results == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert all(isinstance(each, TransportError) for each in results)
    assert len(results) == 2


@pytest.mark.parametrize(
    ("issuer", "audience"), [("", AUDIENCE), (ISSUER, ""), (ISSUER, "x" * 513)]
)
def test_a_receiver_names_itself_and_its_verifier(issuer: str, audience: str) -> None:
    """An empty name would match an empty one."""
    with pytest.raises(ValueError, match="issuer and an audience"):
        EventReceiver(
            StaticEventKeys(KEYS), issuer=issuer, audience=audience, on_event=lambda _: None
        )


def push(
    listener: Listener,
    body: str | bytes,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    authorization: str | None = None,
) -> httpx2.Response:
    """Push to a receiver."""

    async def send() -> httpx2.Response:
        app: Any = PushEndpoint(listener.receiver, authorization=authorization)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
            return await client.request(
                method,
                "http://receiver.example/events",
                content=body,
                headers={"content-type": SECEVENT} if headers is None else headers,
            )

    return asyncio.run(send())


def test_a_name_may_be_as_long_as_a_streams() -> None:
    """The verifier's bound is the receiver's."""
    assert EventReceiver(
        StaticEventKeys(KEYS), issuer=ISSUER, audience="x" * 512, on_event=lambda _: None
    )


def test_a_pushed_event_is_accepted(listener: Listener) -> None:
    """202 without a body, also when it comes again (RFC 8935 §2.2)."""
    for _ in range(2):
        answer = push(listener, signed())
        assert (answer.status_code, answer.content) == (202, b"")
        assert answer.headers["cache-control"] == "no-store"
    assert listener.heard == [event()]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (signed(signer=OTHER), "invalid_key"),
        (signed(issuer="https://other.example"), "invalid_issuer"),
        (signed(audience="https://other.example"), "invalid_audience"),
        (signed()[:-4] + ("AAAA" if signed()[-4:] != "AAAA" else "BBBB"), "invalid_key"),
        ("", "invalid_request"),
        (b"\xff\xfe", "invalid_request"),
        ("a.b.c", "invalid_request"),
        ("x" * (MAX_SET + 1), "invalid_request"),
    ],
)
def test_a_pushed_event_that_does_not_count_is_refused(
    listener: Listener, body: str | bytes, code: str
) -> None:
    """400 with the code of RFC 8935 §2.4, and words for a person."""
    answer = push(listener, body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-language"] == "en"
    told = answer.json()
    assert told.keys() == {"err", "description"}
    assert told["err"] == code
    assert told["description"]
    assert listener.heard == []


@pytest.mark.parametrize(("surplus", "read"), [(0, True), (1, False)])
def test_a_body_is_read_up_to_its_bound(listener: Listener, surplus: int, *, read: bool) -> None:
    """And not refused for its length before."""
    told = push(listener, "x" * (MAX_SET + surplus)).json()
    assert ("at most" in told["description"]) is not read


def test_an_event_that_cannot_be_acted_on_is_asked_for_again(listener: Listener) -> None:
    """503: the verifier pushes it once more."""
    listener.trouble = TransportError("not now")
    assert push(listener, signed()).status_code == 503
    listener.trouble = None
    assert push(listener, signed()).status_code == 202


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"method": "GET"}, 405, "invalid_request"),
        ({"headers": {}}, 400, "invalid_request"),
        ({"headers": {"content-type": "application/json"}}, 400, "invalid_request"),
        ({"authorization": HEADER}, 401, "authentication_failed"),
        (
            {
                "authorization": HEADER,
                "headers": {"content-type": SECEVENT, "authorization": "Bearer x"},
            },
            401,
            "authentication_failed",
        ),
    ],
)
def test_a_request_that_is_no_push_is_refused(
    listener: Listener, options: dict[str, Any], status: int, code: str
) -> None:
    """Each is wrong in one way."""
    answer = push(listener, signed(), **options)
    assert (answer.status_code, answer.json()["err"]) == (status, code)
    assert listener.heard == []


def test_a_push_with_the_right_header_is_accepted(listener: Listener) -> None:
    """What the operator gave the verifier for this receiver."""
    headers = {"content-type": SECEVENT, "authorization": HEADER}
    assert push(listener, signed(), headers=headers, authorization=HEADER).status_code == 202


Message = dict[str, Any]


def asgi(
    listener: Listener, scope: Message, *messages: Message
) -> tuple[list[Message], Callable[[], Coroutine[Any, Any, None]]]:
    """Call the endpoint as a server does."""
    sent: list[Message] = []
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def call() -> None:
        await PushEndpoint(listener.receiver)(scope, receive, send)

    return sent, call


def test_a_body_in_parts_is_put_together_within_its_bound(listener: Listener) -> None:
    """And not one byte beyond is kept."""
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", SECEVENT.encode())],
    }
    body = signed().encode()
    parts: list[Message] = [
        {"type": "http.request", "body": body[:100], "more_body": True},
        {"type": "http.request", "body": body[100:]},
    ]
    sent, call = asgi(listener, scope, *parts)
    asyncio.run(call())
    assert sent[0]["status"] == 202
    endless = [{"type": "http.request", "body": b"x" * 20_000, "more_body": True}] * 2
    sent, call = asgi(listener, scope, *endless)
    asyncio.run(call())
    assert sent[0]["status"] == 400
    gone: list[Message] = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent, call = asgi(listener, scope, *gone)
    asyncio.run(call())
    assert sent[0]["status"] == 400
    assert len(listener.heard) == 1


def test_only_http_is_answered(listener: Listener) -> None:
    """A server that asks for more learns that there is no more."""
    sent, call = asgi(listener, {"type": "lifespan"})
    with pytest.raises(RuntimeError, match="over HTTP"):
        asyncio.run(call())
    assert sent == []


def test_a_message_without_a_body_adds_nothing() -> None:
    """ASGI lets a server leave it out."""
    messages = iter(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "more_body": True},
            {"type": "http.request", "body": b"z"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    assert asyncio.run(events._body(receive)) == b"az"
