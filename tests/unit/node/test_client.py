"""Calls over HTTP: whose fault an answer is, and that none is trusted loosely."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import Activation, Challenge, EnrolmentReceipt
from bootlease.evidence.challenge import MAX_ANSWER
from bootlease.model import Effect, Finding, HashAlg
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import UnavailableError
from bootlease.node.client import VerifierClient
from bootlease.testing.sealing import SealedLedger
from bootlease.token import KeySet, PublicKey, VerificationKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODE = bytes(range(32))
CHALLENGE = Challenge(bytes(32), NODE, 1000, 1120, {HashAlg.SHA256: (0, 7)})
CHALLENGE_TYPE = "application/vnd.bootlease.challenge+cbor"
PROBLEM = "application/problem+json"
KEY = VerificationKey(
    PublicKey.from_cryptography(ec.generate_private_key(ec.SECP256R1()).public_key())
)
BUNDLE = JoinBundle("http://127.0.0.1:1", KeySet((KEY,)), SealedLedger.create().key)


def client(answer: Callable[[httpx2.Request], httpx2.Response]) -> VerifierClient:
    """Return a client whose network is ``answer``."""
    return VerifierClient(BUNDLE, timeout=0.5, transport=httpx2.MockTransport(answer))


def ask(status: int, content: bytes, kind: str, **headers: str) -> Challenge:
    """Ask for a challenge and get this answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(request: httpx2.Request) -> httpx2.Response:
        del request
        stream = httpx2.ByteStream(content)
        return httpx2.Response(status, stream=stream, headers={"content-type": kind, **named})

    return client(answer).challenge(NODE)


def problem(findings: Any = None, **members: Any) -> bytes:
    """Return a problem document."""
    document = {"type": "about:blank", "title": "Refused", "status": 403, **members}
    if findings is not None:
        document["findings"] = findings
    return json.dumps(document).encode()


def test_challenge() -> None:
    """A well-formed answer of the right kind is returned, parameters of the type aside."""
    assert ask(201, CHALLENGE.encode(), CHALLENGE_TYPE) == CHALLENGE
    assert ask(201, CHALLENGE.encode(), f"{CHALLENGE_TYPE.upper()}; charset=x") == CHALLENGE


def test_request_form() -> None:
    """Each call goes to its route with its media type and accepts only its answer."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        kind = "application/vnd.bootlease.enrolment-receipt+cbor"
        stream = httpx2.ByteStream(EnrolmentReceipt(NODE).encode())
        return httpx2.Response(201, stream=stream, headers={"content-type": kind})

    assert client(answer).activate(bytes(32), Activation(bytes(32))).node == NODE
    assert seen[0].method == "POST"
    assert str(seen[0].url) == f"http://127.0.0.1:1/v1/enrolments/{'00' * 32}/activation"
    assert seen[0].headers["content-type"] == "application/vnd.bootlease.activation+cbor"
    assert seen[0].headers["accept-encoding"] == "identity"


def test_refusal() -> None:
    """A problem with findings is a refusal that carries them all."""
    finding = Finding("quote.nonce.mismatch", "Another challenge.", Effect.REFUSES, 4, 23, "a", "b")
    note = Finding("clock.unsafe", "Unsafe.", Effect.NOTES)
    content = problem([finding.as_dict(), note.as_dict()])
    with pytest.raises(VerificationError) as caught:
        ask(403, content, PROBLEM)
    assert caught.value.findings == (finding, note)


def test_malformed_request() -> None:
    """A problem without findings says that the request was wrong."""
    with pytest.raises(MalformedError, match=r"\(415\): Refused: too new"):
        ask(415, problem(detail="too new"), PROBLEM)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_busy(status: int) -> None:
    """A verifier that cannot is unreachable, and is asked again when it said."""
    with pytest.raises(UnavailableError) as caught:
        ask(status, problem(), PROBLEM, retry_after="7")
    assert caught.value.retry_after == 7.0
    assert caught.value.sent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("-1", None), ("1e9", None), ("9" * 400, None), ("999999", 300.0)],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Retry-After is a bounded number of seconds, or nothing."""
    with pytest.raises(UnavailableError) as caught:
        ask(503, b"", "text/plain", retry_after=text)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (201, CHALLENGE.encode(), "application/cbor"),
        (201, CHALLENGE.encode(), ""),
        (200, CHALLENGE.encode(), CHALLENGE_TYPE),
        (201, CHALLENGE.encode()[:-1], CHALLENGE_TYPE),
        (201, b"", CHALLENGE_TYPE),
        (201, bytes(MAX_ANSWER + 1), CHALLENGE_TYPE),
        (302, b"", CHALLENGE_TYPE),
        (403, b"{", PROBLEM),
        (403, b"<html>", "text/html"),
        (403, problem([{"id": "x"}]), PROBLEM),
        (403, problem("x"), PROBLEM),
        (404, b"", "text/html"),
    ],
)
def test_no_usable_answer(status: int, content: bytes, kind: str) -> None:
    """An answer of another status, kind, size or form is none: it grants and refuses nothing."""
    with pytest.raises(UnavailableError):
        ask(status, content, kind)


