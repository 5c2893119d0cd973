"""Cosignatures: somebody else saw this checkpoint, and found it consistent with those before.

Specification: C2SP tlog-cosignature v1.1: timestamped Ed25519 (signature type 0x04, message
``cosignature/v1``) and ML-DSA-44 (type 0x06, message ``subtree/v1``; FIPS 204, no context). The
latter also serves a log that signs its own checkpoints against the day when Ed25519 falls.

An ML-DSA-44 cosignature covers origin, size and root but no extension lines, so a checkpoint that
has any is refused with it: unsigned text under a signature invites somebody to believe it.

Not handled: cosignatures of subtrees that do not begin at the first leaf.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from bootlease.errors import VerificationError
from bootlease.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint
from bootlease.ledger.note import (
    NoteKey,
    NoteSignature,
    SignatureType,
    ed25519_bytes,
    ed25519_check,
)
from bootlease.model import Finding
from bootlease.token.keys import Signer

MAX_TIMESTAMP: Final = (1 << 63) - 1

_TIMESTAMP: Final = Struct(">Q")
_LABEL: Final = b"subtree/v1\n\x00"
_RANGE: Final = Struct(">QQ")
_SIGNATURE_SIZES: Final = {
    SignatureType.ED25519_COSIGNATURE: 64,
    SignatureType.ML_DSA_44_COSIGNATURE: 2420,
}


class Cosigner(Protocol):
    """Whatever cosigns checkpoints for a key."""

    @property
    def key(self) -> NoteKey:
        """The key that verifies what this signs."""

    def cosign(self, body: bytes, timestamp: int) -> NoteSignature:
        """Sign the text of a checkpoint, as the largest seen at a time in seconds."""


class Ed25519Cosigner:
    """Cosigns with an Ed25519 key; the key must sign nothing else, under no other name."""

    __slots__ = ("_signer", "key")

    def __init__(self, name: str, signer: Signer) -> None:
        """Cosign under ``name`` with ``signer``.

        Raises:
            ValueError: The key is not Ed25519, or the name cannot stand in a note.
        """
        kind = SignatureType.ED25519_COSIGNATURE
        self.key = NoteKey(name, kind, ed25519_bytes(signer.public))
        self._signer = signer

    def cosign(self, body: bytes, timestamp: int) -> NoteSignature:
        """Sign the text of a checkpoint; see ``Cosigner``.

        Raises:
            MalformedError: The text is no checkpoint's.
            ValueError: The time is none.
        """
        parse_checkpoint(body)
        head = _encode_timestamp(timestamp)
        signature = self._signer.sign(_ed25519_message(body, timestamp))
        return NoteSignature(self.key.name, self.key.key_id, head + signature)


class MLDSA44Cosigner:
    """Cosigns with an ML-DSA-44 key."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, private: MLDSA44PrivateKey) -> None:
        """Cosign under ``name`` with ``private``.

        Raises:
            ValueError: The name cannot stand in a note.
        """
        public = private.public_key().public_bytes_raw()
        self.key = NoteKey(name, SignatureType.ML_DSA_44_COSIGNATURE, public)
        self._private = private

    def cosign(self, body: bytes, timestamp: int) -> NoteSignature:
        """Sign the text of a checkpoint; see ``Cosigner``.

        Raises:
            MalformedError: The text is no checkpoint's.
            ValueError: The time is none, or the checkpoint has extension lines.
        """
        checkpoint = parse_checkpoint(body)
        if checkpoint.extensions:
            raise ValueError("ML-DSA-44 does not sign extension lines")
        head = _encode_timestamp(timestamp)
        signature = self._private.sign(_subtree_message(self.key.name, checkpoint, timestamp))
        return NoteSignature(self.key.name, self.key.key_id, head + signature)

    def sign(self, body: bytes) -> NoteSignature:
        """Sign a log's own checkpoint: without a time, which only a witness has to state."""
        return self.cosign(body, 0)


@dataclass(frozen=True, slots=True)
class VerifiedCosignature:
    """A cosignature that verified.

    Attributes:
        key: Whose it is.
        timestamp: When, in seconds since the epoch; 0 says nothing (ML-DSA-44 only).
    """

    key: NoteKey
    timestamp: int


