"""The proof file: everything about one lease in one piece, for whoever trusts nobody's database.

Layout: docs/proof.md. Deterministic CBOR (RFC 8949 §4.2.1), so one content has one encoding. What
several decisions share (logs, policies, certificates) stands once, in the order of its SHA-256;
``audit`` demands that each is named by something that the ledger's key vouches for, and that
nothing else rides along.

Everything here is unverified: ``bootlease.audit.verify_proof`` says what it proves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ledger.merkle import HASH_SIZE, MAX_PATH, MAX_SIZE
from bootlease.model import sha256

PROOF_TYPE: Final = "bootlease/proof/1"
MAX_PROOF: Final = 64 * 1024 * 1024
"""A lineage of some twenty thousand renewals; a proof of a first lease has 13 to 16 kB."""
MAX_ITEMS: Final = 1_000_000
"""Of CBOR: a decision has 10, and one for each hash of its path. In memory 100 MB at most."""

MAX_VKEY: Final = 4096
"""Characters: a signed-note key of ML-DSA-44 has 1,800."""

T = TypeVar("T")

_MEMBERS: Final = frozenset(
    {
        *("type", "token", "receipt", "claims", "shards", "witnesses", "decisions", "enrolment"),
        *("policies", "references", "roots", "certificates", "logs"),
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf stands in the ledger, and the proof of it.

    Attributes:
        shard: Position in the proof's list of shards, from 0.
        index: Of the leaf, from 0.
        path: Inclusion path in the tree of the shard's checkpoint (RFC 9162 §2.1.3).
    """

    shard: int
    index: int
    path: tuple[bytes, ...]

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.shard, self.index, list(self.path)]


@dataclass(frozen=True, slots=True)
class ProvenShard:
    """One tree of the ledger.

    Attributes:
        checkpoint: Signed note of the tree that all paths of this shard lead to.
        opening: The shard's first governance record, which holds the final checkpoint of the shard
            before; ``None`` for the first shard of the proof.
        path: Inclusion path of that record, as leaf 0.
    """

    checkpoint: bytes
    opening: bytes | None = None
    path: tuple[bytes, ...] = ()

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.checkpoint, None if self.opening is None else [self.opening, list(self.path)]]


@dataclass(frozen=True, slots=True)
class ProvenDecision:
    """One decision of the lineage.

    Attributes:
        record: The decision record.
        evidence: The evidence document, its logs left out.
        claims: Claims digest of each lease granted, in order; of the last decision, that of the
            lease alone.
        place: Of the leaf with the first of them.
    """

    record: bytes
    evidence: bytes
    claims: tuple[bytes, ...]
    place: Place

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.record, self.evidence, list(self.claims), self.place.wire()]


