"""What a relying party asks of its verifier: where that goes, and how long it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import httpx2
import pytest

from bootlease.errors import BootleaseError, TransportError
from bootlease.relyingparty import (
    FetchedKeys,
    PolledContinuity,
    StaticKeys,
    StreamedContinuity,
)
from bootlease.relyingparty.eventkeys import FetchedEventKeys, StaticEventKeys
from bootlease.relyingparty.eventpoll import EventPoller
from bootlease.relyingparty.events import EventReceiver
from bootlease.relyingparty.exchange import TokenExchange, grant_child
from bootlease.relyingparty.fetching import TIMEOUT
from bootlease.testing.chains import KEYS, root_claims
from bootlease.testing.keys import event_signer
from bootlease.testing.tokens import ISSUER, NOW, FakeIssuer
from bootlease.token import base64url
from bootlease.token.eventkeys import EventKey, EventKeySet

ISSUED: Final = FakeIssuer()
EVENT_KEYS: Final = StaticEventKeys(EventKeySet((EventKey(event_signer().public),)))
PARENT: Final = base64url.encode(ISSUED.cwt(root_claims()))
Make = Callable[[httpx2.Client | None], Any]


def receiver() -> EventReceiver:
    """Return one that hears nothing."""
    return EventReceiver(EVENT_KEYS, issuer=ISSUER, audience="a", on_event=lambda _: None)


def exchange(endpoint: TokenExchange) -> object:
    """Exchange a grant."""
    grant = grant_child(PARENT, KEYS[0], KEYS[1].public, clock=lambda: NOW)
    return endpoint.exchange(PARENT, grant, KEYS[1])


KINDS: Final[dict[str, tuple[Make, Callable[[Any], object]]]] = {
    "keys": (
        lambda client: FetchedKeys(f"{ISSUER}/keys", client=client),
        lambda each: each.key_set(),
    ),
    "event-keys": (
        lambda client: FetchedEventKeys(ISSUER, client=client),
        lambda each: each.key_set(),
    ),
    "continuity": (
        lambda client: PolledContinuity(
            f"{ISSUER}/c", StaticKeys(ISSUED.keys), issuer=ISSUER, client=client
        ),
        lambda each: each.refresh(),
    ),
    "stream": (
        lambda client: StreamedContinuity(
            f"{ISSUER}/c", StaticKeys(ISSUED.keys), issuer=ISSUER, client=client
        ),
        lambda each: each._listen(),
    ),
    "events": (
        lambda client: EventPoller(receiver(), f"{ISSUER}/poll", "secret", client=client),
        lambda each: each.poll(),
    ),
    "exchange": (
        lambda client: TokenExchange(
            ISSUER, StaticKeys(ISSUED.keys), client=client, clock=lambda: NOW
        ),
        exchange,
    ),
}
KIND = pytest.mark.parametrize("kind", list(KINDS))


@KIND
def test_no_redirect_is_followed(kind: str) -> None:
    """Though the client that is lent follows them: what is sent is for the verifier alone."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.host}")
        return httpx2.Response(307, headers={"location": "https://evil.example/"})

    client = httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=True)
    make, use = KINDS[kind]
    with pytest.raises(TransportError):
        use(make(client))
    method = "POST" if kind in {"events", "exchange"} else "GET"
    assert asked == [f"{method} verifier.example"]


@KIND
def test_a_verifier_is_not_waited_for_without_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of its own gives up after a while, where it connects and where it reads."""
    waited: list[httpx2.Timeout] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        waited.append(httpx2.Timeout(**request.extensions["timeout"]))
        raise httpx2.ConnectTimeout("late", request=request)

    plain = httpx2.Client

    def client(**options: Any) -> httpx2.Client:
        return plain(transport=httpx2.MockTransport(answer), **options)

    monkeypatch.setattr(httpx2, "Client", client)
    make, use = KINDS[kind]
    with pytest.raises((BootleaseError, httpx2.HTTPError)):
        use(make(None))
    (timeout,) = waited
    assert timeout.connect == TIMEOUT
    assert timeout.read is not None
    assert timeout.read <= 60
