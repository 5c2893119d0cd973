"""What security events say, and of whom.

Specifications: OpenID CAEP 1.0 §2 (members of every event), §3.1 (session-revoked), §3.2
(token-claims-change), §3.5 (device-compliance-change); OpenID Shared Signals Framework 1.0 §3
(subjects), §8.1.4.1 (verification), §8.1.5 (stream-updated); RFC 9493 §3.2 (subject formats).

An event is read in exactly the form in which this verifier writes it. What the specifications leave
optional and it always writes is demanded: when, by whom, and why. Not handled: other CAEP events,
``reason_user``, other languages than English, subjects in other formats.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.token import base64url

CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED: Final = f"{CAEP}session-revoked"
TOKEN_CLAIMS_CHANGE: Final = f"{CAEP}token-claims-change"
DEVICE_COMPLIANCE_CHANGE: Final = f"{CAEP}device-compliance-change"
VERIFICATION: Final = f"{SSF}verification"
STREAM_UPDATED: Final = f"{SSF}stream-updated"

MAX_REASON: Final = 1024
MAX_CLAIMS: Final = 16
MAX_TEXT: Final = 1024
"""Characters of a claim's value, and of a verification's state."""
MAX_ISSUER: Final = 512
MAX_TIME: Final = (1 << 53) - 1
"""The largest integer that every JSON parser reads alike (RFC 7493 §2.2)."""

_LANGUAGE: Final = "en"
_NODE: Final = re.compile(r"[0-9a-f]{64}")
_LEASE_BYTES: Final = 16
_ROOT_BYTES: Final = 32
_LEASE, _LINEAGE = "lease:", "lineage:"
_STREAM: Final = re.compile(r"[0-9a-f]{32}")


class Initiator(enum.Enum):
    """Who brought a change about (CAEP §2, ``initiating_entity``)."""

    ADMIN = "admin"
    POLICY = "policy"
    SYSTEM = "system"


class Compliance(enum.Enum):
    """Whether a node proves what policy asks."""

    COMPLIANT = "compliant"
    NOT_COMPLIANT = "not-compliant"


@dataclass(frozen=True, slots=True)
class Cause:
    """What every CAEP event says.

    Attributes:
        at: When it happened, in seconds since the epoch.
        initiator: Who brought it about.
        reason: Why, for an operator.
    """

    at: int
    initiator: Initiator
    reason: str

    def __post_init__(self) -> None:
        if type(self.at) is not int or not 0 <= self.at <= MAX_TIME:
            raise ValueError("an event happened at a time in whole seconds")
        if type(self.reason) is not str or len(self.reason) > MAX_REASON:
            raise ValueError(f"a reason is text of at most {MAX_REASON} characters")


@dataclass(frozen=True, slots=True)
class SessionRevoked:
    """The leases of the subject that were granted before have ended."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class DeviceComplianceChange:
    """The node stopped proving what policy asks, or proves it again."""

    cause: Cause
    current: Compliance

    @property
    def previous(self) -> Compliance:
        """What it was before."""
        compliant = self.current is Compliance.COMPLIANT
        return Compliance.NOT_COMPLIANT if compliant else Compliance.COMPLIANT


@dataclass(frozen=True, slots=True)
class TokenClaimsChange:
    """Tokens of the subject have other claims from now on.

    Attributes:
        cause: When, by whom, why.
        claims: New values of JWT claims: text, integers, or objects of these.
    """

    cause: Cause
    claims: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check_members(self.claims, nested=True)
        frozen = {
            name: MappingProxyType(dict(value)) if isinstance(value, Mapping) else value
            for name, value in self.claims.items()
        }
        object.__setattr__(self, "claims", MappingProxyType(frozen))


@dataclass(frozen=True, slots=True)
class Verification:
    """The stream works (SSF §8.1.4); ``state`` is what whoever asked gave along."""

    state: str | None = None

    def __post_init__(self) -> None:
        _check_optional(self.state)


@dataclass(frozen=True, slots=True)
class StreamUpdated:
    """Something happened to the stream itself, such as events that were dropped.

    Attributes:
        reason: What, for an operator.
    """

    reason: str | None = None

    def __post_init__(self) -> None:
        _check_optional(self.reason)


Event = SessionRevoked | DeviceComplianceChange | TokenClaimsChange | Verification | StreamUpdated


