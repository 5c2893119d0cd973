"""Event keys, found by the issuer's URL alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty.eventkeys import (
    MAX_CONFIGURATION,
    FetchedEventKeys,
    StaticEventKeys,
    configuration_url,
)
from bootlease.relyingparty.keycache import DEFAULT_MAX_AGE, MIN_INTERVAL
from bootlease.testing.keys import event_signer
from bootlease.token.eventkeys import EventKey, EventKeySet

ISSUER = "https://verifier.example"
KEYS = EventKeySet((EventKey(event_signer().public),))
CONFIGURATION = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/.well-known/event-jwks.json"}


class Verifier:
    """A verifier that publishes event keys.

    Attributes:
        configuration: What it says of itself.
        keys: What it publishes.
        asked: URLs that were asked for.
        now: The time.
    """

    def __init__(self) -> None:
        self.configuration: object = CONFIGURATION
        self.keys: object = KEYS.to_jwks()
        self.asked: list[str] = []
        self.now = 1000.0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.asked.append(str(request.url))
        is_keys = request.url.path.endswith("jwks.json")
        members = self.keys if is_keys else self.configuration
        if isinstance(members, int):
            return httpx2.Response(members)
        return httpx2.Response(200, content=json.dumps(members))

    def source(self, issuer: str = ISSUER, url: str | None = None) -> FetchedEventKeys:
        """A source of its keys."""
        client = httpx2.Client(transport=httpx2.MockTransport(self.answer))
        return FetchedEventKeys(issuer, url=url, client=client, monotonic=lambda: self.now)


@pytest.fixture
def verifier() -> Verifier:
    """A verifier."""
    return Verifier()


def test_the_issuer_leads_to_the_configuration_and_that_to_the_keys(verifier: Verifier) -> None:
    """Once for as long as keys are fresh."""
    source = verifier.source()
    assert verifier.asked == []
    assert source.key_set().keys == KEYS.keys
    assert verifier.asked == [f"{ISSUER}/.well-known/ssf-configuration", CONFIGURATION["jwks_uri"]]
    verifier.now += DEFAULT_MAX_AGE - 1
    source.key_set()
    assert len(verifier.asked) == 2
    verifier.now += 1
    source.key_set()
    assert len(verifier.asked) == 4


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://v.example", "https://v.example/.well-known/ssf-configuration"),
        ("https://v.example:8443/a/b", "https://v.example:8443/.well-known/ssf-configuration/a/b"),
    ],
)
def test_the_configuration_is_where_the_specification_says(issuer: str, url: str) -> None:
    """SSF §7.2: in front of the issuer's path."""
    assert configuration_url(issuer) == url


def test_the_configuration_may_be_elsewhere(verifier: Verifier) -> None:
    """Where whoever configures this says so."""
    verifier.source(url="https://verifier.example/x").key_set()
    assert verifier.asked[0] == "https://verifier.example/x"


def test_keys_are_asked_for_again_now_and_then(verifier: Verifier) -> None:
    """An unknown key causes a request, and many unknown keys cause no more."""
    source = verifier.source()
    first = source.key_set()
    assert source.refresh() is first
    assert len(verifier.asked) == 2
    verifier.now += MIN_INTERVAL
    assert source.refresh().keys == first.keys
    assert len(verifier.asked) == 4


Spoil = Callable[[Verifier], None]


def configured(**members: object) -> Spoil:
    """A verifier that says something else of itself."""

    def spoil(verifier: Verifier) -> None:
        verifier.configuration = {**CONFIGURATION, **members}

    return spoil


def answering(status: int) -> Spoil:
    """A verifier that has no configuration."""

    def spoil(verifier: Verifier) -> None:
        verifier.configuration = status

    return spoil


def without_keys(verifier: Verifier) -> None:
    """A verifier whose keys are none."""
    verifier.keys = {"keys": []}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (configured(issuer="https://other.example"), "another issuer"),
        (configured(jwks_uri=7), "no jwks_uri"),
        (configured(jwks_uri="http://verifier.example/jwks.json"), "https"),
        (configured(more="x" * MAX_CONFIGURATION), "too much"),
        (answering(404), "404"),
        (without_keys, "no event keys"),
    ],
)
def test_what_leads_to_no_keys_is_told(verifier: Verifier, spoil: Spoil, expected: str) -> None:
    """And tried again only after a while."""
    spoil(verifier)
    source = verifier.source()
    with pytest.raises(TransportError, match=expected):
        source.key_set()
    with pytest.raises(TransportError, match="a moment ago"):
        source.key_set()
    verifier.now += MIN_INTERVAL
    verifier.configuration, verifier.keys = CONFIGURATION, KEYS.to_jwks()
    assert source.key_set().keys == KEYS.keys


def test_old_keys_that_cannot_be_had_anew_are_not_used(verifier: Verifier) -> None:
    """One of them may have been stolen."""
    source = verifier.source()
    source.key_set()
    verifier.configuration = 503
    verifier.now += DEFAULT_MAX_AGE
    with pytest.raises(TransportError):
        source.key_set()
    with pytest.raises(TransportError, match=r"ssf-configuration a moment ago"):
        source.key_set()


def test_keys_are_not_fetched_in_the_clear() -> None:
    """Whoever is on the way would choose them."""
    with pytest.raises(ValueError, match="https"):
        FetchedEventKeys("http://verifier.example")


def test_keys_may_be_given() -> None:
    """For programs that are configured with them."""
    source = StaticEventKeys(KEYS)
    assert source.key_set() is source.refresh() is KEYS
