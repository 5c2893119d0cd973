"""What a monitor makes of each kind of answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx2
import pytest

from bootlease.errors import MalformedError, TransportError
from bootlease.monitor import LogSource, NotPublishedError
from bootlease.monitor import source as module

Answer = Callable[[httpx2.Request], httpx2.Response]


def answering(answer: Answer) -> LogSource:
    """Return a source whose every request is answered so."""
    return LogSource("https://verifier.example/", transport=httpx2.MockTransport(answer))


def with_body(body: bytes, status: int = 200) -> Answer:
    """Answer with a status and a body."""
    return lambda _: httpx2.Response(status, stream=httpx2.ByteStream(body))


@pytest.mark.parametrize(
    "url", ["http://verifier.example", "verifier.example", "https://", "ftp://x", "http://[", ""]
)
def test_only_https_or_this_machine(url: str) -> None:
    """Nobody in between may choose what a monitor sees."""
    with pytest.raises(MalformedError, match="URL"):
        LogSource(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "https://a.example/x"])
def test_these_are_accepted(url: str) -> None:
    """Plain HTTP on this machine, TLS anywhere."""
    LogSource(url).close()


@pytest.mark.parametrize("status", [404, 410])
def test_what_the_log_has_not_is_not_published(status: int) -> None:
    """Of something that was signed, this is a gap."""
    with pytest.raises(NotPublishedError):
        answering(with_body(b"", status)).checkpoint("2026-11")


@pytest.mark.parametrize("status", [500, 503, 429, 302, 204])
def test_other_statuses_are_the_worlds_fault(status: int) -> None:
    """A server in trouble is no alarm."""
    with pytest.raises(TransportError) as caught:
        answering(with_body(b"", status)).checkpoint("2026-11")
    assert not isinstance(caught.value, NotPublishedError)


def test_a_redirect_is_not_followed() -> None:
    """Whom a monitor asks is its own choice, even where the other place has an answer."""
    asked = []

    def redirect(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        if request.url.host == "verifier.example":
            return httpx2.Response(302, headers={"location": "https://elsewhere.example/it"})
        return with_body(b"a checkpoint")(request)

    with pytest.raises(TransportError, match="answered 302"):
        answering(redirect).checkpoint("2026-11")
    assert asked == ["verifier.example"]


def test_a_connection_that_fails_is_the_worlds_fault() -> None:
    """The message names the resource and the reason."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route", request=request)

    with pytest.raises(TransportError, match=r"ledger/2026-11/opening: no route"):
        answering(fail).opening("2026-11")


def test_an_answer_without_end_is_cut() -> None:
    """No resource is longer than what it can hold."""
    with pytest.raises(TransportError, match="more than"):
        answering(with_body(bytes(module.MAX_BUNDLE + 1))).tile("2026-11", 0, 0, 256)


def test_an_answer_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then does not hold a monitor for ever."""
    moments = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    body = httpx2.Response(200, stream=httpx2.ByteStream(b"x"))
    with pytest.raises(TransportError, match="did not arrive") as caught:
        LogSource(
            "https://verifier.example", transport=httpx2.MockTransport(lambda _: body), timeout=5
        ).checkpoint("2026-11")
    assert not isinstance(caught.value, NotPublishedError)


@pytest.mark.parametrize("body", [b"", b"x" * 31, b"x" * 32 * 9, bytes(32 * 257)])
def test_a_tile_that_is_short_or_damaged_is_not_published(body: bytes) -> None:
    """It must hold as many whole hashes as the signed tree has."""
    with pytest.raises(NotPublishedError):
        answering(with_body(body)).tile("2026-11", 0, 0, 10)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\x05abc", b"\x00\x01a"])
def test_a_bundle_that_is_short_or_damaged_is_not_published(body: bytes) -> None:
    """It must hold as many whole entries as the signed tree has."""
    with pytest.raises(NotPublishedError):
        answering(with_body(body)).entries("2026-11", 0, 2)


def test_the_full_tile_stands_in_for_a_partial_one() -> None:
    """A log may drop partial tiles once there is the full one (C2SP tlog-tiles)."""

    def only_full(request: httpx2.Request) -> httpx2.Response:
        body = b"\x01" * (32 * 256)
        return with_body(body, 404 if ".p/" in request.url.path else 200)(request)

    assert answering(only_full).tile("2026-11", 0, 1001, 3) == (b"\x01" * 32,) * 3


def test_paths_are_those_of_the_specification() -> None:
    """Indices in groups of three digits, widths of partial tiles behind `.p`."""
    asked = []

    def remember(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(500)

    source = answering(remember)
    for ask in (
        lambda: source.tile("2026-11", 1, 1_234_067, 256),
        lambda: source.entries("2026-11", 1000, 7),
        source.shards,
    ):
        with pytest.raises(TransportError):
            ask()
    assert asked == [
        "/ledger/2026-11/tile/1/x001/x234/067",
        "/ledger/2026-11/tile/entries/x001/000.p/7",
        "/ledger/shards",
    ]


def test_a_list_that_is_none_is_the_worlds_fault() -> None:
    """The list is not signed: garbage in its place shows nothing of the log."""
    with pytest.raises(TransportError, match="no list of shards"):
        answering(with_body(b"<html>")).shards()


def test_a_tls_root_that_is_none_is_refused() -> None:
    """Before anything is fetched."""
    with pytest.raises(MalformedError, match="TLS root"):
        LogSource("https://verifier.example", tls_root="no certificate")