def verify_cosignature(body: bytes, signature: NoteSignature, key: NoteKey) -> VerifiedCosignature:
    """Prove that ``key`` cosigned a checkpoint.

    Does not judge the time: a caller who wants fresh checkpoints compares it with its clock.

    Args:
        body: Text of the checkpoint.
        signature: One line, unverified.
        key: A witness's key, of a cosigning type.

    Raises:
        MalformedError: The text is no checkpoint's.
        VerificationError: Another key's, or it does not verify.
        ValueError: The key is not one that cosigns.
    """
    size = _SIGNATURE_SIZES.get(key.kind)
    if size is None:
        raise ValueError("the key is not one that cosigns")
    checkpoint = parse_checkpoint(body)
    material = signature.signature
    if not key.matches(signature) or len(material) != _TIMESTAMP.size + size:
        raise _invalid(key)
    timestamp = _TIMESTAMP.unpack_from(material)[0]
    if timestamp > MAX_TIMESTAMP or not _check(
        key, material[_TIMESTAMP.size :], body, checkpoint, timestamp
    ):
        raise _invalid(key)
    return VerifiedCosignature(key, timestamp)


def _check(
    key: NoteKey, signature: bytes, body: bytes, checkpoint: Checkpoint, timestamp: int
) -> bool:
    if key.kind is SignatureType.ED25519_COSIGNATURE:
        return ed25519_check(key.public)(signature, _ed25519_message(body, timestamp))
    if checkpoint.extensions:
        return False
    try:
        _mldsa44_key(key.public).verify(
            signature, _subtree_message(key.name, checkpoint, timestamp)
        )
    except InvalidSignature:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _mldsa44_key(public: bytes) -> MLDSA44PublicKey:
    return MLDSA44PublicKey.from_public_bytes(public)


def witness_names(keys: Iterable[NoteKey]) -> tuple[str, ...]:
    """Return whose keys these are, each name once: the heads that a quorum counts.

    A witness with two keys is still one that may be deceived.
    """
    return tuple(dict.fromkeys(key.name for key in keys))


def verify_cosignatures(
    checkpoint: VerifiedCheckpoint, keys: Sequence[NoteKey], *, at_least: int
) -> tuple[VerifiedCosignature, ...]:
    """Prove that enough witnesses cosigned a checkpoint.

    A witness is counted once, by its name, whatever number of keys it has.

    Args:
        checkpoint: What the log signed.
        keys: Keys of the witnesses that the caller trusts, of cosigning types.
        at_least: How many of them it demands; 0 takes what there is.

    Raises:
        VerificationError: There are fewer, or a known witness's cosignature does not verify.
        ValueError: A key is not one that cosigns.
    """
    note = checkpoint.note
    found = tuple(
        [
            verify_cosignature(note.body, signature, key)
            for signature in note.signatures
            for key in keys
            if key.matches(signature)
        ]
    )
    names = witness_names(one.key for one in found)
    if len(names) < at_least:
        raise VerificationError(
            Finding(
                "ledger.cosignature.missing",
                f"{len(names)} trusted witnesses cosigned the checkpoint, not {at_least}.",
                expected=", ".join(sorted(witness_names(keys))),
                seen=", ".join(sorted(names)),
            )
        )
    return found


def _encode_timestamp(timestamp: int) -> bytes:
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        raise ValueError("a cosignature has a time of at most 63 bits")
    return _TIMESTAMP.pack(timestamp)


def _ed25519_message(body: bytes, timestamp: int) -> bytes:
    return b"cosignature/v1\ntime %d\n%s" % (timestamp, body)


def _subtree_message(name: str, checkpoint: Checkpoint, timestamp: int) -> bytes:
    return b"".join(
        (
            *(_LABEL, _prefixed(name), _TIMESTAMP.pack(timestamp), _prefixed(checkpoint.origin)),
            *(_RANGE.pack(0, checkpoint.size), checkpoint.root),
        )
    )


def _prefixed(text: str) -> bytes:
    # Names and origins of more than 255 bytes exist neither as ``NoteKey`` nor as ``Checkpoint``.
    data = text.encode()
    return bytes((len(data),)) + data


def _invalid(key: NoteKey) -> VerificationError:
    return VerificationError(
        Finding(
            "ledger.cosignature.invalid",
            f"The cosignature of {key.name} under the checkpoint does not verify.",
        )
    )