def test_terminal_stays_clean() -> None:
    """Control characters that a verifier sends do not reach a terminal."""
    with pytest.raises(MalformedError) as caught:
        ask(400, problem(detail="\x1b[31mred\n"), PROBLEM)
    assert str(caught.value).isprintable()


def test_nobody_there() -> None:
    """A verifier that does not listen has not got the request."""
    with pytest.raises(UnavailableError, match="cannot reach the verifier at http") as caught:
        VerifierClient(BUNDLE, timeout=2).challenge(NODE)
    assert not caught.value.sent


def test_cut_off() -> None:
    """A connection that breaks after the request was sent leaves open what became of it."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("connection reset", request=request)

    with pytest.raises(UnavailableError) as caught:
        client(answer).challenge(NODE)
    assert caught.value.sent


def test_dripping_answer() -> None:
    """A server that sends byte by byte is given up after the call's time, not after each byte's."""

    class Drip(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(1000):
                time.sleep(0.05)
                yield b"\0"

    def answer(request: httpx2.Request) -> httpx2.Response:
        del request
        return httpx2.Response(201, stream=Drip(), headers={"content-type": CHALLENGE_TYPE})

    started = time.monotonic()
    with pytest.raises(UnavailableError, match="did not finish"):
        client(answer).challenge(NODE)
    assert time.monotonic() - started < 5


def test_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not used: the join bundle alone says where to go."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError) as caught:
        VerifierClient(BUNDLE, timeout=2).challenge(NODE)
    assert "127.0.0.1:1" in str(caught.value)


def test_bad_tls_root() -> None:
    """A TLS root that OpenSSL cannot use is an error in one line."""
    with pytest.raises(TransportError, match="TLS root"):
        VerifierClient(replace(BUNDLE, issuer="https://v.example", tls_root="x"))


def test_refusal_says_where_it_is_recorded() -> None:
    """The digest of the verifier's decision comes along for its operator."""
    finding = Finding("a.b", "It is so.")
    content = problem([finding.as_dict()], decision="ab" * 32)
    with pytest.raises(VerificationError) as caught:
        ask(403, content, PROBLEM)
    assert caught.value.findings == (finding,)
    (note,) = caught.value.__notes__
    assert f"`bootlease explain {'ab' * 32}`" in note


@pytest.mark.parametrize(
    "decision", ["", "ab" * 31, "zz" * 32, 7, None, "AB" * 32, "ab" * 32 + "\n"]
)
def test_decision_of_another_form(decision: object) -> None:
    """A document whose decision is no digest says nothing rather than half."""
    content = problem([Finding("a.b", "It is so.").as_dict()], decision=decision)
    with pytest.raises(UnavailableError):
        ask(403, content, PROBLEM)


def test_verifier_without_tls() -> None:
    """A bundle that says https of a verifier in plain HTTP is called that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        bundle = JoinBundle(url, BUNDLE.keys, BUNDLE.ledger_key)
        with pytest.raises(UnavailableError, match="it speaks plain HTTP"):
            VerifierClient(bundle, timeout=5).challenge(NODE)
        thread.join()
