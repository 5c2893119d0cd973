"""Polling for security events: what was taken, what was not, and that nothing is lost."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bootlease.errors import TransportError
from bootlease.relyingparty import eventpoll
from bootlease.relyingparty.eventkeys import StaticEventKeys
from bootlease.relyingparty.eventpoll import MAX_ANSWER, MOST_EVENTS, EventPoller
from bootlease.relyingparty.events import EventReceiver
from bootlease.testing.keys import event_signer
from bootlease.token import PrivateKeySigner
from bootlease.token.caep import StreamSubject, Verification
from bootlease.token.eventkeys import EventKey, EventKeySet
from bootlease.token.secevent import SecurityEvent, sign_set

ISSUER, AUDIENCE = "https://verifier.example", "https://tools.example"
SIGNER = event_signer()
OTHER = PrivateKeySigner(rsa.generate_private_key(65537, 2048))
URL = "https://verifier.example/v1/streams/x/poll"


def sets(*numbers: int, signer: PrivateKeySigner = SIGNER) -> dict[str, str]:
    """Events by their names."""
    made = {}
    for number in numbers:
        jti = f"event-number-{number:04}"
        event = SecurityEvent(
            ISSUER, AUDIENCE, jti, 1, StreamSubject("a" * 32), Verification(str(number))
        )
        made[jti] = sign_set(event, signer)
    return made


class Verifier:
    """A verifier that answers polls.

    Attributes:
        answers: What it answers next; then that there is nothing.
        asked: What it was asked.
        headers: With which headers.
        heard: What the receiver was called with.
        trouble: Raised by the receiver.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[httpx2.Headers] = []
        self.heard: list[str] = []
        self.trouble: Exception | None = None
        receiver = EventReceiver(
            StaticEventKeys(EventKeySet((EventKey(SIGNER.public),))),
            issuer=ISSUER,
            audience=AUDIENCE,
            on_event=self._keep,
        )
        self.client = httpx2.Client(transport=httpx2.MockTransport(self.answer))
        self.poller = EventPoller(receiver, URL, "blstr_secret", client=self.client)

    def _keep(self, event: SecurityEvent) -> None:
        if self.trouble is not None:
            raise self.trouble
        assert isinstance(event.event, Verification)
        self.heard.append(event.event.state or "")

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one poll."""
        self.asked.append(json.loads(request.content))
        self.headers.append(request.headers)
        answer = self.answers.pop(0) if self.answers else {"sets": {}}
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return answer
        return httpx2.Response(200, content=json.dumps(answer))


@pytest.fixture
def verifier() -> Verifier:
    """A verifier."""
    return Verifier()


def test_events_are_acted_on_and_acknowledged(verifier: Verifier) -> None:
    """With the next poll, once."""
    verifier.answers = [{"sets": sets(1, 2)}]
    assert verifier.poller.poll() == 2
    assert verifier.heard == ["1", "2"]
    assert verifier.poller.poll() == 0
    assert verifier.poller.poll(wait=True) == 0
    basis = {"maxEvents": MOST_EVENTS, "returnImmediately": True}
    assert verifier.asked == [
        basis,
        {**basis, "ack": ["event-number-0001", "event-number-0002"]},
        {**basis, "returnImmediately": False},
    ]
    assert verifier.headers[0]["authorization"] == "Bearer blstr_secret"
    assert verifier.headers[0]["content-type"] == "application/json"


def test_an_event_that_comes_again_is_acknowledged_and_not_acted_on(verifier: Verifier) -> None:
    """The verifier did not hear of the first acknowledgement."""
    verifier.answers = [{"sets": sets(1)}, {"sets": sets(1)}]
    assert verifier.poller.poll() == verifier.poller.poll() == 1
    assert verifier.heard == ["1"]
    verifier.poller.poll()
    assert verifier.asked[-1]["ack"] == ["event-number-0001"]


def test_an_event_that_does_not_count_is_refused_and_holds_up_no_other(
    verifier: Verifier,
) -> None:
    """By the code of RFC 8935; it does not come again."""
    swapped = dict(zip(sets(3, 4), sets(4, 3).values(), strict=True))
    wrong = {"event-number-0009": 7, **sets(1, signer=OTHER), **swapped}
    verifier.answers = [{"sets": {**wrong, **sets(2)}}]
    assert verifier.poller.poll() == 5
    assert verifier.heard == ["2"]
    verifier.poller.poll()
    assert verifier.asked[-1]["ack"] == ["event-number-0002"]
    errors = {name: why["err"] for name, why in verifier.asked[-1]["setErrs"].items()}
    assert errors == {
        "event-number-0001": "invalid_key",
        "event-number-0003": "invalid_request",
        "event-number-0004": "invalid_request",
        "event-number-0009": "invalid_request",
    }


def test_an_event_that_could_not_be_acted_on_is_not_acknowledged(verifier: Verifier) -> None:
    """It comes again; the caller is told."""
    verifier.answers = [{"sets": sets(1)}, {"sets": sets(1)}]
    verifier.trouble = TransportError("not now")
    with pytest.raises(TransportError, match="not now"):
        verifier.poller.poll()
    verifier.trouble = None
    assert verifier.poller.poll() == 1
    assert verifier.heard == ["1"]
    assert "ack" not in verifier.asked[1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx2.Response(401), "401"),
        (httpx2.Response(302, headers={"location": "https://elsewhere.example/"}), "302"),
        (httpx2.Response(200, content=b"no"), "does not answer with events"),
        ({"sets": []}, "does not answer with events"),
        ({}, "does not answer with events"),
        ({"sets": {str(number): "x" for number in range(MOST_EVENTS + 1)}}, "does not answer"),
        (httpx2.Response(200, content=b" " * (MAX_ANSWER + 1)), "too much"),
        (httpx2.ConnectError("nobody listens"), "cannot reach"),
    ],
)
def test_what_is_no_answer_is_told(verifier: Verifier, answer: Any, expected: str) -> None:
    """And nothing is acted on."""
    verifier.answers = [{"sets": sets(1)}, answer, {"sets": {}}]
    verifier.poller.poll()
    with pytest.raises(TransportError, match=expected):
        verifier.poller.poll()
    verifier.poller.poll()
    assert verifier.heard == ["1"]
    # Whether the verifier has heard the acknowledgement is not known where it did not say 200.
    heard = not isinstance(answer, httpx2.ConnectError) and expected not in {
        "401",
        "302",
        "too much",
    }
    assert ("ack" in verifier.asked[-1]) is not heard


def test_a_slow_answer_is_given_up(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not hold the poller for ever."""
    monkeypatch.setattr(eventpoll, "WAIT", -1.0)
    with pytest.raises(TransportError, match="too slowly"):
        verifier.poller.poll()


