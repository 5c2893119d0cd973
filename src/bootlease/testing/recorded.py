"""A recorded history in memory: decisions, their ledger in shards, and all that they name.

It implements ``bootlease.audit.ProofSource``, so that proofs can be built from it, and lets a test
alter any piece. Decisions, hashes and signatures are real; the time is the scene's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bootlease.appraisal import (
    AttestationResult,
    CodeIdentity,
    boot_log_of,
    build_claims,
    prior_after,
    read_boot_log,
    record_decision,
)
from bootlease.audit.build import LeaseToken, Position, Recorded
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.evidence import Challenge, Evidence, LeaseRequest, TokenEncoding
from bootlease.ledger import (
    Checkpoint,
    Cosigner,
    DecisionRecord,
    Frontier,
    GovernanceRecord,
    LedgerSigner,
    Note,
    Receipt,
    encode_leaf,
    extend,
    inclusion_path,
    leaf_hash,
    node_hash,
    parse_note,
)
from bootlease.ledger.governance import CHECKPOINT, ENROLLED, LEDGER_OPENED, SHARD_OPENED
from bootlease.ledger.merkle import EMPTY_ROOT
from bootlease.lineage import HighWaterMark, head_after
from bootlease.policy import Policy
from bootlease.reference import AnyReference
from bootlease.testing.scene import Scene, default_lease
from bootlease.token import (
    ExecutionClaims,
    KeySet,
    PrivateKeySigner,
    TokenFormat,
    VerificationKey,
    VerifierID,
    sign_cwt,
    sign_jwt,
)
from bootlease.token.receipts import attach_receipt
from bootlease.token.signatures import TokenSignatures

ISSUER: Final = "https://verifier.example"
NAME: Final = "verifier.example/ledger"
CODE: Final = CodeIdentity("0.1.0", hashlib.sha256(b"a program").digest())


@dataclass(slots=True)
class MemoryShard:
    """One tree.

    Attributes:
        name: Its period.
        leaves: Its leaves.
        opening: Its first record.
        cosigners: Sign its latest checkpoint too.
    """

    name: str
    leaves: list[bytes] = field(default_factory=list)
    opening: bytes = b""
    cosigners: list[Cosigner] = field(default_factory=list)

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete node."""
        if level == 0:
            return leaf_hash(self.leaves[index])
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def root(self) -> bytes:
        """Return the root."""
        hashes = [leaf_hash(leaf) for leaf in self.leaves]
        return extend(Frontier(), hashes).root if hashes else EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as it was recorded.

    Attributes:
        record: The record.
        result: The attestation result.
        evidence: The evidence as presented.
        claims: The claims of its leases.
        wishes: What was asked for.
        receipts: Of its leaves, in order.
    """

    record: DecisionRecord
    result: AttestationResult
    evidence: Evidence
    claims: tuple[ExecutionClaims, ...]
    wishes: tuple[LeaseRequest, ...]
    receipts: tuple[Receipt, ...]


class RecordedHistory:
    """Decisions of one node, in a ledger.

    Args:
        scene: The node and the policy.

    Attributes:
        decided: Every decision, in order.
        shards: The ledger's trees.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.ledger = LedgerSigner(NAME, PrivateKeySigner(ed25519.Ed25519PrivateKey.generate()))
        self.signer = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1()))
        self.decided: list[Decided] = []
        self.shards: list[MemoryShard] = []
        self.governance: dict[bytes, GovernanceRecord] = {}
        self.documents: dict[bytes, bytes] = {}
        self.logs: dict[bytes, bytes] = {}
        self.policies: dict[tuple[bytes, int], Policy] = {}
        self.root_sets: dict[bytes, TrustedRoots] = {}
        self.reference_sets: dict[bytes, AnyReference] = {}
        self.records: dict[bytes, Enrolment] = {}
        self.signatures: dict[bytes, bytes] = {}
        self.pruned_before = 0
        self._positions: dict[bytes, Position] = {}
        self._previous: bytes | None = None
        self._last: bytes | None = None
        self.open_shard("2026-11")
        self.enrol()

    @property
    def keys(self) -> KeySet:
        """Check the tokens."""
        return KeySet((VerificationKey(self.signer.public),))

    # -- writing

    def open_shard(self, name: str) -> None:
        """Begin a shard, chained to the one before."""
        final = self.checkpoint(len(self.shards)) if self.shards else None
        self.shards.append(MemoryShard(name))
        kind = LEDGER_OPENED if final is None else SHARD_OPENED
        opened = self.govern(kind, {} if final is None else {CHECKPOINT: final})
        self.shards[-1].opening = opened.encoded

    def govern(self, kind: str, details: dict[str, str | bytes]) -> GovernanceRecord:
        """Record what an operator or a node did."""
        record = GovernanceRecord(self.scene.now, "cli:init", kind, details, self._last)
        self._last = record.digest
        self.governance[record.digest] = record
        self.append(record.digest, [None])
        return record

    def enrol(self) -> None:
        """Record the node's enrolment."""
        enrolment = self.scene.enrolment
        self.records[enrolment.digest] = enrolment
        self.govern(ENROLLED, {"node": enrolment.node, "enrolment": enrolment.digest})

    def append(self, record: bytes, claims: Sequence[bytes | None]) -> tuple[Receipt, ...]:
        """Append the leaves of a record and return their receipts."""
        shard = self.shards[-1]
        first = len(shard.leaves)
        shard.leaves += [encode_leaf(record, digest) for digest in claims]
        self._positions[record] = Position(len(self.shards), first)
        size = len(shard.leaves)
        sealed = self.ledger.seal(f"{NAME}/{shard.name}", size, shard.root())
        return tuple(
            Receipt(shard.leaves[index], index, inclusion_path(index, size, shard.node), sealed)
            for index in range(first, size)
        )

    def decide(
        self,
        leases: Sequence[LeaseRequest] = (),
        *,
        full: bool | None = None,
        first: int | None = None,
    ) -> Decided:
        """Let the node renew, or begin, and record what comes of it.

        Args:
            leases: What it asks for.
            full: Send the log; by default, only to begin a lineage.
            first: First entry of the IMA list to send, other than the one asked for.
        """
        scene = self.scene
        leases = tuple(leases) or (default_lease(),)
        challenge = scene.challenge()
        prior = scene.prior
        evidence = scene.attest(
            challenge,
            leases,
            previous=None if prior is None else prior.head,
            full=prior is None if full is None else full,
            first=first,
        )
        verified = scene.verify(evidence, challenge)
        banks = scene.policy.policy.quote.banks
        log = boot_log_of(verified, banks) or read_boot_log(scene.node.event_log, banks)
        result = scene.appraise(verified, challenge, log)
        return self._record(evidence, challenge, result, leases)

    def _record(
        self,
        evidence: Evidence,
        challenge: Challenge,
        result: AttestationResult,
        wishes: tuple[LeaseRequest, ...],
    ) -> Decided:
        scene = self.scene
        lease_ids = [
            hashlib.sha256(challenge.nonce + bytes([number])).digest()[:16]
            for number in range(len(result.leases))
        ]
        record = record_decision(
            result,
            challenge=challenge,
            prior=scene.prior,
            high_water=scene.high_water,
            enrolment=scene.enrolment,
            roots=scene.roots,
            lease_ids=lease_ids,
            issuer=ISSUER,
            code=CODE,
            previous=self._previous,
            now=scene.now,
        )
        claims = tuple(
            build_claims(
                result,
                lease,
                lease_id=lease_id,
                decision=record.digest,
                issuer=ISSUER,
                verifier=VerifierID("bootlease", CODE.version),
                now=scene.now,
            )
            for lease_id, lease in zip(lease_ids, result.leases, strict=True)
        )
        self._keep(evidence)
        digests = tuple(each.digest for each in claims)
        receipts = self.append(record.digest, digests or [None])
        scene.high_water = max(scene.high_water, HighWaterMark.of(result.clock_info))
        scene.prior = (
            prior_after(result, head_after(digests), evidence.binding.logs) if digests else None
        )
        self._previous = record.digest
        decided = Decided(record, result, evidence, claims, wishes, receipts)
        self.decided.append(decided)
        scene.now += 40
        return decided

    def _keep(self, evidence: Evidence) -> None:
        scene = self.scene
        self.documents[evidence.digest] = evidence.without_logs().encode()
        self.logs |= evidence.carried_logs()
        self.policies[scene.policy.policy.digest, scene.policy.epoch] = scene.policy.policy
        self.root_sets[scene.roots.digest] = scene.roots
        self.records[scene.enrolment.digest] = scene.enrolment
        self.reference_sets |= {each.digest: each for each in scene.references}
        self.reference_sets |= {each.digest: each for each in scene.ima_references}

    def token(self, decided: Decided, lease: int = 0, *, receipt: bool = True) -> LeaseToken:
        """Sign the token of a lease."""
        claims, proof = decided.claims[lease], decided.receipts[lease]
        encoding = decided.wishes[lease].encoding
        if encoding is TokenEncoding.CWT:
            token = sign_cwt(claims, self.signer)
            return LeaseToken(attach_receipt(token, proof.cose()) if receipt else token)
        text = sign_jwt(claims, self.signer, TokenFormat(encoding.value)).encode()
        return LeaseToken(text, proof.tlog_proof() if receipt else None)

    def keep_signatures(self, decided: Decided) -> tuple[LeaseToken, ...]:
        """Sign the tokens of a decision, keep the signatures, and return the tokens."""
        tokens = tuple(self.token(decided, number) for number in range(len(decided.claims)))
        kept = TokenSignatures.under([each.token for each in tokens], self.signer)
        self.signatures[decided.record.digest] = kept.encode()
        return tokens

    def cosign(self, cosigner: Cosigner) -> None:
        """Let a witness cosign the latest checkpoint of every shard."""
        for shard in self.shards:
            shard.cosigners.append(cosigner)

    # -- ProofSource

    def decision(self, digest: bytes) -> Recorded | None:
        """Return a decision."""
        for each in self.decided:
            if each.record.digest == digest:
                digests = tuple(one.digest for one in each.claims)
                return Recorded(each.record.encoded, digests, self.signatures.get(digest))
        return None

    def position(self, record: bytes) -> Position | None:
        """Return where a record's leaves stand."""
        return self._positions.get(record)

    def checkpoint(self, shard: int, *, holding: int | None = None) -> bytes:
        """Return the latest checkpoint of a shard."""
        del holding
        tree = self.shards[shard - 1]
        origin = f"{NAME}/{tree.name}"
        sealed = self.ledger.seal(origin, len(tree.leaves), tree.root())
        body = Checkpoint(origin, len(tree.leaves), tree.root()).encode()
        lines = [each.cosign(body, self.scene.now) for each in tree.cosigners]
        return Note(body, (*parse_note(sealed.checkpoint).signatures, *lines)).encode()

    def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """Return the path of a leaf."""
        return inclusion_path(index, size, self.shards[shard - 1].node)

    def receipt(self, shard: int, index: int) -> Receipt | None:
        """Return the receipt of a lease's leaf."""
        for each in self.decided:
            place = self._positions[each.record.digest]
            if place.shard == shard and 0 <= index - place.index < len(each.receipts):
                return each.receipts[index - place.index]
        return None

    def opening(self, shard: int) -> bytes | None:
        """Return the first record of a shard."""
        return self.shards[shard - 1].opening

    def ek_chain(self, enrolment: bytes) -> Sequence[bytes]:
        """Return the EK's certificates."""
        del enrolment
        return self.scene.node.ek_chain()

    def enrolled_by(self, enrolment: bytes) -> bytes | None:
        """Return the governance record of an enrolment."""
        for record in self.governance.values():
            if enrolment in record.details.values():
                return record.encoded
        return None

    def evidence(self, digest: bytes) -> bytes | None:
        """Return an evidence document."""
        return self.documents.get(digest)

    def log(self, digest: bytes) -> bytes | None:
        """Return a log."""
        return self.logs.get(digest)

    def enrolment(self, digest: bytes) -> Enrolment | None:
        """Return an enrolment record."""
        return self.records.get(digest)

    def roots(self, digest: bytes) -> TrustedRoots | None:
        """Return a set of roots."""
        return self.root_sets.get(digest)

    def reference(self, digest: bytes) -> AnyReference | None:
        """Return a reference set."""
        return self.reference_sets.get(digest)

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        """Return a policy."""
        return self.policies.get((digest, epoch))

    def pruned(self, time: int) -> bool:
        """Tell whether evidence of then may be gone."""
        return time < self.pruned_before
