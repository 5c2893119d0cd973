"""Polling for continuity: when, how often, and what happens where there is no answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from bootlease.errors import VerificationError
from bootlease.relyingparty import (
    FetchedKeys,
    PolledContinuity,
    StaticContinuity,
    StaticKeys,
    StreamedContinuity,
    TokenChecker,
)
from bootlease.testing.tokens import AUDIENCE, ISSUER, NOW, FakeIssuer, execution_claims

ISSUED = FakeIssuer()
URL = f"{ISSUER}/v1/continuity"
VALID = 30


class World:
    """A verifier behind a client, and the clocks of the relying party."""

    def __init__(self) -> None:
        self.wall = float(NOW)
        self.steady = 100.0
        self.asked = 0
        self.answer: Callable[[], httpx2.Response] = self.statement
        self.sequence = 0
        self.changes: dict[str, Any] = {}

    def statement(self) -> httpx2.Response:
        """Answer with a new statement."""
        self.sequence += 1
        now = int(self.wall)
        text = ISSUED.statement(
            issued_at=now, expires_at=now + VALID, sequence=self.sequence, **self.changes
        )
        return httpx2.Response(200, text=text)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        assert str(request.url) == URL
        self.asked += 1
        return self.answer()

    def wait(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += seconds
        self.steady += seconds

    def source(self, **options: Any) -> PolledContinuity:
        """Return a source that asks this verifier."""
        return PolledContinuity(
            URL,
            StaticKeys(ISSUED.keys),
            issuer=ISSUER,
            client=httpx2.Client(transport=httpx2.MockTransport(self.handle)),
            clock=lambda: self.wall,
            monotonic=lambda: self.steady,
            **options,
        )


@pytest.fixture
def world() -> World:
    """A verifier that answers."""
    return World()


def findings(source: PolledContinuity) -> list[str]:
    """Return the ids of a refusal."""
    with pytest.raises(VerificationError) as caught:
        source.current()
    return [each.id for each in caught.value.findings]


def gone() -> httpx2.Response:
    """Answer nothing."""
    raise httpx2.ConnectError("no route")


def test_nothing_is_asked_before_it_is_used(world: World) -> None:
    """A constructor does no I/O."""
    source = world.source()
    assert world.asked == 0
    assert source.current().sequence == 1
    assert world.asked == 1


def test_a_statement_is_asked_for_again_after_a_third_of_its_time(world: World) -> None:
    """Not before, and once."""
    source = world.source()
    source.current()
    world.wait(9.9)
    assert (source.current().sequence, world.asked) == (1, 1)
    world.wait(0.1)
    assert (source.current().sequence, world.asked) == (2, 2)
    assert (source.current().sequence, world.asked) == (2, 2)


def test_where_to_ask_again_can_be_set(world: World) -> None:
    """Half of the time, say."""
    source = world.source(poll_at=0.5)
    source.current()
    world.wait(14.9)
    assert source.current().sequence == 1
    world.wait(0.1)
    assert source.current().sequence == 2


@pytest.mark.parametrize("poll_at", [0, 1, -1, 2])
def test_it_is_asked_for_before_its_time_is_over(world: World, poll_at: float) -> None:
    """Any other part is a mistake."""
    with pytest.raises(ValueError, match="before its time"):
        world.source(poll_at=poll_at)


def test_a_statement_is_believed_until_it_is_too_old(world: World) -> None:
    """A verifier that is gone is forgiven for as long as its word counts, and not longer."""
    source = world.source()
    source.current()
    world.answer = gone
    world.wait(29.9)
    assert source.current().sequence == 1
    world.wait(0.1)
    assert findings(source) == ["continuity.stale"]
    world.answer = world.statement
    world.wait(3)
    assert source.current().sequence == 2


def test_its_age_counts_from_the_question(world: World) -> None:
    """A slow answer is as old as its question."""
    source = world.source()

    def slow() -> httpx2.Response:
        answer = world.statement()
        world.wait(20)
        return answer

    world.answer = slow
    source.current()
    world.answer = gone
    world.wait(10)
    assert findings(source) == ["continuity.stale"]


def test_without_a_first_statement_nothing_passes(world: World) -> None:
    """And the verifier is not asked for every request of every stranger."""
    source = world.source()
    world.answer = gone
    for _ in range(3):
        assert findings(source) == ["continuity.missing"]
    assert world.asked == 1
    world.wait(0.25)
    assert findings(source) == ["continuity.missing"]
    assert world.asked == 2


def test_tries_after_a_failure_keep_a_distance(world: World) -> None:
    """A tenth of a statement's time lies between them."""
    source = world.source()
    source.current()
    world.answer = gone
    world.wait(15)
    source.current()
    source.current()
    assert world.asked == 2
    world.wait(2.9)
    source.current()
    assert world.asked == 2
    world.wait(0.1)
    source.current()
    assert world.asked == 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx2.Response(500),
        lambda: httpx2.Response(302, headers={"location": "https://evil.example"}),
        lambda: httpx2.Response(200, text="x" * (256 * 1024 + 1)),
        lambda: httpx2.Response(200, text="rubbish"),
        lambda: httpx2.Response(200, content=b"\xff"),
    ],
    ids=["error", "redirect", "too much", "rubbish", "no text"],
)
def test_what_is_no_statement_is_none(world: World, answer: Callable[[], httpx2.Response]) -> None:
    """Whatever else the verifier says."""
    world.answer = answer
    assert findings(world.source()) == ["continuity.missing"]


