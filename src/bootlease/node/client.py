"""The verifier as a node sees it: five calls over HTTP.

Specifications: docs/protocol.md, "Routes"; RFC 9110 (HTTP), RFC 9457 (problem details).

Whose fault an answer is decides its type: a refusal with findings is ``VerificationError``, a
request that the verifier calls wrong is ``MalformedError``, and everything else is
``TransportError``: no answer, a busy verifier, a wrong status or media type, an answer that is
too long or does not parse. Nothing but a well-formed answer of the right kind is returned, and
its tokens are still unverified.

Not handled on purpose: redirects (a verifier has one URL), proxies and trust roots from the
environment (the join bundle alone says whom to trust), compressed answers.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import httpx2

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.evidence import (
    Activation,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
    LeaseAnswer,
)
from bootlease.evidence.challenge import MAX_ANSWER
from bootlease.node.bundle import JoinBundle
from bootlease.node.calls import UnavailableError
from bootlease.node.problem import PROBLEM_TYPE, Problem, parse_problem
from bootlease.token.keyrotation import parse_rotations

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Call(Generic[Message]):
    """One call of the protocol.

    Attributes:
        request: Media type that is sent; None for an empty body.
        answer: Media type that is accepted.
        status: The only status that stands for success.
        parse: Reads the answer.
    """

    request: str | None
    answer: str
    status: int
    parse: Callable[[bytes], Message]


_CREATED, _OK, _CLIENT_ERROR, _SERVER_ERROR = 201, 200, 400, 500
_MEDIA: Final = "application/vnd.bootlease.{}+cbor"

ENROL: Final = Call(
    _MEDIA.format("enrolment"), _MEDIA.format("credential"), _CREATED, CredentialChallenge.parse
)
ACTIVATE: Final = Call(
    _MEDIA.format("activation"),
    _MEDIA.format("enrolment-receipt"),
    _CREATED,
    EnrolmentReceipt.parse,
)
CHALLENGE: Final = Call(None, _MEDIA.format("challenge"), _CREATED, Challenge.parse)
ROTATIONS: Final = Call(None, "application/json", _OK, parse_rotations)
ROTATIONS_PATH: Final = "/.well-known/bootlease-key-rotations"
LEASE: Final = Call(_MEDIA.format("evidence"), _MEDIA.format("lease"), _OK, LeaseAnswer.parse)

TIMEOUT: Final = 10.0
"""Seconds for one call, from connecting to the answer's last byte."""
MAX_RETRY_AFTER: Final = 300.0
_BUSY: Final = frozenset({408, 425, 429})
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "WRONG VERSION NUMBER", "RECORD_LAYER_FAILURE")


class VerifierClient:
    """A verifier behind HTTP.

    Args:
        bundle: Where it is and whom to trust.
        timeout: Seconds for one call.
        transport: Carries requests in place of the network, for tests.

    Raises:
        TransportError: The bundle's TLS root cannot be used.
    """

    def __init__(
        self,
        bundle: JoinBundle,
        *,
        timeout: float = TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._issuer = bundle.issuer
        self._timeout = timeout
        self._client = httpx2.Client(
            verify=_tls_context(bundle.tls_root),
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            headers={"accept-encoding": "identity", "user-agent": "bootlease-node"},
            transport=transport,
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def enrol(self, request: EnrolmentRequest) -> CredentialChallenge:
        """Ask to be known."""
        return self._post("/v1/enrolments", ENROL, request.encode())

    def activate(self, enrolment: bytes, activation: Activation) -> EnrolmentReceipt:
        """Prove that AK and EK are in one TPM."""
        path = f"/v1/enrolments/{enrolment.hex()}/activation"
        return self._post(path, ACTIVATE, activation.encode())

    def challenge(self, node: bytes) -> Challenge:
        """Ask for a challenge."""
        return self._post(f"/v1/nodes/{node.hex()}/challenges", CHALLENGE, b"")

    def lease(self, node: bytes, evidence: bytes) -> LeaseAnswer:
        """Present evidence."""
        return self._post(f"/v1/nodes/{node.hex()}/leases", LEASE, evidence)

    def rotations(self) -> tuple[str, ...]:
        """Ask which token keys named which."""
        return self._ask("GET", ROTATIONS_PATH, ROTATIONS, None)

    def _post(self, path: str, call: Call[Message], body: bytes) -> Message:
        return self._ask("POST", path, call, body)

    def _ask(self, method: str, path: str, call: Call[Message], body: bytes | None) -> Message:
        headers = {"accept": f"{call.answer}, {PROBLEM_TYPE}"}
        if call.request is not None:
            headers["content-type"] = call.request
        try:
            with self._client.stream(
                method, self._issuer + path, content=body, headers=headers
            ) as response:
                content = self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol) as exc:
            raise UnavailableError(
                f"cannot reach the verifier at {self._issuer}: {_why(exc)}", sent=False
            ) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise UnavailableError(
                f"the verifier at {self._issuer} gave no answer: {_why(exc)}"
            ) from exc
        if response.status_code != call.status:
            raise _failure(response, content)
        if _media_type(response) != call.answer:
            raise UnavailableError(
                f"the verifier at {self._issuer} answered with media type"
                f" {_media_type(response)[:60]!r} instead of {call.answer!r}"
            )
        try:
            return call.parse(content)
        except MalformedError as exc:
            raise UnavailableError(
                f"the verifier at {self._issuer} sent an answer that does not parse: {exc}"
            ) from exc

    def _read(self, response: httpx2.Response) -> bytes:
        # A timeout of its own bounds each read; a server that drips bytes is bounded here.
        deadline = time.monotonic() + self._timeout
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise UnavailableError(
                    f"the verifier at {self._issuer} sent more than {MAX_ANSWER} bytes"
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the verifier at {self._issuer} did not finish its answer within"
                    f" {self._timeout:g} s"
                )
        return bytes(content)


def _tls_context(root: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=root)
    except ssl.SSLError as exc:
        raise TransportError(f"the join bundle's TLS root cannot be used: {exc.reason}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _why(exc: Exception) -> str:
    # OpenSSL takes the first bytes of an answer in plain HTTP for a TLS record of its own.
    if any(reason in str(exc).upper() for reason in _NOT_TLS):
        return "it speaks plain HTTP, the join bundle says https"
    return " ".join(str(exc).split())[:200] or type(exc).__name__


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _failure(response: httpx2.Response, content: bytes) -> Exception:
    """Return the error that an unwanted status stands for."""
    status = response.status_code
    problem = parse_problem(content) if _media_type(response) == PROBLEM_TYPE else None
    what = problem.text if problem is not None else response.reason_phrase or "no reason given"
    if _CLIENT_ERROR <= status < _SERVER_ERROR and status not in _BUSY:
        if problem is not None and problem.findings:
            return _refusal(problem)
        if problem is not None:
            return MalformedError(f"the verifier refuses the request ({status}): {what}")
    return UnavailableError(
        f"the verifier answered {status}: {what}", retry_after=_retry_after(response)
    )


def _refusal(problem: Problem) -> VerificationError:
    refused = VerificationError(*problem.findings)
    if problem.decision is not None:
        refused.add_note(
            "recorded at the verifier: there"
            f" `bootlease explain {problem.decision}` says what changed"
        )
    return refused


def _retry_after(response: httpx2.Response) -> float | None:
    # RFC 9110 §10.2.3 also allows a date; this verifier's clock is not ours, so it is ignored.
    text = response.headers.get("retry-after", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - 30 years
        return None
    return min(float(text), MAX_RETRY_AFTER)
