"""What an agent tells a workload about its lease: one JSON object on each line.

Times are whole milliseconds on the wire, rounded down, and seconds here. Members that are not
known are ignored; an event that is not known is an error, since it might be the one that ends a
lease.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.findings import parse_findings
from bootlease.localapi import fields
from bootlease.localapi.findings import MAX_FINDINGS, wire_findings
from bootlease.localapi.requests import MAX_AUDIENCE, is_handle
from bootlease.localapi.wire import MAX_ANSWER
from bootlease.model import Finding, legible
from bootlease.token import base64url, strictjson
from bootlease.token import scope as scopes
from bootlease.token.kinds import MAX_LEVEL, TokenFormat

_MAX_TOKEN: Final = 128 * 1024
_MAX_INT: Final = (1 << 53) - 1
_MAX_ERROR: Final = 1024
_LEASE_ID: Final = re.compile("[0-9a-f]{32}", re.ASCII)


class EndedReason(enum.Enum):
    """Why a lease is over."""

    LAPSED = "lapsed"
    REFUSED = "refused"
    REBOOTED = "rebooted"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease stands, at first or again.

    Attributes:
        handle: The workload's name for the lease.
        lease_id: The verifier's, as hex.
        token: The execution token as text, as an Authorization header carries it.
        encoding: Its form.
        sequence: Place in the node's lineage, from 0.
        scope: What it is for.
        audience: For whom it is.
        expires_at: Wall clock, seconds since the epoch, at which it ends.
        deadline: CLOCK_BOOTTIME, in seconds, at which it ends at the latest.
        life: Seconds that it was granted for.
        level: Level that the token repeats, where one was stated and believed.
    """

    handle: str
    lease_id: str
    token: str
    encoding: TokenFormat
    sequence: int
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    deadline: float
    life: float
    level: int | None = None

    def token_bytes(self) -> bytes:
        """Return the token as its issuer encoded it."""
        if self.encoding is TokenFormat.CWT:
            return base64url.decode(self.token)
        return self.token.encode("ascii")


@dataclass(frozen=True, slots=True)
class Unreached:
    """An attempt to renew got no answer; what was granted goes on until its deadline.

    Attributes:
        error: One line for people.
        retry_in: Seconds until the next attempt.
    """

    error: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Denied:
    """The verifier or a rule grants this lease no more; the stream ends.

    Attributes:
        findings: Why.
    """

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The lease is over now; a later ``Granted`` is a fresh attestation's.

    Attributes:
        reason: Why.
        findings: What the verifier found, where it refused.
    """

    reason: EndedReason
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing new: the agent lives."""


Event = Granted | Unreached | Denied | Ended | Alive


def encode_event(event: Event) -> bytes:
    """Return the line that tells of ``event``, its end of line included."""
    return strictjson.serialise(_members(event)) + b"\n"


def _members(event: Event) -> dict[str, Any]:
    match event:
        case Granted():
            return {"event": "granted", **_granted_members(event)}
        case Unreached():
            said = legible(event.error, at_most=_MAX_ERROR) or "no answer"
            return {"event": "unreached", "error": said, "retry_in_ms": _wire(event.retry_in)}
        case Denied():
            return {"event": "denied", "findings": wire_findings(event.findings)}
        case Ended():
            found = wire_findings(event.findings)
            return {"event": "ended", "reason": event.reason.value, "findings": found}
        case Alive():
            return {"event": "alive"}


def _granted_members(event: Granted) -> dict[str, Any]:
    members: dict[str, Any] = {
        "handle": event.handle,
        "lease_id": event.lease_id,
        "token": event.token,
        "encoding": event.encoding.value,
        "sequence": event.sequence,
        "scope": list(event.scope),
        "audience": event.audience,
        "expires_at": event.expires_at,
        "deadline_ms": _wire(event.deadline),
        "life_ms": _wire(event.life),
    }
    if event.level is not None:
        members["level"] = event.level
    return members


def _wire(seconds: float) -> int:
    # What was read is written again: 1.001 s is not 1000.9999999999999 ms.
    return min(max(0, math.floor(round(seconds * 1000, 2))), fields.MAX_MILLISECONDS)


def parse_event(line: bytes) -> Event:
    """Read one line.

    Raises:
        MalformedError: It is no event.
    """
    if len(line) > MAX_ANSWER:
        raise MalformedError(f"an event has at most {MAX_ANSWER} bytes")
    members = strictjson.parse_object(line)
    name = members.get("event")
    parse = _PARSERS.get(name) if type(name) is str else None
    if parse is None:
        raise MalformedError("the agent tells of an unknown event")
    return parse(members)


def _granted(members: Mapping[str, Any]) -> Granted:
    handle = fields.text(members, "handle", at_most=64)
    lease_id = fields.text(members, "lease_id", at_most=32)
    if not is_handle(handle) or _LEASE_ID.fullmatch(lease_id) is None:
        raise MalformedError("handle or lease_id has not its form")
    scope = fields.texts(members, "scope", at_most=scopes.MAX_NAMES)
    try:
        scopes.check(scope)
        encoding = TokenFormat(fields.text(members, "encoding", at_most=16))
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc
    return Granted(
        handle=handle,
        lease_id=lease_id,
        token=_token(members, encoding),
        encoding=encoding,
        sequence=fields.number(members, "sequence", at_most=_MAX_INT),
        scope=scope,
        audience=fields.text(members, "audience", at_most=MAX_AUDIENCE),
        expires_at=fields.number(members, "expires_at", at_most=_MAX_INT),
        deadline=fields.seconds(members, "deadline_ms"),
        life=fields.seconds(members, "life_ms"),
        level=fields.number(members, "level", at_most=MAX_LEVEL) if "level" in members else None,
    )


def _token(members: Mapping[str, Any], encoding: TokenFormat) -> str:
    # It goes into an HTTP header: nothing that could begin another.
    token = fields.text(members, "token", at_most=_MAX_TOKEN)
    parts = [token] if encoding is TokenFormat.CWT else token.split(".")
    for part in parts:
        base64url.decode(part)
    return token


def _unreached(members: Mapping[str, Any]) -> Unreached:
    return Unreached(
        fields.text(members, "error", at_most=_MAX_ERROR), fields.seconds(members, "retry_in_ms")
    )


def _denied(members: Mapping[str, Any]) -> Denied:
    return Denied(parse_findings(members.get("findings"), at_most=MAX_FINDINGS))


def _ended(members: Mapping[str, Any]) -> Ended:
    try:
        reason = EndedReason(fields.text(members, "reason", at_most=16))
    except ValueError as exc:
        raise MalformedError("a lease has ended for an unknown reason") from exc
    return Ended(reason, parse_findings(members.get("findings"), at_most=MAX_FINDINGS))


def _alive(members: Mapping[str, Any]) -> Alive:
    del members
    return Alive()


_PARSERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Event]]] = {
    "granted": _granted,
    "unreached": _unreached,
    "denied": _denied,
    "ended": _ended,
    "alive": _alive,
}
