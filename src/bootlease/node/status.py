"""What an agent says of itself, for people and monitoring: ``status.json``."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.model import Effect, Finding
from bootlease.node.wishbook import Holder
from bootlease.token import strictjson

MAX_STATUS: Final = 1024 * 1024
_VERSION: Final = 1


class LeaseState(enum.Enum):
    """How an agent's lease stands."""

    NONE = "none"
    HELD = "held"
    REFUSED = "refused"
    LAPSED = "lapsed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """One lease that is held.

    Attributes:
        lease_id: Its id, as hex.
        scope: Names granted.
        audience: Relying party.
        expires_at: Wall clock at which its token ends.
        level: Level that its token repeats, if any.
        workload: Whose it is, but not its handle, which is a secret; None for one that the agent
            keeps by itself.
    """

    lease_id: str
    scope: tuple[str, ...]
    audience: str
    expires_at: int
    level: int | None = None
    workload: Holder | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, with absent members left out."""
        return _present(
            {
                "id": self.lease_id,
                "scope": list(self.scope),
                "audience": self.audience,
                "expires_at": self.expires_at,
                "level": self.level,
                "workload": None
                if self.workload is None
                else _present(dataclasses.asdict(self.workload)),
            }
        )


@dataclass(frozen=True, slots=True)
class Status:
    """An agent's status; holds neither tokens nor keys.

    Attributes:
        state: How the lease stands.
        issuer: The verifier.
        updated_at: Wall clock of this status.
        pid: The agent's process.
        node: Node id as hex, once enrolled.
        sequence: Number of the last lease in its lineage.
        expires_at: Wall clock at which the lease ends.
        renewed_at: Wall clock of the last grant.
        next_attempt_at: Wall clock of the next attempt.
        leases: What is held.
        error: Why the last attempt brought nothing.
        findings: Why the verifier refused.
        notes: What to do about it, and where it is recorded.
    """

    state: LeaseState
    issuer: str
    updated_at: int
    pid: int
    node: str | None = None
    sequence: int | None = None
    expires_at: int | None = None
    renewed_at: int | None = None
    next_attempt_at: int | None = None
    leases: tuple[LeaseStatus, ...] = ()
    error: str | None = None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, with absent members left out."""
        full: dict[str, Any] = {
            "v": _VERSION,
            "state": self.state.value,
            "issuer": self.issuer,
            "updated_at": self.updated_at,
            "pid": self.pid,
            "node": self.node,
            "seq": self.sequence,
            "expires_at": self.expires_at,
            "renewed_at": self.renewed_at,
            "next_attempt_at": self.next_attempt_at,
            "leases": [lease.as_dict() for lease in self.leases],
            "error": self.error,
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": list(self.notes),
        }
        return _present(full)

    def encode(self) -> bytes:
        """Return the file's content."""
        return strictjson.serialise(self.as_dict()) + b"\n"


def parse_status(data: bytes) -> Status:
    """Parse ``status.json``.

    Raises:
        MalformedError: It is damaged, or of another version.
    """
    members = strictjson.parse_object(data)
    if members.get("v") != _VERSION:
        raise MalformedError("the status is of another version")
    try:
        return Status(
            state=LeaseState(members["state"]),
            issuer=str(members["issuer"]),
            updated_at=int(members["updated_at"]),
            pid=int(members["pid"]),
            node=members.get("node"),
            sequence=members.get("seq"),
            expires_at=members.get("expires_at"),
            renewed_at=members.get("renewed_at"),
            next_attempt_at=members.get("next_attempt_at"),
            leases=tuple(_lease(each, members.get("expires_at", 0)) for each in members["leases"]),
            error=members.get("error"),
            findings=tuple(_finding(finding) for finding in members["findings"]),
            notes=tuple(str(note) for note in members.get("notes", ())),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise MalformedError(f"the status is damaged: {exc}") from exc


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _lease(value: dict[str, Any], expires_at: int) -> LeaseStatus:
    workload = value.get("workload")
    return LeaseStatus(
        lease_id=str(value["id"]),
        scope=tuple(value["scope"]),
        audience=str(value["audience"]),
        # An agent of an earlier version, which runs on until it is restarted, tells one for all.
        expires_at=int(value.get("expires_at", expires_at)),
        level=value.get("level"),
        workload=None if workload is None else Holder(**workload),
    )


def _finding(value: dict[str, Any]) -> Finding:
    return Finding(**{**value, "effect": Effect(value["effect"])})
