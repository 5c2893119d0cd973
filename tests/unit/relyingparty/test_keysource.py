"""Where keys come from, and what happens when they do not come."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx2
import pytest

from bootlease.errors import MalformedError, TransportError
from bootlease.relyingparty import FetchedKeys, FileKeys
from bootlease.relyingparty.keycache import MIN_INTERVAL
from bootlease.testing.tokens import FakeIssuer
from bootlease.token import KeySet
from bootlease.token.keys import MAX_KEY_SET_BYTES

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = FakeIssuer(1).keys, FakeIssuer(2).keys
URL = "https://verifier.example/.well-known/jwks.json"


def jwks(keys: KeySet) -> bytes:
    """Return the published form."""
    return json.dumps(keys.to_jwks()).encode()


class Publisher:
    """A verifier that publishes keys, or fails as told."""

    def __init__(self) -> None:
        self.answer: httpx2.Response | Exception = httpx2.Response(200, content=jwks(OLD))
        self.asked = 0
        self.now = 1000.0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer, and count."""
        del request
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx2.Response(
            self.answer.status_code, content=self.answer.content, headers=self.answer.headers
        )

    def source(self, max_age: float = 300) -> FetchedKeys:
        """Return a source that asks this publisher."""
        client = httpx2.Client(transport=httpx2.MockTransport(self))
        return FetchedKeys(URL, client=client, monotonic=lambda: self.now, max_age=max_age)


@pytest.fixture
def publisher() -> Publisher:
    """Return a verifier that publishes the old keys."""
    return Publisher()


def test_keys_are_fetched_once_while_fresh(publisher: Publisher) -> None:
    """One fetch serves until the set is old, and the same keys stay the same object."""
    source = publisher.source()
    assert publisher.asked == 0
    first = source.key_set()
    assert first.keys == OLD.keys
    publisher.now += 299
    assert source.key_set() is first
    assert publisher.asked == 1
    publisher.now += 1
    assert source.key_set() is first
    assert publisher.asked == 2


def test_cose_key_set_is_fetched_too(publisher: Publisher) -> None:
    """The form of the published set is told by its bytes."""
    publisher.answer = httpx2.Response(200, content=NEW.to_cose())
    assert publisher.source().key_set().keys == NEW.keys


def test_refresh_is_bounded(publisher: Publisher) -> None:
    """However many tokens name unknown keys, there is one fetch in an interval."""
    source = publisher.source()
    source.key_set()
    publisher.answer = httpx2.Response(200, content=jwks(NEW))
    for _ in range(100):
        assert source.refresh().keys == OLD.keys
    assert publisher.asked == 1
    publisher.now += MIN_INTERVAL
    assert source.refresh().keys == NEW.keys
    assert publisher.asked == 2


FAILURES: dict[str, httpx2.Response | Exception] = {
    "no connection": httpx2.ConnectError("refused"),
    "time out": httpx2.ReadTimeout("slow"),
    "server error": httpx2.Response(500),
    "redirect": httpx2.Response(302, headers={"location": "https://evil.example/"}),
    "not keys": httpx2.Response(200, content=b"<html>"),
    "too much": httpx2.Response(200, content=b" " * (MAX_KEY_SET_BYTES + 1)),
    "no key": httpx2.Response(200, content=b'{"keys":[]}'),
}


@pytest.mark.parametrize("name", FAILURES)
def test_keys_that_cannot_be_had_are_an_error(publisher: Publisher, name: str) -> None:
    """Without keys there is no check, and nothing is accepted."""
    publisher.answer = FAILURES[name]
    source = publisher.source()
    for _ in range(2):
        with pytest.raises(TransportError):
            source.key_set()
    assert publisher.asked == 1


@pytest.mark.parametrize("name", FAILURES)
def test_old_keys_are_not_used_when_new_ones_cannot_be_had(publisher: Publisher, name: str) -> None:
    """A key may have been withdrawn: after its age a set does not count."""
    source = publisher.source()
    source.key_set()
    publisher.answer = FAILURES[name]
    publisher.now += 299
    assert source.key_set().keys == OLD.keys
    publisher.now += 1
    with pytest.raises(TransportError):
        source.key_set()
    publisher.answer = httpx2.Response(200, content=jwks(NEW))
    publisher.now += MIN_INTERVAL
    assert source.key_set().keys == NEW.keys


def test_old_keys_are_not_used_between_two_tries(publisher: Publisher) -> None:
    """Neither where a token names an unknown key: who fetched in vain a moment ago has none."""
    source = publisher.source()
    source.key_set()
    publisher.answer = FAILURES["no connection"]
    publisher.now += 300
    for ask in (source.refresh, source.key_set, source.refresh):
        with pytest.raises(TransportError):
            ask()
    assert publisher.asked == 2


def test_keys_are_old_from_their_last_second_on(publisher: Publisher) -> None:
    """Between two tries, too."""
    source = publisher.source(max_age=20)
    source.key_set()
    publisher.answer = FAILURES["no connection"]
    publisher.now += 11
    with pytest.raises(TransportError):
        source.refresh()
    publisher.now += 8.5
    assert source.refresh().keys == OLD.keys
    publisher.now += 0.5
    with pytest.raises(TransportError, match=f"from {re.escape(URL)} a moment ago"):
        source.refresh()


@pytest.mark.parametrize("url", ["http://verifier.example/keys", "ftp://a/keys", "keys.json", ""])
def test_keys_are_not_fetched_in_the_clear(url: str) -> None:
    """Keys from an unauthenticated peer would be anybody's."""
    with pytest.raises(ValueError, match="https"):
        FetchedKeys(url)


def test_keys_are_fetched_from_this_machine_in_the_clear() -> None:
    """A verifier on loopback needs no TLS."""
    for host in ("127.0.0.1:8443", "localhost", "[::1]:1"):
        assert FetchedKeys(f"http://{host}/keys")


def test_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    """A key set exchanged on disk is found when an unknown key appears."""
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(OLD))
    source = FileKeys(path)
    first = source.key_set()
    # The same object: else a stranger's unknown key would make a checker forget what it has seen.
    assert source.refresh() is first
    path.write_bytes(NEW.to_cose())
    assert source.key_set().keys == OLD.keys
    assert source.refresh().keys == NEW.keys
    path.unlink()
    with pytest.raises(TransportError):
        source.refresh()


def test_wrong_file_is_found_at_the_start(tmp_path: Path) -> None:
    """A missing file or one without keys is an error at once."""
    with pytest.raises(TransportError):
        FileKeys(tmp_path / "none")
    path = tmp_path / "keys"
    path.write_bytes(b"{}")
    with pytest.raises(MalformedError):
        FileKeys(path)


def test_keys_that_never_grow_old_are_fetched_first(publisher: Publisher) -> None:
    """Nothing in hand is not fresh."""
    assert publisher.source(max_age=float("inf")).key_set().keys == OLD.keys
