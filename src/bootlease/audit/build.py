"""Building a proof file: everything about a lease, gathered from where it is kept.

Nothing is trusted here and nothing is decided: what is gathered is what ``verify_proof`` will be
given. The source is a Protocol, so that gathering works over any store, in any process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from bootlease.audit.enrolments import necessary_chain
from bootlease.audit.gather import DecisionInputs
from bootlease.audit.replay import Replayed, replay_decision
from bootlease.audit.tokens import token_forms, tokens_of
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import parse_evidence
from bootlease.ledger import (
    DecisionRecord,
    Note,
    NoteKey,
    Receipt,
    parse_note,
    parse_signed_checkpoint,
    parse_tlog_proof,
)
from bootlease.ledger.prooffile import (
    Place,
    ProofFile,
    ProvenDecision,
    ProvenEnrolment,
    ProvenShard,
)
from bootlease.lineage.continuation import MAX_SEQUENCE
from bootlease.model import Finding, sha256
from bootlease.token import ExecutionClaims, TokenFormat
from bootlease.token.receipts import attach_receipt
from bootlease.token.signatures import TokenSignatures

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it is kept.

    Attributes:
        record: The record.
        claims: Claims digest of each lease granted, in order.
        signatures: How their tokens were signed (``token.signatures``), where that is kept.
    """

    record: bytes
    claims: tuple[bytes, ...]
    signatures: bytes | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the leaves of a record stand.

    Attributes:
        shard: Number of the shard.
        index: Of the first leaf.
    """

    shard: int
    index: int


class ProofSource(DecisionInputs, Protocol):
    """Where the pieces of a proof come from; ``None`` stands for what is not kept."""

    def decision(self, digest: bytes) -> Recorded | None:
        """Return a decision by the digest of its record."""

    def position(self, record: bytes) -> Position | None:
        """Return where the ledger has a record, by its digest."""

    def checkpoint(self, shard: int, *, holding: int | None) -> bytes | None:
        """Return a checkpoint of a shard, with the cosignatures it has.

        The latest, or one that witnesses have signed if it has the leaf ``holding``.
        """

    def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """Return the path of a leaf in the tree of a size."""

    def receipt(self, shard: int, index: int) -> Receipt | None:
        """Return the receipt that was given for a leaf."""

    def opening(self, shard: int) -> bytes | None:
        """Return the first governance record of a shard."""

    def ek_chain(self, enrolment: bytes) -> Sequence[bytes]:
        """Return the EK's certificates of an enrolment, DER, the EK's own first."""

    def enrolled_by(self, enrolment: bytes) -> bytes | None:
        """Return the governance record of an enrolment, by the digest of its record."""


@dataclass(frozen=True, slots=True)
class LeaseToken:
    """A lease's token.

    Attributes:
        token: A CWT, or the ASCII of a JWT.
        receipt: The receipt beside a JWT.
    """

    token: bytes
    receipt: bytes | None = None


def build_proof(
    decision: bytes,
    lease_id: bytes,
    source: ProofSource,
    *,
    token: LeaseToken | None = None,
    witnesses: Sequence[NoteKey] = (),
) -> ProofFile:
    """Gather the proof of one lease.

    Args:
        decision: Digest of the decision that granted it.
        lease_id: 16 bytes.
        source: Where the pieces are kept.
        token: The token itself, if at hand; else it is given back as it was signed, with the
            receipt that it had, where the source has kept its signature.
        witnesses: Keys of witnesses whose cosignatures are to stay in the checkpoints.

    Returns:
        The proof, unverified.

    Raises:
        VerificationError: The lease is not recorded, or a piece is missing or wrong.
        MalformedError: A piece does not parse.
    """
    lineage = _lineage(decision, source)
    replayed, number, claims = _lease_of(lineage[-1], lease_id, source)
    gathering = _Gathering(source, witnesses)
    places = [_position(source, sha256(each.record)) for each in lineage]
    places[-1] = replace(places[-1], index=places[-1].index + number)
    if token is None:
        receipt = source.receipt(places[-1].shard, places[-1].index)
        token = _signed_token(lineage[-1].signatures, replayed, number, receipt)
    lineage[-1] = Recorded(lineage[-1].record, (claims.digest,))
    enrolment, enrolled = gathering.enrolment(DecisionRecord.parse(lineage[-1].record))
    gathering.span(places if enrolled is None else [*places, enrolled])
    return ProofFile(
        token=None if token is None else token.token,
        receipt=None if token is None else _bare_receipt(token),
        claims=claims.encoded(),
        shards=gathering.shards(),
        witnesses=gathering.cosigned_by(),
        decisions=tuple(map(gathering.decision, lineage, places)),
        enrolment=replace(enrolment, place=None if enrolled is None else gathering.place(enrolled)),
        **gathering.pools(),
    )


def _bare_receipt(token: LeaseToken) -> bytes | None:
    """Return the receipt without cosignatures: those stand under the proof's own checkpoints."""
    if token.receipt is None:
        return None
    receipt = parse_tlog_proof(token.receipt)
    note = parse_note(receipt.checkpoint)
    return replace(receipt, checkpoint=Note(note.body, note.signatures[:1]).encode()).encode()


