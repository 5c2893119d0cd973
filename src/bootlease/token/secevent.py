"""Security event tokens: what a verifier tells relying parties, signed.

Specifications: RFC 8417 §2 (SET), RFC 9493 §4.1 (``sub_id``), RFC 8725 §3.11 (explicit typing);
OpenID Shared Signals Framework 1.0 §4.1 (one event in each SET, no ``sub``, no ``exp``); the CAEP
Interoperability Profile 1.0 (RS256). What the events say is in ``caep``.

A SET is no execution token and never passes for one: its ``typ`` is another, its keys are others,
and it has no ``sub``. It does not expire either: an event may be delivered late or twice, and
``jti`` tells. Whoever acts on one must be safe in doing so again.

Not handled: encrypted SETs, several events in one SET, ``toe``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import strictjson
from bootlease.token.caep import (
    MAX_ISSUER,
    MAX_TIME,
    Event,
    Subject,
    event_wire,
    parse_event,
    parse_subject,
)
from bootlease.token.eventkeys import EventKeySet
from bootlease.token.jws import (
    encode_header,
    header_text,
    parse_header,
    parse_payload,
    sign_compact,
)
from bootlease.token.keys import Algorithm, Signer
from bootlease.token.signedjson import SignedKind, verify_object

SET_TYP: Final = "secevent+jwt"
SECEVENT: Final = "application/secevent+jwt"
"""Media type."""
MAX_SET: Final = 32 * 1024
"""Characters of the longest SET."""
MAX_AUDIENCE: Final = 512
_JTI: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_TXN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORBIDDEN: Final = frozenset({"sub", "exp"})

KIND: Final = SignedKind(
    SET_TYP,
    MAX_SET,
    Finding("set.typ.mismatch", "The signed object is no security event.", expected=SET_TYP),
    Finding("set.key.unknown", "The security event is signed by a key that is not trusted here."),
    Finding(
        "set.algorithm.mismatch",
        "The security event names an algorithm that does not belong to its key.",
        expected=Algorithm.RS256.value,
    ),
    Finding("set.signature.invalid", "The security event's signature does not verify."),
)


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """What one SET says, unverified or to be signed.

    Attributes:
        issuer: The verifier's URL.
        audience: Whom it is for.
        jti: Its own name: 16 to 64 characters of base64url.
        issued_at: Seconds since the epoch.
        subject: Of whom.
        event: What.
        transaction: What caused it: SETs of one cause share it.
    """

    issuer: str
    audience: str
    jti: str
    issued_at: int
    subject: Subject
    event: Event
    transaction: str | None = None

    def __post_init__(self) -> None:
        for text, longest in ((self.issuer, MAX_ISSUER), (self.audience, MAX_AUDIENCE)):
            if not 0 < len(text) <= longest:
                raise ValueError(f"issuer and audience have 1 to {longest} characters")
        if type(self.jti) is not str or _JTI.fullmatch(self.jti) is None:
            raise ValueError("a jti is 16 to 64 characters of base64url")
        if type(self.issued_at) is not int or not 0 <= self.issued_at <= MAX_TIME:
            raise ValueError("iat is a time in whole seconds")
        txn = self.transaction
        if txn is not None and (type(txn) is not str or _TXN.fullmatch(txn) is None):
            raise ValueError("a txn is 1 to 64 characters of base64url")

    def members(self) -> dict[str, Any]:
        """Return the claims of the SET."""
        kind, event = event_wire(self.event)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "jti": self.jti,
            "iat": self.issued_at,
            "aud": self.audience,
        }
        if self.transaction is not None:
            claims["txn"] = self.transaction
        claims["sub_id"] = self.subject.wire(self.issuer)
        claims["events"] = {kind: event}
        return claims

    def encode(self) -> bytes:
        """Return the claims as they are signed."""
        return strictjson.serialise(self.members())


@dataclass(frozen=True, slots=True)
class VerifiedSecurityEvent:
    """A SET that its verifier signed for this receiver.

    Attributes:
        content: What it says.
        key_id: Of the key that signed it.
    """

    content: SecurityEvent
    key_id: str


def sign_set(content: SecurityEvent, signer: Signer) -> str:
    """Return the SET, a compact JWS.

    Raises:
        ValueError: The key is not one for events.
    """
    return sign_document(content.encode(), signer)


def sign_document(document: bytes, signer: Signer) -> str:
    """Return the SET of an event that ``SecurityEvent.encode`` made; the same bytes every time.

    Raises:
        ValueError: The key is not one for events.
    """
    if signer.algorithm is not Algorithm.RS256:
        raise ValueError("security events are signed with RS256")
    header = encode_header({"alg": "RS256", "kid": signer.key_id, "typ": SET_TYP})
    return sign_compact(header, document, signer)


def parse_set(text: str) -> SecurityEvent:
    """Read a SET without checking its signature, type, issuer or audience.

    Raises:
        MalformedError: Not a SET that this verifier writes.
    """
    parse_header(header_text(text, max_bytes=MAX_SET))
    return _content(strictjson.parse_object(parse_payload(text)))


def verify_set(
    text: str, keys: EventKeySet, *, issuer: str, audience: str
) -> VerifiedSecurityEvent:
    """Prove that a verifier signed this SET for this receiver.

    Proves nothing about when it was sent, nor that it was not received before: compare ``jti``.

    Args:
        text: Unverified text.
        keys: The event keys of the one verifier the caller trusts.
        issuer: That verifier's URL, exact.
        audience: The receiver's own name, exact.

    Raises:
        MalformedError: Not a SET that this verifier writes.
        VerificationError: Wrong type, key, algorithm, signature, issuer or audience.
    """
    key_id, members = verify_object(KIND, text, keys)
    content = _content(members)
    if content.issuer != issuer:
        raise _refused(
            "set.issuer.mismatch",
            "The security event is of another verifier.",
            issuer,
            content.issuer,
        )
    if content.audience != audience:
        raise _refused(
            "set.audience.mismatch",
            "The security event is for another receiver.",
            audience,
            content.audience,
        )
    return VerifiedSecurityEvent(content, key_id)


def _content(members: dict[str, Any]) -> SecurityEvent:
    if not _FORBIDDEN.isdisjoint(members):
        # RFC 8417 §4.6: what could pass for an access token is none of ours.
        raise MalformedError("security event: it has sub or exp")
    issuer, events = members.get("iss"), members.get("events")
    if type(issuer) is not str or not 0 < len(issuer) <= MAX_ISSUER:
        raise MalformedError("security event: it names no issuer")
    if type(events) is not dict or len(events) != 1:
        raise MalformedError("security event: there is one event in each SET")
    ((kind, event),) = events.items()
    try:
        return SecurityEvent(
            issuer=issuer,
            audience=_audience(members.get("aud")),
            jti=members.get("jti"),  # type: ignore[arg-type]  # SecurityEvent looks at each
            issued_at=members.get("iat"),  # type: ignore[arg-type]  # as above
            subject=parse_subject(members.get("sub_id"), issuer),
            event=parse_event(kind, event),
            transaction=members.get("txn"),
        )
    except ValueError as exc:
        raise MalformedError(f"security event: {exc}") from exc


def _audience(value: object) -> str:
    # RFC 7519 §4.1.3: one receiver, as text or as the only member of an array.
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is not str:
        raise MalformedError("security event: it is for one receiver")
    return value


def _refused(id_: str, message: str, expected: str, seen: str) -> VerificationError:
    return VerificationError(Finding(id_, message, expected=expected, seen=seen[:128]))
