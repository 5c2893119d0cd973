"""Inclusion proofs as text: what travels beside a JWT, and what a person can keep in a file.

Specification: C2SP tlog-proof v1. A header line, an ``extra`` line with the leaf, the leaf's index,
the inclusion path from the leaf upwards, an empty line, and the checkpoint with whatever
cosignatures it has.

The ``extra`` line is nobody's word. It holds the leaf for readers without the token; whoever
verifies brings the leaf, and another one in the line is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.checkpoint import VerifiedCheckpoint, verify_checkpoint
from bootlease.ledger.merkle import MAX_PATH, leaf_hash, verify_inclusion
from bootlease.ledger.note import MAX_NOTE, NoteKey
from bootlease.ledger.text import (
    decode_base64,
    decode_hash,
    decode_number,
    encode_base64,
)
from bootlease.model import Finding

MAX_EXTRA: Final = 64 * 1024
MAX_PROOF: Final = MAX_NOTE + 2 * MAX_EXTRA

_HEADER: Final = b"c2sp.org/tlog-proof@v1\n"
_EXTRA: Final = b"extra "
_INDEX: Final = b"index "


@dataclass(frozen=True, slots=True)
class TLogProof:
    """An inclusion proof with its checkpoint, unverified.

    Attributes:
        extra: The leaf, in the proofs of this ledger; ``None`` where the line is absent.
        index: The leaf's index.
        path: Its inclusion path.
        checkpoint: The signed checkpoint.
    """

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the text."""
        lines = [_HEADER]
        if self.extra is not None:
            lines += (_EXTRA, encode_base64(self.extra), b"\n")
        lines.append(b"index %d\n" % self.index)
        for one in self.path:
            lines += (encode_base64(one), b"\n")
        return b"".join((*lines, b"\n", self.checkpoint))


def parse_tlog_proof(data: bytes) -> TLogProof:
    """Parse a proof; the checkpoint within is not looked at.

    Raises:
        MalformedError: It is none.
    """
    if len(data) > MAX_PROOF or not data.startswith(_HEADER):
        raise MalformedError("not a proof of type c2sp.org/tlog-proof@v1")
    head, gap, checkpoint = data[len(_HEADER) :].partition(b"\n\n")
    if not gap:
        raise MalformedError("a tlog-proof has an empty line before its checkpoint")
    # Bounded before the lines become objects; `extra` and `index` are not of the path.
    lines = head.split(b"\n", MAX_PATH + 3)
    extra = None
    if lines[0].startswith(_EXTRA):
        if len(lines[0]) > MAX_EXTRA:
            raise MalformedError(f"the extra line of a tlog-proof has at most {MAX_EXTRA} bytes")
        extra = decode_base64(lines.pop(0)[len(_EXTRA) :])
    if not lines or not lines[0].startswith(_INDEX):
        raise MalformedError("a tlog-proof has an index")
    index = decode_number(lines.pop(0)[len(_INDEX) :])
    if len(lines) > MAX_PATH:
        raise MalformedError(f"an inclusion path has at most {MAX_PATH} hashes")
    return TLogProof(extra, index, tuple(map(decode_hash, lines)), checkpoint)


@dataclass(frozen=True, slots=True)
class VerifiedTLogProof:
    """A leaf that a log's checkpoint covers.

    Attributes:
        leaf: The leaf.
        index: Its index.
        checkpoint: The checkpoint, signed by the log's key.
    """

    leaf: bytes
    index: int
    checkpoint: VerifiedCheckpoint


def verify_tlog_proof(
    data: bytes, leaf: bytes, key: NoteKey, *, origin: str | None = None
) -> VerifiedTLogProof:
    """Prove that a log whose key the caller trusts has a leaf.

    Does not prove that the log shows everybody the same tree, nor that what the leaf names is
    true: see ``checkpoint.verify_checkpoint``, ``cosignature`` and ``record``.

    Args:
        data: Unverified bytes.
        leaf: The leaf as the caller made it (``leaf.encode_leaf``) from what it holds.
        key: The log's Ed25519 key.
        origin: The log; by default any whose origin is, or lies under, the key's name.

    Raises:
        MalformedError: Not a proof.
        VerificationError: It is that of another leaf or log, or does not prove it.
    """
    proof = parse_tlog_proof(data)
    if proof.extra is not None and proof.extra != leaf:
        raise VerificationError(
            Finding(
                "ledger.proof.leaf.mismatch",
                "The proof is that of another ledger entry.",
                expected=leaf.hex(),
                seen=proof.extra.hex()[:512],
            )
        )
    checkpoint = verify_checkpoint(proof.checkpoint, key, origin=origin)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.path, checkpoint.root)
    return VerifiedTLogProof(leaf, proof.index, checkpoint)
