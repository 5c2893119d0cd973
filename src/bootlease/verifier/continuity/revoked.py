"""What an operator revoked, as it stands: asked before anything is granted.

A family is a make, ``make:VENDOR/MODEL/VERSION`` as policies write it, or all TPMs that one root
vouches for, ``root:SHA-256``. A lease, a lineage and a reference set are over for good, or until
the operator takes it back, whatever their nodes do; a node, or one of a family, gets neither
challenge nor lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bootlease.endorsement import Enrolment, MakePattern
from bootlease.errors import MalformedError
from bootlease.model import Finding
from bootlease.ports import RevokedKind, StoredRevocation
from bootlease.token import base64url
from bootlease.verifier.problems import ProblemError, ProblemKind

MAKE: Final = "make:"
ROOT: Final = "root:"
_HEX_BYTES: Final = {
    RevokedKind.NODE: 32,
    RevokedKind.LEASE: 16,
    RevokedKind.LINEAGE: 32,
    RevokedKind.REFERENCE: 32,
}
_DIGEST: Final = 32
_KEY_ID: Final = 43
_JTI: Final = 22
_MAX_EPOCH_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Revoked:
    """Every revocation in force.

    Attributes:
        nodes: Node ids.
        leases: Lease ids.
        lineages: Roots of lineages.
        references: Digests of reference sets.
        makes: Families of TPMs by make.
        roots: Families of TPMs by the root that vouches for them.
        epoch: The lowest policy epoch that counts; 0 where none was revoked.
        keys: Ids of token keys.
    """

    nodes: frozenset[bytes] = frozenset()
    leases: frozenset[bytes] = frozenset()
    lineages: frozenset[bytes] = frozenset()
    references: frozenset[bytes] = frozenset()
    makes: tuple[MakePattern, ...] = ()
    roots: frozenset[bytes] = frozenset()
    epoch: int = 0
    keys: frozenset[str] = frozenset()

    @classmethod
    def of(cls, revocations: Iterable[StoredRevocation]) -> Revoked:
        """Return what is in force after these, the oldest first."""
        last: dict[tuple[RevokedKind, str], bool] = {}
        for each in revocations:
            last[each.kind, each.subject] = each.in_force
        subjects: dict[RevokedKind, list[str]] = {kind: [] for kind in RevokedKind}
        for (kind, subject), in_force in last.items():
            if in_force:
                subjects[kind].append(subject)
        families = subjects[RevokedKind.FAMILY]
        return cls(
            nodes=_octets(subjects[RevokedKind.NODE]),
            leases=_octets(subjects[RevokedKind.LEASE]),
            lineages=_octets(subjects[RevokedKind.LINEAGE]),
            references=_octets(subjects[RevokedKind.REFERENCE]),
            makes=tuple(
                MakePattern.parse(each.removeprefix(MAKE))
                for each in families
                if each.startswith(MAKE)
            ),
            roots=_octets(each.removeprefix(ROOT) for each in families if each.startswith(ROOT)),
            epoch=max(map(int, subjects[RevokedKind.EPOCH]), default=0),
            keys=frozenset(subjects[RevokedKind.KEY]),
        )

    def has(self, kind: RevokedKind, subject: str) -> bool:
        """Tell whether a reference set or a family, in its one spelling, is revoked."""
        if kind is RevokedKind.REFERENCE:
            return bytes.fromhex(subject) in self.references
        if subject.startswith(ROOT):
            return bytes.fromhex(subject.removeprefix(ROOT)) in self.roots
        return MakePattern.parse(subject.removeprefix(MAKE)) in self.makes

    def finding(self, enrolment: Enrolment) -> Finding | None:
        """Return why this node may have nothing, if it may not."""
        if enrolment.node in self.nodes:
            return Finding(
                "node.revoked",
                "An operator has revoked the node; until one readmits it, it is granted nothing.",
                seen=enrolment.node.hex(),
            )
        return self._family_finding(enrolment) if self.makes or self.roots else None

    def _family_finding(self, enrolment: Enrolment) -> Finding | None:
        endorsement = enrolment.endorsement
        if endorsement is None:
            return None
        family = None
        if endorsement.root in self.roots:
            family = f"{ROOT}{endorsement.root.hex()}"
        elif any(each.matches(endorsement.identity) for each in self.makes):
            family = f"{MAKE}{endorsement.identity}"
        if family is None:
            return None
        return Finding(
            "endorsement.family.revoked",
            "An operator has revoked the family of TPMs that the node's belongs to.",
            seen=family,
        )

    def demand_not(self, enrolment: Enrolment) -> None:
        """Demand that neither the node nor its family is revoked.

        Raises:
            ProblemError: One of them is.
        """
        finding = self.finding(enrolment)
        if finding is not None:
            raise ProblemError(ProblemKind.REVOKED, finding.message, findings=[finding])


NOTHING_REVOKED: Final = Revoked()


def parse_subject(kind: RevokedKind, text: str) -> str:
    """Return a subject in its one spelling.

    Raises:
        MalformedError: There can be no such subject.
    """
    if kind is RevokedKind.LEASE and len(text) == _JTI:
        # As a JWT's ``jti`` and an event's subject name it.
        text = base64url.decode(text).hex()
    if kind in _HEX_BYTES:
        return _hex(text, _HEX_BYTES[kind], kind.value)
    if kind is RevokedKind.FAMILY:
        return _family(text)
    if kind is RevokedKind.EPOCH:
        if not text.isascii() or not text.isdigit() or len(text) > _MAX_EPOCH_DIGITS:
            raise MalformedError("an epoch is a number")
        return str(int(text))
    if len(text) != _KEY_ID or not text.isascii():
        raise MalformedError("a key id is the key's thumbprint, 43 characters of base64url")
    return text


def _family(text: str) -> str:
    if text.startswith(ROOT):
        return ROOT + _hex(text.removeprefix(ROOT), _DIGEST, "root")
    try:
        return MAKE + str(MakePattern.parse(text.removeprefix(MAKE)))
    except ValueError as exc:
        raise MalformedError(f"family: {exc}") from exc


def _hex(text: str, size: int, what: str) -> str:
    if len(text) != 2 * size or not set(text) <= set("0123456789abcdef"):
        raise MalformedError(f"a {what} is named by {2 * size} lower-case hex digits")
    return text


def _octets(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(map(bytes.fromhex, texts))