@dataclass(frozen=True, slots=True)
class SessionSubject:
    """A node with all its leases, or some of its leases.

    Attributes:
        node: Node id, the ``sub`` of its tokens in hex; None where only the lease is known.
        lease: One lease alone: 16 bytes, the ``jti`` of its token.
        lineage: The leases of one lineage: its root, as tokens name it.
    """

    node: bytes | None
    lease: bytes | None = None
    lineage: bytes | None = None

    def __post_init__(self) -> None:
        if self.node is None and self.lease is None and self.lineage is None:
            raise ValueError("a subject is a node, a lease or a lineage")
        if self.node is not None and len(self.node) != _ROOT_BYTES:
            raise ValueError("a node id has 32 bytes")
        if self.lease is not None and self.lineage is not None:
            raise ValueError("a session is a lease or a lineage")
        if self.lease is not None and len(self.lease) != _LEASE_BYTES:
            raise ValueError("a lease id has 16 bytes")
        if self.lineage is not None and len(self.lineage) != _ROOT_BYTES:
            raise ValueError("the root of a lineage has 32 bytes")

    def wire(self, issuer: str) -> dict[str, Any]:
        """Return the ``sub_id`` of a SET by ``issuer``."""
        members: dict[str, Any] = {"format": "complex"}
        if self.node is not None:
            members["device"] = {"format": "iss_sub", "iss": issuer, "sub": self.node.hex()}
        session = None
        if self.lease is not None:
            session = _LEASE + base64url.encode(self.lease)
        elif self.lineage is not None:
            session = _LINEAGE + base64url.encode(self.lineage)
        if session is not None:
            members["session"] = {"format": "opaque", "id": session}
        return members


@dataclass(frozen=True, slots=True)
class IssuerSubject:
    """Every node of the verifier."""

    def wire(self, issuer: str) -> dict[str, Any]:
        """Return the ``sub_id`` of a SET by ``issuer``."""
        return {"format": "complex", "tenant": {"format": "uri", "uri": issuer}}


@dataclass(frozen=True, slots=True)
class StreamSubject:
    """The stream itself.

    Attributes:
        stream: Its id, 32 hex digits.
    """

    stream: str

    def __post_init__(self) -> None:
        if _STREAM.fullmatch(self.stream) is None:
            raise ValueError("a stream id has 32 hex digits")

    def wire(self, _issuer: str) -> dict[str, Any]:
        """Return the ``sub_id`` of a SET."""
        return {"format": "opaque", "id": self.stream}


Subject = SessionSubject | IssuerSubject | StreamSubject


