"""A running verifier as its operator reaches it: over HTTP, with the admin credential.

The credential is worth the whole verifier, so it is sent over TLS or loopback, and nowhere else
unless the operator says so.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx2

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node.problem import parse_problem
from bootlease.token import strictjson
from bootlease.verifier.loopback import is_loopback

_TIMEOUT: Final = 10.0
_MAX_ANSWER: Final = 32 * 1024 * 1024
_JSON: Final = "application/json"
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_CLIENT_ERRORS: Final = range(400, 500)
_WAITING: Final = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class AdminClient:
    """A verifier as its operator reaches it.

    Attributes:
        url: The verifier's URL, as ``verifier_url`` returns it.
        credential: The admin credential.
        tls: Says which TLS certificates will do; None for an http URL.
    """

    url: str
    credential: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    def get(self, path: str, *members: str) -> dict[str, Any]:
        """Return the JSON object at ``path``, which has these members.

        Raises:
            MalformedError: The verifier refuses the request as such.
            VerificationError: The credential is not accepted, or the verifier tells findings.
            TransportError: It cannot be reached, or does not answer as one.
        """
        return self._request("GET", path, None, None, members)

    def post(self, path: str, body: bytes, media_type: str | None, *members: str) -> dict[str, Any]:
        """Send ``body`` to ``path`` and return the JSON object answered; raises as ``get``.

        Where it waits for a second person first, the answer has the member ``proposal`` instead.
        """
        return self._request("POST", path, body, media_type, members)

    def delete(self, path: str, *members: str) -> dict[str, Any]:
        """Delete what is at ``path`` and return the JSON object answered; raises as ``get``."""
        return self._request("DELETE", path, None, None, members)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        media_type: str | None,
        members: tuple[str, ...],
    ) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.credential}", "accept": _JSON}
        if media_type is not None:
            headers["content-type"] = media_type
        verify = self.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            with httpx2.Client(verify=verify, timeout=_TIMEOUT, trust_env=False) as client:
                answer = client.request(method, self.url + path, content=body, headers=headers)
        except httpx2.RemoteProtocolError as exc:
            raise self._stranger(str(exc)) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError) as exc:
            raise TransportError(f"cannot reach the verifier at {self.url}: {exc}") from exc
        if not answer.is_success:
            raise self._failure(answer.status_code, answer.content)
        if len(answer.content) > _MAX_ANSWER:
            raise TransportError(f"{self.url} answered more than {_MAX_ANSWER} bytes")
        try:
            answered = strictjson.parse_object(answer.content)
        except MalformedError as exc:
            raise self._stranger("no JSON object") from exc
        if "proposal" in answered:
            return answered
        if missing := [name for name in members if name not in answered]:
            raise self._stranger(f"nothing is said of {', '.join(missing)}")
        return answered

    def _stranger(self, why: str) -> TransportError:
        return TransportError(f"{self.url} did not answer as a bootlease verifier: {why}")

    def _failure(self, status: int, content: bytes) -> Exception:
        problem = parse_problem(content)
        if problem is None:
            return self._stranger(f"status {status} without a problem document")
        if problem.findings:
            return VerificationError(*problem.findings)
        if status == _UNAUTHORIZED:
            return VerificationError(
                Finding(
                    "admin.credential.refused",
                    f"The admin credential is not accepted by {self.url}.",
                )
            )
        if status == _NOT_FOUND:
            return MalformedError(problem.text)
        if status in _CLIENT_ERRORS and status not in _WAITING:
            return MalformedError(f"the verifier refuses the request ({status}): {problem.text}")
        return TransportError(f"the verifier answered {status}: {problem.text}")


def verifier_url(text: str, *, unsafe_plain_http: bool, option: str) -> str:
    """Return ``text`` as a URL that paths can be added to.

    Args:
        text: As the operator has it.
        unsafe_plain_http: Send the credential over a network in the clear.
        option: The option that it was given by.

    Raises:
        click.BadParameter: It is none, or would carry the credential in the clear.
    """
    hint = f"'{option}'"
    try:
        parts = urlsplit(text)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or parts.username is not None:
        raise click.BadParameter(
            f"{text!r:.80} is not the URL of a verifier, such as https://verifier.example:8443",
            param_hint=hint,
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not unsafe_plain_http:
        raise click.BadParameter(
            f"refusing to send the admin credential to {parts.hostname} over plain HTTP, where"
            " everybody on the way can read it: use https, or --unsafe-plain-http to send it all"
            " the same",
            param_hint=hint,
        )
    return text.rstrip("/")


def tls_context(url: str, ca: Path | None) -> ssl.SSLContext | None:
    """Return what decides on the verifier's TLS certificate: ``ca``, or the machine's own roots.

    Raises:
        click.BadParameter: ``ca`` holds no PEM certificate.
    """
    if ca is None and not url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as exc:
        raise click.BadParameter(f"{ca} holds no PEM certificate", param_hint="'--ca'") from exc
