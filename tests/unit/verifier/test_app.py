"""The way past the router: the same answers as through it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.ports import StoreBusyError, StoredAnswer, StoreUnavailableError
from bootlease.verifier import app as app_module
from bootlease.verifier.app import build_app
from bootlease.verifier.leasing import Decided
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.routes.contract import EVIDENCE
from bootlease.verifier.service import Service, Throttle

NODE = "ab" * 32
FINDING = Finding("quote.signature.invalid", "The signature does not verify.")
GRANTED = Decided(StoredAnswer(granted=True, body=b"leases"))
REFUSED = Decided(StoredAnswer(granted=False, body=b"{}"))
OUTCOMES = [
    GRANTED,
    REFUSED,
    VerificationError(FINDING),
    MalformedError("the evidence is cut short"),
    ProblemError(ProblemKind.SPENT, "The challenge was answered before."),
    ProblemError(ProblemKind.UNKNOWN_NODE, "No such node.", findings=[FINDING]),
    StoreBusyError("too many writes wait"),
    StoreUnavailableError("disk full"),
    ZeroDivisionError("secret"),
]


class Leasing:
    """Answers as it was told."""

    def __init__(self, outcome: Decided | Exception) -> None:
        self.outcome = outcome

    async def lease(self, _node: bytes, body: bytes) -> Decided:
        """Decide."""
        assert body == b"evidence"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def challenge(self, node: bytes) -> Any:
        """Set a challenge."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return SimpleNamespace(encode=lambda: b"challenge for " + node)


async def no_challenge(_: bytes) -> None:
    """No challenge is known."""


def client_of(outcome: Decided | Exception) -> TestClient:
    """A client of a verifier that decides so."""
    service = SimpleNamespace(
        limits=DEFAULT_LIMITS,
        throttle=Throttle(DEFAULT_LIMITS),
        clock=SimpleNamespace(now=lambda: 1_000),
        leasing=Leasing(outcome),
        store=SimpleNamespace(challenge=no_challenge),
        counts=Counter[str](),
    )
    return TestClient(build_app(cast("Service", service)), raise_server_exceptions=False)


def exchanges(outcome: Decided | Exception) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of what is answered, without the request's id."""
    client = client_of(outcome)
    for method, path, body, media_type in [
        ("POST", f"/v1/nodes/{NODE}/leases", b"evidence", EVIDENCE),
        ("POST", f"/v1/nodes/{NODE}/leases", b"evidence", "text/plain"),
        ("POST", f"/v1/nodes/{NODE}/challenges", b"", ""),
        ("POST", f"/v1/nodes/{NODE}/challenges", b"x", ""),
        ("POST", f"/v1/nodes/{NODE}%0A/challenges", b"", ""),
        ("GET", f"/v1/nodes/{NODE}/leases", b"", ""),
    ]:
        answer = client.request(method, path, content=body, headers={"content-type": media_type})
        headers = dict(answer.headers)
        request_id = headers.pop("x-request-id")
        assert re.fullmatch("[0-9a-f]{16}", request_id)
        yield answer.status_code, headers, answer.content.replace(request_id.encode(), b"")


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_the_way_past_the_router_answers_as_the_router_does(
    outcome: Decided | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, every header and every byte, whatever becomes of the request."""
    past = list(exchanges(outcome))
    monkeypatch.setattr(app_module, "_OFTEN", re.compile("nothing"))
    through = list(exchanges(outcome))
    assert past == through
    assert all(headers["cache-control"] == "no-store" for _, headers, _ in past)
    assert all(headers["x-content-type-options"] == "nosniff" for _, headers, _ in past)
    assert not any(b"secret" in body or b"disk" in body for _, _, body in past)


def test_no_two_requests_have_one_id() -> None:
    """Also where the randomness for many was drawn at once."""
    ids = app_module._request_ids()
    drawn = [next(ids) for _ in range(2_000)]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in drawn)
