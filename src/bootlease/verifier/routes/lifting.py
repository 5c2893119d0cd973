"""Taking revocations back: what is asked for, as a document that a second person can approve.

A set that is named is turned into the digests that its name means now, so that an approval is of
these, and of no set that was registered since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.ports import RevokedKind, StoredRevocation
from bootlease.token import strictjson
from bootlease.verifier.continuity.revoking import LIFTED
from bootlease.verifier.service import Service

_KINDS: Final = {kind.value: kind for kind in LIFTED}
_MEMBERS: Final = frozenset({"kind", "subjects", "reason"})


def lift_document(kind: RevokedKind, subjects: Sequence[str], reason: str) -> bytes:
    """Return what is to be taken back, and why."""
    return strictjson.serialise({"kind": kind.value, "subjects": list(subjects), "reason": reason})


def parse_lift(document: bytes) -> tuple[RevokedKind, tuple[str, ...], str]:
    """Read such a document back.

    Raises:
        MalformedError: It is none.
    """
    members = strictjson.parse_object(document)
    kind, subjects, reason = (members.get(name) for name in ("kind", "subjects", "reason"))
    if members.keys() != _MEMBERS or kind not in _KINDS or type(reason) is not str:
        raise MalformedError("what is taken back has a kind, subjects and a reason")
    if type(subjects) is not list or not subjects or {type(each) for each in subjects} != {str}:
        raise MalformedError("what is taken back has one subject at least")
    return _KINDS[kind], tuple(subjects), reason


def demand_liftable(service: Service, document: bytes) -> None:
    """Demand that all of it is revoked now.

    Raises:
        MalformedError: It is no such document, or there can be no such subject.
        ProblemError: Something of it is not revoked.
    """
    kind, subjects, _ = parse_lift(document)
    for each in subjects:
        service.revoking.demand_liftable(kind, each)


async def lift(service: Service, document: bytes, author: str) -> dict[str, Any]:
    """Take it back, and return the members of the answer.

    Raises:
        MalformedError: It is no such document, or there can be no such subject.
        ProblemError: Something of it is not revoked.
    """
    demand_liftable(service, document)
    kind, subjects, reason = parse_lift(document)
    lifted = [
        await service.revoking.lift(kind, each, reason=reason, author=author) for each in subjects
    ]
    return {"revocations": [*map(revocation_members, lifted)]}


def revocation_members(revocation: StoredRevocation) -> dict[str, Any]:
    """Return what is told of a revocation."""
    return {
        "kind": revocation.kind.value,
        "subject": revocation.subject,
        "in_force": revocation.in_force,
        "reason": revocation.reason,
        "author": revocation.author,
        "at": revocation.at,
    }