def event_wire(event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's type and its members."""
    match event:
        case SessionRevoked(cause):
            return SESSION_REVOKED, _cause_wire(cause)
        case DeviceComplianceChange(cause, current):
            statuses = {"previous_status": event.previous.value, "current_status": current.value}
            return DEVICE_COMPLIANCE_CHANGE, {**_cause_wire(cause), **statuses}
        case TokenClaimsChange(cause, claims):
            thawed = {
                name: dict(value) if isinstance(value, Mapping) else value
                for name, value in claims.items()
            }
            return TOKEN_CLAIMS_CHANGE, {**_cause_wire(cause), "claims": thawed}
        case Verification(state):
            return VERIFICATION, {} if state is None else {"state": state}
        case StreamUpdated(reason):
            given = {} if reason is None else {"reason": reason}
            return STREAM_UPDATED, {"status": "enabled", **given}


def parse_event(kind: str, members: object) -> Event:
    """Parse an unverified event.

    Raises:
        MalformedError: Not an event that this verifier writes.
    """
    parse = _PARSERS.get(kind)
    if parse is None:
        raise MalformedError("security event: of a type that is not known")
    if type(members) is not dict:
        raise MalformedError("security event: not an object")
    try:
        return parse(dict(members))
    except ValueError as exc:
        raise MalformedError(f"security event: {exc}") from exc


def parse_subject(value: object, issuer: str) -> Subject:
    """Parse an unverified ``sub_id`` of a SET that says to be of ``issuer``.

    Raises:
        MalformedError: Not a subject that this verifier writes, or another issuer's.
    """
    try:
        subject = _subject(value)
    except ValueError as exc:
        raise MalformedError(f"security event: {exc}") from exc
    # One form each: what does not come out again as it went in says something that was not read,
    # such as a device of another issuer.
    if subject is None or subject.wire(issuer) != value:
        raise MalformedError("security event: a subject that is not known")
    return subject


def _subject(value: object) -> Subject | None:
    match value:
        case {"format": "opaque", "id": str(stream)}:
            return StreamSubject(stream)
        case {"format": "complex", "tenant": _}:
            return IssuerSubject()
        case {"format": "complex", **members}:
            return _session_subject(members)
        case _:
            return None


def _session_subject(members: Mapping[Any, Any]) -> SessionSubject | None:
    node = lease = lineage = None
    match members.get("device"):
        case {"sub": str(name)} if _NODE.fullmatch(name):
            node = bytes.fromhex(name)
    match members.get("session"):
        case {"id": str(name)} if name.startswith(_LEASE):
            lease = base64url.decode(name.removeprefix(_LEASE))
        case {"id": str(name)} if name.startswith(_LINEAGE):
            lineage = base64url.decode(name.removeprefix(_LINEAGE))
    return SessionSubject(node, lease, lineage)


def _cause_wire(cause: Cause) -> dict[str, Any]:
    return {
        "event_timestamp": cause.at,
        "initiating_entity": cause.initiator.value,
        "reason_admin": {_LANGUAGE: cause.reason},
    }


def _take_cause(members: dict[str, Any]) -> Cause:
    reasons = members.pop("reason_admin", None)
    if type(reasons) is not dict or reasons.keys() != {_LANGUAGE}:
        raise ValueError("a reason is missing")
    at, initiator = members.pop("event_timestamp", None), members.pop("initiating_entity", None)
    return Cause(at, Initiator(initiator), reasons[_LANGUAGE])


def _session_revoked(members: dict[str, Any]) -> SessionRevoked:
    cause = _take_cause(members)
    _no_more(members)
    return SessionRevoked(cause)


def _device_compliance_change(members: dict[str, Any]) -> DeviceComplianceChange:
    event = DeviceComplianceChange(
        _take_cause(members), Compliance(members.pop("current_status", None))
    )
    if Compliance(members.pop("previous_status", None)) is not event.previous:
        raise ValueError("a status that did not change")
    _no_more(members)
    return event


def _token_claims_change(members: dict[str, Any]) -> TokenClaimsChange:
    cause, claims = _take_cause(members), members.pop("claims", None)
    _no_more(members)
    if type(claims) is not dict:
        raise ValueError("the claims are missing")
    return TokenClaimsChange(cause, claims)


def _verification(members: dict[str, Any]) -> Verification:
    event = Verification(members.pop("state", None))
    _no_more(members)
    return event


def _stream_updated(members: dict[str, Any]) -> StreamUpdated:
    if members.pop("status", None) != "enabled":
        raise ValueError("a status of the stream that is not known")
    event = StreamUpdated(members.pop("reason", None))
    _no_more(members)
    return event


_PARSERS: Final[Mapping[str, Callable[[dict[str, Any]], Event]]] = {
    SESSION_REVOKED: _session_revoked,
    DEVICE_COMPLIANCE_CHANGE: _device_compliance_change,
    TOKEN_CLAIMS_CHANGE: _token_claims_change,
    VERIFICATION: _verification,
    STREAM_UPDATED: _stream_updated,
}


def _no_more(members: dict[str, Any]) -> None:
    if members:
        raise ValueError("members that are not known")


def _check_members(members: Mapping[str, Any], *, nested: bool) -> None:
    if not 0 < len(members) <= MAX_CLAIMS:
        raise ValueError(f"there are 1 to {MAX_CLAIMS} claims")
    for name, value in members.items():
        if type(name) is not str or not 0 < len(name) <= MAX_TEXT:
            raise ValueError("a claim has a name")
        if nested and isinstance(value, Mapping):
            _check_members(value, nested=False)
        elif type(value) is int:
            if abs(value) > MAX_TIME:
                raise ValueError("a claim's number is beyond 53 bits")
        elif type(value) is not str or len(value) > MAX_TEXT:
            raise ValueError("a claim's value is text or an integer")


def _check_optional(text: object) -> None:
    if text is not None and (type(text) is not str or len(text) > MAX_TEXT):
        raise ValueError(f"text of at most {MAX_TEXT} characters")