def _lineage(decision: bytes, source: ProofSource) -> list[Recorded]:
    lineage: list[Recorded] = []
    wanted: bytes | None = decision
    while wanted is not None:
        recorded = _there(source.decision(wanted), "decision", wanted)
        record = DecisionRecord.parse(recorded.record)
        lineage.append(recorded)
        if record.sequence > MAX_SEQUENCE:
            raise MalformedError(f"the lineage has more than {MAX_SEQUENCE + 1} decisions")
        wanted = record.previous if record.sequence else None
    return lineage[::-1]


def _lease_of(
    recorded: Recorded, lease_id: bytes, source: ProofSource
) -> tuple[Replayed, int, ExecutionClaims]:
    """Return the decision made again, and which of its leases is wanted."""
    replayed = replay_decision(DecisionRecord.parse(recorded.record), recorded.claims, source)
    for number, claims in enumerate(replayed.claims):
        if claims.lease_id == lease_id and claims.digest in recorded.claims:
            return replayed, number, claims
    if any(finding.id == "replay.input.pruned" for finding in replayed.findings):
        raise VerificationError(
            Finding(
                "proof.evidence.pruned",
                "Retention has deleted the evidence of this lease: that it was granted can be shown"
                " from the ledger, but it cannot be proven to have been right.",
            )
        )
    raise VerificationError(
        *replayed.findings,
        Finding("proof.lease.missing", "The decision did not grant this lease."),
    )


def _signed_token(
    signatures: bytes | None, replayed: Replayed, number: int, receipt: Receipt | None
) -> LeaseToken | None:
    """Return a lease's token as it was given, where its signature is kept."""
    if signatures is None:
        return None
    token = tokens_of(TokenSignatures.parse(signatures), replayed)[number]
    if receipt is None:
        return LeaseToken(token)
    if token_forms(replayed)[number] is TokenFormat.CWT:
        return LeaseToken(attach_receipt(token, receipt.cose()))
    return LeaseToken(token, receipt.tlog_proof())


def _position(source: ProofSource, record: bytes) -> Position:
    return _there(source.position(record), "place in the ledger of record", record)


