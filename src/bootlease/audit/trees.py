"""The ledger's trees in a proof: checkpoints, witnesses, the chain of shards, inclusion.

Specifications: C2SP tlog-checkpoint and tlog-cosignature; RFC 9162 §2.1.3 (inclusion proofs).

Every signature line must be accounted for: by the ledger's key, or by the key of a witness that
the file itself lists. A listed key proves nothing of who holds it, but it makes a changed byte in
the line show; a witness counts only where the verifier of the proof trusts its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import (
    GovernanceRecord,
    NoteKey,
    SignatureType,
    VerifiedCheckpoint,
    encode_leaf,
    leaf_hash,
    parse_signed_checkpoint,
    verify_checkpoint,
    verify_cosignature,
    verify_inclusion,
)
from bootlease.ledger.governance import CHECKPOINT, SHARD_OPENED
from bootlease.ledger.prooffile import Place, ProofFile, ProvenShard
from bootlease.model import Finding


@dataclass(frozen=True, slots=True)
class ProvenTree:
    """A tree of the ledger that its key signed.

    Attributes:
        checkpoint: The verified checkpoint.
        witnesses: Keys whose cosignatures under it verify; whom to believe is the caller's to say.
    """

    checkpoint: VerifiedCheckpoint
    witnesses: tuple[NoteKey, ...]


@dataclass(frozen=True, slots=True)
class ProvenTrees:
    """Consecutive shards of one ledger. Made by ``verify_trees``.

    Attributes:
        trees: The oldest first.
    """

    trees: tuple[ProvenTree, ...]

    def verify_leaf(self, leaf: bytes, place: Place) -> None:
        """Prove that the ledger has ``leaf`` at ``place``.

        Raises:
            VerificationError: It does not.
        """
        if place.shard >= len(self.trees):
            raise VerificationError(
                Finding("proof.shard.missing", "A leaf lies in a shard that the proof lacks.")
            )
        tree = self.trees[place.shard].checkpoint
        verify_inclusion(leaf_hash(leaf), place.index, tree.size, place.path, tree.root)


def verify_trees(proof: ProofFile, key: NoteKey) -> ProvenTrees:
    """Prove that one key signed every tree of the proof, and that they are consecutive shards.

    Args:
        proof: Unverified.
        key: The ledger's key, from outside the proof.

    Raises:
        MalformedError: A checkpoint, key or record does not parse.
        VerificationError: With every check that failed.
    """
    witnesses = tuple(map(_witness, proof.witnesses))
    trees = tuple([_verify_tree(shard, key, witnesses) for shard in proof.shards])
    findings = [*_demand_range(proof), *_demand_witnesses(trees, witnesses)]
    for number, shard in enumerate(proof.shards):
        findings += _opening_findings(shard, trees, number)
    if findings:
        raise VerificationError(*findings)
    return ProvenTrees(trees)


def _witness(vkey: str) -> NoteKey:
    key = NoteKey.parse(vkey)
    if key.kind is SignatureType.ED25519:
        raise MalformedError("the proof lists a witness's key that does not cosign")
    return key


def _verify_tree(shard: ProvenShard, key: NoteKey, witnesses: Sequence[NoteKey]) -> ProvenTree:
    checkpoint = verify_checkpoint(shard.checkpoint, key)
    if not checkpoint.origin.startswith(f"{key.name}/"):
        raise VerificationError(
            Finding(
                "proof.origin.mismatch",
                "A checkpoint is not that of a shard of the ledger.",
                expected=f"{key.name}/…",
                seen=checkpoint.origin,
            )
        )
    note = checkpoint.note
    cosigned = []
    for signature in note.signatures:
        if key.matches(signature):
            continue
        witness = next((each for each in witnesses if each.matches(signature)), None)
        if witness is None:
            raise VerificationError(
                Finding(
                    "proof.witness.unknown",
                    "A checkpoint has a signature whose key the proof does not list.",
                    seen=f"{signature.name}+{signature.key_id.hex()}",
                )
            )
        verify_cosignature(note.body, signature, witness)
        cosigned.append(witness)
    return ProvenTree(checkpoint, tuple(cosigned))


def _demand_witnesses(
    trees: Sequence[ProvenTree], witnesses: Sequence[NoteKey]
) -> Iterator[Finding]:
    seen = {witness for tree in trees for witness in tree.witnesses}
    for witness in witnesses:
        if witness not in seen:
            yield Finding(
                "proof.witness.surplus",
                "The proof lists the key of a witness that cosigned nothing in it.",
                seen=witness.name,
            )


def _demand_range(proof: ProofFile) -> Iterator[Finding]:
    places = [each.place for each in proof.decisions]
    if proof.enrolment.place is not None:
        places.append(proof.enrolment.place)
    used = {place.shard for place in places}
    if min(used) != 0 or max(used) != len(proof.shards) - 1:
        yield Finding("proof.shard.surplus", "The proof has shards that nothing in it lies in.")


def _opening_findings(
    shard: ProvenShard, trees: Sequence[ProvenTree], number: int
) -> Iterator[Finding]:
    if (shard.opening is None) != (number == 0):
        yield Finding(
            "proof.shard.unchained",
            "A shard is not tied to the one before it by its first record.",
        )
        return
    if shard.opening is None:
        return
    tree, before = trees[number].checkpoint, trees[number - 1].checkpoint
    record = GovernanceRecord.parse(shard.opening)
    final = record.details.get(CHECKPOINT)
    if record.kind != SHARD_OPENED or type(final) is not bytes:
        yield Finding(
            "proof.shard.unchained", "The first record of a shard names no shard before it."
        )
        return
    if parse_signed_checkpoint(final).checkpoint != before.checkpoint:
        yield Finding(
            "proof.shard.fork",
            "A shard continues another tree than the one that the proof has before it.",
            seen=before.origin,
        )
    leaf = encode_leaf(record.digest)
    verify_inclusion(leaf_hash(leaf), 0, tree.size, shard.path, tree.root)