def test_why_a_statement_does_not_count_is_told(world: World) -> None:
    """Beside the fact that there is none."""
    world.changes = {"issuer": "https://other.example"}
    assert findings(world.source()) == ["continuity.missing", "continuity.issuer.mismatch"]


def test_an_older_statement_does_not_take_a_newer_ones_place(world: World) -> None:
    """A replayed answer is passed over while the newer one counts."""
    source = world.source()
    world.sequence = 5
    source.current()
    world.sequence = 2
    world.wait(15)
    assert source.current().sequence == 6
    world.wait(15)
    assert findings(source) == ["continuity.stale", "continuity.sequence.back"]


@pytest.mark.parametrize("url", ["http://verifier.example/v1/continuity", "ftp://localhost/x"])
def test_statements_are_fetched_by_https(url: str) -> None:
    """What comes in the clear may be kept back by anybody on the way."""
    with pytest.raises(ValueError, match="https"):
        PolledContinuity(url, StaticKeys(ISSUED.keys), issuer=ISSUER)


@pytest.fixture
def stuck(world: World) -> Iterator[threading.Event]:
    """A verifier that takes a question and answers when the event is set."""
    free = threading.Event()

    def wait() -> httpx2.Response:
        assert free.wait(10)
        return world.statement()

    world.answer = wait
    yield free
    free.set()


def test_a_slow_verifier_holds_up_one_request(world: World, stuck: threading.Event) -> None:
    """While the statement in hand counts, others go on with it; the answer comes when it comes."""
    stuck.set()
    source = world.source()
    source.current()
    stuck.clear()
    world.wait(15)
    asking = threading.Thread(target=source.current)
    asking.start()
    while world.asked < 2:
        time.sleep(0.001)
    began = time.monotonic()
    for _ in range(100):
        assert source.current().sequence == 1
    assert time.monotonic() - began < 1
    assert world.asked == 2
    stuck.set()
    asking.join()
    assert source.current().sequence == 2


def test_where_nothing_counts_all_wait_for_one_answer(world: World, stuck: threading.Event) -> None:
    """One question serves everybody that waits for it."""
    source = world.source()
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(source.current().sequence)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    while world.asked < 1:
        time.sleep(0.001)
    stuck.set()
    for thread in threads:
        thread.join()
    assert (seen, world.asked) == ([1] * 5, 1)


def test_a_checker_refuses_what_a_poll_reveals(world: World) -> None:
    """From the poll after the revocation on, also for a token that it has seen."""
    party = TokenChecker(
        StaticKeys(ISSUED.keys),
        issuer=ISSUER,
        audience=AUDIENCE,
        continuity=world.source(),
        clock=lambda: world.wall,
    )
    token = ISSUED.cwt(execution_claims(7))
    party.check(token)
    world.changes = {"revoked": [7]}
    world.wait(10)
    with pytest.raises(VerificationError) as caught:
        party.check(token)
    assert caught.value.findings[0].id == "token.revoked"


def test_a_static_statement_is_what_was_given() -> None:
    """Its age is the checker's business."""
    statement = ISSUED.continuity()
    assert StaticContinuity(statement).current() is statement


def test_only_what_is_its_own_is_closed(world: World) -> None:
    """A client that was lent goes on."""
    lent = httpx2.Client(transport=httpx2.MockTransport(world.handle))
    PolledContinuity(URL, StaticKeys(ISSUED.keys), issuer=ISSUER, client=lent).close()
    FetchedKeys(URL, client=lent).close()
    StreamedContinuity(URL, StaticKeys(ISSUED.keys), issuer=ISSUER, client=lent).close()
    assert not lent.is_closed
    own = (
        PolledContinuity(URL, StaticKeys(ISSUED.keys), issuer=ISSUER),
        FetchedKeys(URL),
        StreamedContinuity(URL, StaticKeys(ISSUED.keys), issuer=ISSUER),
    )
    for each in own:
        each.close()
        assert each._client.is_closed
    lent.close()


@pytest.mark.parametrize(("leeway", "counts"), [(0, False), (20, True)])
def test_the_leeway_asked_for_is_that_of_statements(
    world: World,
    leeway: int,
    counts: bool,  # noqa: FBT001 - a case
) -> None:
    """One from further ahead does not count."""
    world.changes = {}
    world.wall += 15
    text = world.statement().text
    world.wall -= 15
    world.answer = lambda: httpx2.Response(200, text=text)
    source = world.source(leeway=leeway)
    if counts:
        assert source.current().issued_at == NOW + 15
    else:
        with pytest.raises(VerificationError):
            source.current()
