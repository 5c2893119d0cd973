"""A relying party that is told of an end looks at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty import PolledContinuity, StaticKeys, StreamedContinuity
from bootlease.relyingparty.eventkeys import StaticEventKeys
from bootlease.relyingparty.events import EventReceiver
from bootlease.testing.keys import event_signer
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer
from bootlease.token.caep import Cause, Initiator, SessionRevoked, SessionSubject
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.secevent import SecurityEvent, sign_set

ISSUED = FakeIssuer()
URL = f"{ISSUER}/v1/continuity"


class Verifier:
    """A verifier that says what still counts.

    Attributes:
        asked: How often it was asked.
        down: It does not answer.
        slow: Is waited for before it answers.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.slow: threading.Event | None = None
        self._lock = threading.Lock()

    def handle(self, _: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        with self._lock:
            self.asked += 1
            sequence = self.asked
        if self.slow is not None:
            assert self.slow.wait(10)
        if self.down:
            raise httpx2.ConnectError("no route")
        text = ISSUED.statement(issued_at=NOW, expires_at=NOW + 30, sequence=sequence)
        return httpx2.Response(200, text=text)

    def source(self) -> PolledContinuity:
        """A source that asks it."""
        client = httpx2.Client(transport=httpx2.MockTransport(self.handle))
        return PolledContinuity(
            URL,
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            client=client,
            clock=lambda: float(NOW),
            monotonic=lambda: 100.0,
        )


@pytest.fixture
def verifier() -> Verifier:
    """A verifier."""
    return Verifier()


def test_a_fresh_statement_is_asked_for_all_the_same(verifier: Verifier) -> None:
    """It was fresh, and something has ended since."""
    source = verifier.source()
    assert source.current().sequence == 1
    source.refresh()
    assert source.current().sequence == 2


def test_a_verifier_that_cannot_be_asked_is_told(verifier: Verifier) -> None:
    """What is in hand counts until it is too old, as ever."""
    source = verifier.source()
    source.current()
    verifier.down = True
    with pytest.raises(TransportError, match="no newer continuity statement"):
        source.refresh()
    assert source.current().sequence == 1
    verifier.down = False
    source.refresh()
    assert source.current().sequence == 3


def test_many_at_once_ask_once_more(verifier: Verifier) -> None:
    """What was asked for before somebody called may lack what he was told of."""
    source = verifier.source()
    verifier.slow = threading.Event()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(source.refresh)
        deadline = time.monotonic() + 10
        while not verifier.asked:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        others = [pool.submit(source.refresh) for _ in range(8)]
        time.sleep(0.2)
        verifier.slow.set()
        first.result(10)
        for each in others:
            each.result(10)
    assert verifier.asked == 2
    assert source.current().sequence == 2


def test_a_listener_asks_as_well(verifier: Verifier) -> None:
    """Whatever it hears by itself."""
    client = httpx2.Client(transport=httpx2.MockTransport(verifier.handle))
    source = StreamedContinuity(
        URL, StaticKeys(ISSUED.keys), issuer=ISSUER, client=client, clock=lambda: float(NOW)
    )
    source.refresh()
    assert verifier.asked == 1


def test_an_event_makes_the_statement_fresh(verifier: Verifier) -> None:
    """The natural thing to do with one; where it fails, the event comes again."""
    source = verifier.source()
    source.current()
    signer = event_signer()
    receiver = EventReceiver(
        StaticEventKeys(EventKeySet((EventKey(signer.public),))),
        issuer=ISSUER,
        audience=AUDIENCE,
        on_event=lambda _: source.refresh(),
    )
    why = Cause(NOW, Initiator.ADMIN, "stolen")
    event = SecurityEvent(
        ISSUER, AUDIENCE, "e" * 32, NOW, SessionSubject(b"\x01" * 32), SessionRevoked(why)
    )
    text = sign_set(event, signer)
    verifier.down = True
    with pytest.raises(TransportError):
        receiver.take(text)
    verifier.down = False
    assert receiver.take(text) == event
    assert source.current().sequence == 3