@dataclass(frozen=True, slots=True)
class ProvenEnrolment:
    """An enrolment record.

    Attributes:
        record: The record.
        chain: The EK's certificates that lead to a root, the EK's own first; DER.
        governance: The governance record of the enrolment, where the ledger has one.
        place: Of that record's leaf.
    """

    record: bytes
    chain: tuple[bytes, ...]
    governance: bytes | None = None
    place: Place | None = None

    def wire(self) -> list[Any]:
        """Return the wire form."""
        governance = None
        if self.governance is not None and self.place is not None:
            governance = [self.governance, self.place.wire()]
        return [self.record, list(self.chain), governance]


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A proof as parsed: unverified.

    Attributes:
        token: The lease's token, a CWT or the ASCII of a JWT; ``None`` where nobody kept it.
        receipt: The receipt beside a JWT (C2SP tlog-proof), if there is one.
        claims: The lease's claims as a deterministic CWT claims set.
        shards: Consecutive trees of the ledger, the oldest first.
        witnesses: Verifier keys of every witness that cosigned one of their checkpoints, sorted.
        decisions: The lineage: from the decision over full evidence to the lease's own.
        enrolment: The enrolment record that they all name.
        policies: Policies that they name, canonical.
        references: Reference sets that they name, canonical.
        roots: Sets of roots that they name, as sorted fingerprints.
        certificates: The certificates that these fingerprints name, DER.
        logs: Logs that the evidence names.
    """

    token: bytes | None
    receipt: bytes | None
    claims: bytes
    shards: tuple[ProvenShard, ...]
    witnesses: tuple[str, ...]
    decisions: tuple[ProvenDecision, ...]
    enrolment: ProvenEnrolment
    policies: tuple[bytes, ...]
    references: tuple[bytes, ...]
    roots: tuple[tuple[bytes, ...], ...]
    certificates: tuple[bytes, ...]
    logs: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode(
            {
                "type": PROOF_TYPE,
                "token": self.token,
                "receipt": self.receipt,
                "claims": self.claims,
                "shards": [shard.wire() for shard in self.shards],
                "witnesses": list(self.witnesses),
                "decisions": [decision.wire() for decision in self.decisions],
                "enrolment": self.enrolment.wire(),
                "policies": list(self.policies),
                "references": list(self.references),
                "roots": [list(names) for names in self.roots],
                "certificates": list(self.certificates),
                "logs": list(self.logs),
            }
        )


def parse_proof(data: bytes) -> ProofFile:
    """Parse a proof file into unverified values.

    Raises:
        MalformedError: The bytes are no proof file of this version.
    """
    if len(data) > MAX_PROOF:
        _refuse(f"has more than {MAX_PROOF} bytes")
    cbor.demand_few(data, at_most=MAX_ITEMS)
    members = cbor.decode(data, max_bytes=MAX_PROOF)
    if type(members) is not dict or members.get("type") != PROOF_TYPE:
        raise MalformedError("not a bootlease proof file of a type that this version knows")
    if members.keys() != _MEMBERS:
        raise MalformedError("the proof file has other members than its type says")
    proof = ProofFile(
        token=_optional(members, "token"),
        receipt=_optional(members, "receipt"),
        claims=_bytes(members["claims"], "claims"),
        shards=_items(members, "shards", _shard),
        witnesses=_items(members, "witnesses", _vkey),
        decisions=_items(members, "decisions", _decision),
        enrolment=_enrolment(members["enrolment"], "enrolment"),
        policies=_pool(members, "policies"),
        references=_pool(members, "references"),
        roots=_items(members, "roots", _fingerprints),
        certificates=_pool(members, "certificates"),
        logs=_pool(members, "logs"),
    )
    if not proof.shards or not proof.decisions:
        _refuse("has no checkpoint or no decision")
    _demand_order(proof.witnesses, "witnesses", lambda key: key)
    _demand_order(proof.roots, "roots", lambda names: names)
    return proof


def _refuse(problem: str) -> NoReturn:
    raise MalformedError(f"the proof file {problem}")


def _demand_order(items: Sequence[T], name: str, key: Callable[[T], Any]) -> None:
    # One order and nothing twice: two files of one content must not differ.
    places = [key(item) for item in items]
    if any(before >= after for before, after in itertools.pairwise(places)):
        _refuse(f"has {name} out of order, or one twice")


def _items(
    members: Mapping[str, Any], name: str, parse: Callable[[object, str], T]
) -> tuple[T, ...]:
    return tuple([parse(each, name) for each in _array(members[name], name)])


def _pool(members: Mapping[str, Any], name: str) -> tuple[bytes, ...]:
    items = _items(members, name, _bytes)
    _demand_order(items, name, sha256)
    return items


def _array(value: object, name: str, size: int | None = None) -> list[Any]:
    if type(value) is not list or (size is not None and len(value) != size):
        _refuse(f"has no array of that length in {name}")
    return value


def _bytes(value: object, name: str) -> bytes:
    if type(value) is not bytes:
        _refuse(f"lacks bytes in {name}")
    return value


def _optional(members: Mapping[str, Any], name: str) -> bytes | None:
    return None if members[name] is None else _bytes(members[name], name)


def _digest(value: object, name: str) -> bytes:
    digest = _bytes(value, name)
    if len(digest) != HASH_SIZE:
        _refuse(f"has a digest of another length than {HASH_SIZE} bytes in {name}")
    return digest


def _digests(value: object, name: str) -> tuple[bytes, ...]:
    return tuple([_digest(each, name) for each in _array(value, name)])


def _path(value: object, name: str) -> tuple[bytes, ...]:
    path = _digests(value, name)
    if len(path) > MAX_PATH:
        _refuse(f"has an inclusion path of more than {MAX_PATH} hashes in {name}")
    return path


def _number(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        _refuse(f"lacks a number in {name}")
    return value


def _place(value: object, name: str) -> Place:
    shard, index, path = _array(value, name, 3)
    return Place(_number(shard, name), _number(index, name), _path(path, name))


def _shard(value: object, name: str) -> ProvenShard:
    checkpoint, opened = _array(value, name, 2)
    if opened is None:
        return ProvenShard(_bytes(checkpoint, name))
    opening, path = _array(opened, name, 2)
    return ProvenShard(_bytes(checkpoint, name), _bytes(opening, name), _path(path, name))


def _decision(value: object, name: str) -> ProvenDecision:
    record, evidence, claims, place = _array(value, name, 4)
    digests = _digests(claims, name)
    if not digests:
        _refuse("has a decision that granted nothing")
    return ProvenDecision(
        _bytes(record, name), _bytes(evidence, name), digests, _place(place, name)
    )


def _enrolment(value: object, name: str) -> ProvenEnrolment:
    record, chain, governance = _array(value, name, 3)
    certificates = tuple([_bytes(each, name) for each in _array(chain, name)])
    if governance is None:
        return ProvenEnrolment(_bytes(record, name), certificates)
    written, place = _array(governance, name, 2)
    return ProvenEnrolment(
        _bytes(record, name), certificates, _bytes(written, name), _place(place, name)
    )


def _fingerprints(value: object, name: str) -> tuple[bytes, ...]:
    names = _digests(value, name)
    _demand_order(names, name, lambda each: each)
    return names


def _vkey(value: object, name: str) -> str:
    if type(value) is not str or len(value) > MAX_VKEY:
        _refuse(f"has no verifier key in {name}")
    return value
