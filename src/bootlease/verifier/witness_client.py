"""One witness over HTTP: it cosigns a checkpoint, or says which tree it has seen.

Specifications: C2SP tlog-witness v1 §add-checkpoint, tlog-cosignature v1.1; docs/ledger.md for the
list of logs that our own witness publishes besides.

A cosignature is verified before it is returned. What a witness says without signing it (a conflict,
a refusal) is believed as far as its TLS certificate goes.

Not handled on purpose: redirects, proxies from the environment, bastions.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.ledger.addcheckpoint import (
    SIZE_MEDIA_TYPE,
    AddCheckpoint,
    parse_size_answer,
)
from bootlease.ledger.checkpoint import VerifiedCheckpoint
from bootlease.ledger.cosignature import verify_cosignature
from bootlease.ledger.merkle import MAX_SIZE
from bootlease.ledger.note import (
    Note,
    NoteKey,
    NoteSignature,
    SignatureType,
    parse_signature_lines,
)
from bootlease.token import strictjson
from bootlease.verifier.loopback import is_loopback

TIMEOUT: Final = 5.0
"""Seconds for each step of a request: connecting, sending, each read."""
MAX_ANSWER: Final = 64 * 1024
MAX_LOGS: Final = 4 * 1024 * 1024

_OK, _NOT_FOUND, _CONFLICT, _UNPROVEN = 200, 404, 409, 422
_ADDRESS: Final = re.compile(r"(?P<key>[^=]+=?)=(?P<url>https?://.+)")


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """A witness that the operator chose.

    Attributes:
        key: Verifies its cosignatures.
        url: Its submission prefix, without a final slash.
    """

    key: NoteKey
    url: str


def parse_witness(text: str) -> WitnessAddress:
    """Parse ``VKEY=URL``.

    Raises:
        MalformedError: It is not of this form, the key does not cosign, or the URL is plain HTTP
            to another machine.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise MalformedError(f"--witness {text!r:.80} is not VKEY=URL")
    key, url = NoteKey.parse(match["key"]), match["url"].rstrip("/")
    if key.kind is SignatureType.ED25519:
        raise MalformedError(f"--witness {key.name}: the key is a log's, not a witness's")
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise MalformedError(f"--witness {key.name}: {url!r:.80} is not a URL") from exc
    # A conflict is not signed: off this machine nobody in between may make one up.
    if not parts.hostname or (parts.scheme == "http" and not is_loopback(parts.hostname)):
        raise MalformedError(
            f"--witness {key.name}: {url!r:.80} must be https, or http on this machine"
        )
    return WitnessAddress(key, url)


@dataclass(frozen=True, slots=True)
class Conflict:
    """The witness has another size than the request named.

    Attributes:
        size: Of the tree that it cosigned last.
    """

    size: int


@dataclass(frozen=True, slots=True)
class Unproven:
    """The witness does not accept that its tree is the beginning of ours."""


class WitnessClient:
    """A witness behind HTTP.

    Args:
        address: Where it is and what verifies its cosignatures.
        transport: Carries requests in place of the network, for tests.
    """

    def __init__(
        self, address: WitnessAddress, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.address = address
        self._client = httpx2.AsyncClient(
            verify=_tls_context() if transport is None else True,
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
            headers={"accept-encoding": "identity", "user-agent": "bootlease-verifier"},
            transport=transport,
        )

    @property
    def name(self) -> str:
        """The witness's name."""
        return self.address.key.name

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def submit(
        self, old: int, proof: tuple[bytes, ...], checkpoint: VerifiedCheckpoint
    ) -> NoteSignature | Conflict | Unproven:
        """Ask for a cosignature; what is returned as one has been verified.

        Args:
            old: Size of the tree that the witness cosigned last, as far as is known.
            proof: Consistency proof from there.
            checkpoint: Ours.

        Raises:
            TransportError: There is no answer, or one that the protocol does not know.
        """
        note = checkpoint.note
        # The log's own line alone: cosignatures of others are none of this witness's business.
        own = Note(note.body, tuple(one for one in note.signatures if checkpoint.key.matches(one)))
        request = AddCheckpoint(old, proof, own.encode()).encode()
        status, media_type, body = await self._send("POST", "/add-checkpoint", request, MAX_ANSWER)
        if status == _CONFLICT and media_type == SIZE_MEDIA_TYPE:
            return Conflict(self._parsed_size(body))
        if status == _UNPROVEN:
            return Unproven()
        if status != _OK:
            raise TransportError(
                f"witness {self.name} answered {status}: {body[:200].decode(errors='replace')!r}"
            )
        return self._cosignature(body, note.body)

    async def logs(self, prefix: str) -> dict[str, int] | None:
        """Return the sizes of the logs under a prefix that the witness has seen, by origin.

        None where it does not publish them: the protocol does not ask it to.

        Raises:
            TransportError: There is no answer, or one that cannot be read.
        """
        status, _, body = await self._send("GET", "/logs", b"", MAX_LOGS)
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise TransportError(f"witness {self.name} answered {status} for its logs")
        try:
            return _parse_logs(body, prefix)
        except MalformedError as exc:
            raise TransportError(f"witness {self.name} lists its logs wrongly: {exc}") from exc

    def _cosignature(self, lines: bytes, body: bytes) -> NoteSignature:
        key = self.address.key
        try:
            signatures = parse_signature_lines(lines)
            # Without a line by its key, the first one fails the check in its place.
            mine = next(filter(key.matches, signatures), signatures[0])
            verify_cosignature(body, mine, key)
        except (MalformedError, VerificationError) as exc:
            raise TransportError(
                f"witness {self.name} answered with no cosignature: {exc}"
            ) from exc
        return mine

    def _parsed_size(self, body: bytes) -> int:
        try:
            return parse_size_answer(body)
        except MalformedError as exc:
            raise TransportError(f"witness {self.name} answered with no size: {exc}") from exc

    async def _send(
        self, method: str, path: str, content: bytes, at_most: int
    ) -> tuple[int, str, bytes]:
        body = bytearray()
        url = self.address.url + path
        try:
            async with self._client.stream(method, url, content=content) as response:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > at_most:
                        raise TransportError(f"witness {self.name} sent more than {at_most} bytes")
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            why = " ".join(str(exc).split())[:200] or type(exc).__name__
            raise TransportError(f"cannot reach witness {self.name} at {url}: {why}") from exc
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code, media_type, bytes(body)


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _parse_logs(data: bytes, prefix: str) -> dict[str, int]:
    logs = strictjson.parse_object(data).get("logs")
    if not isinstance(logs, list):
        raise MalformedError("there is no list")
    sizes: dict[str, int] = {}
    for log in logs:
        match log:
            case {"origin": str(origin), "size": int(size)} if 0 <= size <= MAX_SIZE:
                if origin.startswith(prefix):
                    sizes[origin] = size
            case _:
                raise MalformedError("a log has an origin and a size")
    return sizes