def test_a_thread_polls_until_it_is_stopped(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits at the verifier, and goes on after whatever went wrong."""
    monkeypatch.setattr(eventpoll, "FIRST_PAUSE", 0.01)
    done = threading.Event()
    refused = httpx2.Response(503)
    verifier.answers = [httpx2.ConnectError("down"), refused, {"sets": sets(1)}, {"sets": sets(2)}]
    answer = verifier.answer

    def slowly(request: httpx2.Request) -> httpx2.Response:
        if not verifier.answers:
            done.set()
            time.sleep(0.01)
        return answer(request)

    verifier.client = httpx2.Client(transport=httpx2.MockTransport(slowly))
    verifier.poller._client = verifier.client
    with verifier.poller:
        assert done.wait(10)
    asked = len(verifier.asked)
    time.sleep(0.1)
    assert len(verifier.asked) == asked
    assert verifier.heard == ["1", "2"]
    assert all(each["returnImmediately"] is False for each in verifier.asked)


def test_the_pauses_grow_and_are_bounded(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that is down is not hammered."""
    pauses: list[float] = []

    class Stopped:
        def is_set(self) -> bool:
            return len(pauses) == 8

        def wait(self, seconds: float) -> None:
            pauses.append(seconds)

    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    verifier.answers = [httpx2.ConnectError("down")] * 8
    monkeypatch.setattr(verifier.poller, "_stopped", Stopped())
    verifier.poller._run()
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_poller_closes_its_own_connections_alone(verifier: Verifier) -> None:
    """One that was lent belongs to whoever lent it."""
    verifier.poller.close()
    assert not verifier.client.is_closed
    own = EventPoller(verifier.poller._receiver, URL, "x")
    own.close()
    assert own._client.is_closed


def test_a_secret_is_not_sent_in_the_clear(verifier: Verifier) -> None:
    """Whoever is on the way would have it."""
    with pytest.raises(ValueError, match="https"):
        EventPoller(verifier.poller._receiver, "http://verifier.example/poll", "x")


def test_the_pause_begins_anew_after_an_answer(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong before is over."""
    pauses: list[float] = []

    class Stopped:
        def is_set(self) -> bool:
            return len(pauses) == 3

        def wait(self, seconds: float) -> None:
            pauses.append(seconds)

    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    down = httpx2.ConnectError("down")
    verifier.answers = [down, down, {"sets": {}}, down]
    monkeypatch.setattr(verifier.poller, "_stopped", Stopped())
    verifier.poller._run()
    assert pauses == [0.5, 1.0, 0.5]


def test_as_many_events_as_were_asked_for_are_taken(verifier: Verifier) -> None:
    """And no more."""
    verifier.answers = [{"sets": dict.fromkeys(map(str, range(MOST_EVENTS)), "x")}]
    assert verifier.poller.poll() == MOST_EVENTS