class _Gathering:
    """Pieces that are shared, each taken once."""

    def __init__(self, source: ProofSource, witnesses: Sequence[NoteKey]) -> None:
        self._source = source
        self._witnesses = witnesses
        self._cosigned: set[str] = set()
        self._first = 0
        self._trees: dict[int, tuple[bytes, int]] = {}
        self._logs: dict[bytes, bytes] = {}
        self._policies: dict[bytes, bytes] = {}
        self._references: dict[bytes, bytes] = {}
        self._roots: dict[bytes, TrustedRoots] = {}

    def span(self, positions: Collection[Position]) -> None:
        """Take the shards from the first to the last that something lies in."""
        numbers = [position.shard for position in positions]
        self._first, last = min(numbers), max(numbers)
        for number in range(self._first, last + 1):
            # All but the last must be final, for the next one names their final checkpoint.
            furthest = max(each.index for each in positions if each.shard == last)
            holding = furthest if number == last else None
            checkpoint = self._source.checkpoint(number, holding=holding)
            checkpoint = self._known_lines(_there(checkpoint, "checkpoint of shard", number))
            size = parse_signed_checkpoint(checkpoint).checkpoint.size
            self._trees[number] = checkpoint, size

    def place(self, position: Position) -> Place:
        """Return the proof of a place."""
        path = self._path(position.shard, position.index)
        return Place(position.shard - self._first, position.index, path)

    def _path(self, shard: int, index: int) -> tuple[bytes, ...]:
        path = self._source.inclusion(shard, index, self._trees[shard][1])
        return tuple(_there(path, "inclusion path in shard", shard))

    def shards(self) -> tuple[ProvenShard, ...]:
        """Return the shards, chained."""
        return tuple(map(self._shard, sorted(self._trees)))

    def _shard(self, number: int) -> ProvenShard:
        checkpoint, _ = self._trees[number]
        if number == self._first:
            return ProvenShard(checkpoint)
        opening = _there(self._source.opening(number), "first record of shard", number)
        return ProvenShard(checkpoint, opening, self._path(number, 0))

    def _known_lines(self, checkpoint: bytes) -> bytes:
        # A line whose key nobody has would be bytes that nobody can check.
        note = parse_note(checkpoint)
        ledger = note.signatures[0]
        kept = [ledger]
        for signature in note.signatures[1:]:
            key = next((each for each in self._witnesses if each.matches(signature)), None)
            if key is not None:
                kept.append(signature)
                self._cosigned.add(str(key))
        return Note(note.body, tuple(kept)).encode()

    def cosigned_by(self) -> tuple[str, ...]:
        """Return the keys of the witnesses seen, once the shards were taken."""
        return tuple(sorted(self._cosigned))

    def decision(self, recorded: Recorded, position: Position) -> ProvenDecision:
        """Return one decision and take what it names."""
        record, source = DecisionRecord.parse(recorded.record), self._source
        document = _there(source.evidence(record.evidence), "evidence", record.evidence)
        for digest in parse_evidence(document).named_logs():
            if digest not in self._logs:
                self._logs[digest] = _there(source.log(digest), "log", digest)
        name = record.policy_digest
        if name not in self._policies:
            policy = _there(source.policy(name, record.policy_epoch), "policy", name)
            self._policies[name] = policy.encode()
        for digest in record.references:
            if digest not in self._references:
                reference = source.reference(digest)
                encoded = None if reference is None else reference.encode()
                self._references[digest] = _there(encoded, "reference set", digest)
        self._take_roots(record.roots)
        return ProvenDecision(recorded.record, document, recorded.claims, self.place(position))

    def _take_roots(self, digest: bytes) -> TrustedRoots:
        if digest not in self._roots:
            self._roots[digest] = _there(self._source.roots(digest), "set of roots", digest)
        return self._roots[digest]

    def enrolment(self, record: DecisionRecord) -> tuple[ProvenEnrolment, Position | None]:
        """Return the enrolment that a decision rests on, and where the ledger has it."""
        source, digest = self._source, record.enrolment
        enrolment: Enrolment = _there(source.enrolment(digest), "enrolment record", digest)
        roots = self._take_roots(record.roots)
        chain = necessary_chain(enrolment, source.ek_chain(digest), roots.members)
        governance = source.enrolled_by(digest)
        position = None if governance is None else source.position(sha256(governance))
        if position is None:
            return ProvenEnrolment(enrolment.encode(), chain), None
        return ProvenEnrolment(enrolment.encode(), chain, governance), position

    def pools(self) -> dict[str, tuple[Any, ...]]:
        """Return the shared pieces, once all decisions were taken."""
        certificates = {
            name: der for roots in self._roots.values() for name, der in roots.members.items()
        }
        names = {tuple(sorted(roots.members)) for roots in self._roots.values()}
        return {
            "policies": _ordered(self._policies),
            "references": _ordered(self._references),
            "roots": tuple(sorted(names)),
            "certificates": _ordered(certificates),
            "logs": _ordered(self._logs),
        }


def _ordered(pieces: dict[bytes, bytes]) -> tuple[bytes, ...]:
    return tuple(pieces[digest] for digest in sorted(pieces))


def _there(value: T | None, what: str, name: bytes | int) -> T:
    if value is None:
        shown = name.hex() if isinstance(name, bytes) else str(name)
        raise VerificationError(
            Finding("proof.piece.missing", f"The {what} {shown} is not kept any more.")
        )
    return value
