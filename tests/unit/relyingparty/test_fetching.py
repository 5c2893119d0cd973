"""What is fetched is bounded in time, however it arrives."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx2
import pytest

from bootlease.errors import TransportError
from bootlease.relyingparty import StaticKeys, exchange, fetching
from bootlease.relyingparty.exchange import TokenExchange, grant_child
from bootlease.relyingparty.fetching import TIMEOUT, fetch
from bootlease.testing.chains import KEYS, root_claims
from bootlease.testing.tokens import ISSUER, NOW, FakeIssuer
from bootlease.token import base64url

ISSUED = FakeIssuer()
MOST = 1000


class Dripping(httpx2.SyncByteStream):
    """An answer of which a byte comes each second, on a clock of its own, and never the last."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        """Give a byte at a time; far more than anybody should wait for, but not for ever."""
        for _ in range(MOST - 1):
            self.given += 1
            yield b" "


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Dripping:
    """A slow answer, and the clock by which it is slow."""
    body = Dripping()
    clock = SimpleNamespace(monotonic=lambda: float(body.given), time=time.time)
    for module in (fetching, exchange):
        monkeypatch.setattr(module, "time", clock)
    return body


def client_of(body: httpx2.SyncByteStream) -> httpx2.Client:
    """Return a client whose server answers with that."""
    return httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, stream=body))
    )


def test_a_byte_at_a_time_is_given_up(dripping: Dripping) -> None:
    """While it arrives, not when it is there: each byte passes the timeout of a single read."""
    with pytest.raises(TransportError, match="too slowly"):
        fetch(client_of(dripping), "https://verifier.example/keys", at_most=MOST)
    assert dripping.given == TIMEOUT + 1


def test_a_token_that_comes_a_byte_at_a_time_is_given_up(dripping: Dripping) -> None:
    """The same where a grant is exchanged."""
    parent = base64url.encode(ISSUED.cwt(root_claims()))
    grant = grant_child(parent, KEYS[0], KEYS[1].public, clock=lambda: float(NOW))
    endpoint = TokenExchange(ISSUER, StaticKeys(ISSUED.keys), client=client_of(dripping))
    with pytest.raises(TransportError, match="too slowly"):
        endpoint.exchange(parent, grant, KEYS[1])
    assert dripping.given == TIMEOUT + 1


def test_as_much_as_is_allowed_is_taken() -> None:
    """And not a byte more."""
    client = client_of(httpx2.ByteStream(b"x" * MOST))
    assert len(fetch(client, "https://verifier.example/keys", at_most=MOST)) == MOST
    with pytest.raises(TransportError, match="too much"):
        fetch(client, "https://verifier.example/keys", at_most=MOST - 1)


def test_too_much_is_given_up_before_it_is_all_there() -> None:
    """What never ends is not collected."""

    class Endless(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return itertools.repeat(b" " * 100)

    with pytest.raises(TransportError, match="too much"):
        fetch(client_of(Endless()), "https://verifier.example/keys", at_most=MOST)
