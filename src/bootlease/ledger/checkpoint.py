"""Checkpoints: a log's size and root, as a signed note.

Specification: C2SP tlog-checkpoint v1. The text is the log's origin, its size in decimal and its
root in base64, one line each; extension lines may follow.

The ledger's shards are logs of their own, all signed by one key: the key's name is what their
origins begin with (``verifier.example/ledger`` and ``verifier.example/ledger/2026-11``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE
from bootlease.ledger.note import (
    MAX_NAME,
    Note,
    NoteKey,
    parse_note,
    verify_signature,
)
from bootlease.ledger.text import decode_hash, decode_number, encode_base64
from bootlease.model import Finding

MAX_ORIGIN: Final = MAX_NAME
"""Bytes: what the length byte of an ML-DSA-44 cosignature can say."""
MAX_EXTENSIONS: Final = 16

_LINES: Final = 3


def ledger_name(issuer: str) -> str:
    """Return how the ledger of an issuer is named: in its key, and before its shards' names.

    Args:
        issuer: The verifier's URL.
    """
    return issuer.partition("://")[2] + "/ledger"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log, unverified.

    Attributes:
        origin: Which log.
        size: Its leaves.
        root: Root of its tree.
        extensions: Further lines of the note's text.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.origin.encode()) > MAX_ORIGIN or len(self.extensions) > MAX_EXTENSIONS:
            raise ValueError("an origin or a list of extensions is too long")
        if not all(line and line.isprintable() for line in (self.origin, *self.extensions)):
            raise ValueError("the lines of a checkpoint are not empty, and printable")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_SIZE:
            raise ValueError("a checkpoint has a size and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("a log without leaves has the root of the tree without leaves")

    def encode(self) -> bytes:
        """Return the text of the note."""
        first = (self.origin.encode(), b"%d" % self.size, encode_base64(self.root))
        return b"\n".join((*first, *(line.encode() for line in self.extensions), b""))


def parse_checkpoint(body: bytes) -> Checkpoint:
    """Parse the text of a checkpoint, without its signatures.

    Raises:
        MalformedError: It is none.
    """
    lines = body.split(b"\n")
    if len(lines) <= _LINES or lines.pop():
        raise MalformedError("a checkpoint is origin, size and root, each with its newline")
    origin, size, root, *extensions = lines
    try:
        return Checkpoint(
            origin.decode(),
            decode_number(size),
            decode_hash(root),
            tuple([line.decode() for line in extensions]),
        )
    except ValueError as exc:
        raise MalformedError(f"checkpoint: {exc}") from exc


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signatures, unverified.

    Attributes:
        checkpoint: What the note says.
        note: The note.
    """

    checkpoint: Checkpoint
    note: Note


def parse_signed_checkpoint(data: bytes) -> SignedCheckpoint:
    """Parse a checkpoint with its signatures.

    Raises:
        MalformedError: It is none.
    """
    note = parse_note(data)
    return SignedCheckpoint(parse_checkpoint(note.body), note)


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that its log signed.

    Attributes:
        checkpoint: What the log said.
        note: The note, with the signatures of others, which nobody checked.
        key: The log's key.
    """

    checkpoint: Checkpoint
    note: Note
    key: NoteKey

    @property
    def origin(self) -> str:
        """Which log."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """Its leaves."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """Root of its tree."""
        return self.checkpoint.root


def verify_checkpoint(
    data: bytes, key: NoteKey, *, origin: str | None = None
) -> VerifiedCheckpoint:
    """Prove that a log signed a checkpoint.

    Does not prove that the log shows everybody the same tree: for that compare checkpoints with
    ``merkle.verify_consistency``, or demand cosignatures (``cosignature``).

    Args:
        data: Unverified bytes.
        key: The log's Ed25519 key.
        origin: The log; by default any whose origin is, or lies under, the key's name.

    Raises:
        MalformedError: Not a checkpoint.
        VerificationError: Another log's, or not signed by the key.
    """
    signed = parse_signed_checkpoint(data)
    verify_origin(signed.checkpoint.origin, key, origin)
    signature = next((one for one in signed.note.signatures if key.matches(one)), None)
    if signature is None:
        raise VerificationError(
            Finding(
                "ledger.checkpoint.key.unknown",
                "The checkpoint is not signed by the log's key.",
                expected=f"{key.name}+{key.key_id.hex()}",
                seen=", ".join(f"{one.name}+{one.key_id.hex()}" for one in signed.note.signatures),
            )
        )
    verify_signature(signed.note.body, signature, key)
    return VerifiedCheckpoint(signed.checkpoint, signed.note, key)


def verify_origin(seen: str, key: NoteKey, expected: str | None = None) -> None:
    """Prove that an origin is the one expected, or one that a key may speak for.

    Raises:
        VerificationError: It is another.
    """
    if expected is None:
        # One key signs for all shards; for a log elsewhere it has nothing to say.
        fits = seen == key.name or seen.startswith(f"{key.name}/")
    else:
        fits = seen == expected
    if not fits:
        raise VerificationError(
            Finding(
                "ledger.checkpoint.origin.mismatch",
                "The checkpoint is that of another log.",
                expected=expected or f"{key.name}/…",
                seen=seen,
            )
        )
