"""Cosignatures: what a witness signed, and when."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import LedgerSigner, verify_checkpoint
from bootlease.ledger.checkpoint import Checkpoint, VerifiedCheckpoint
from bootlease.ledger.cosignature import (
    MAX_TIMESTAMP,
    Ed25519Cosigner,
    MLDSA44Cosigner,
    verify_cosignature,
    verify_cosignatures,
)
from bootlease.ledger.note import Note, NoteKey, NoteSignature, SignatureType
from bootlease.token import PrivateKeySigner

NAME: Final = "verifier.example/ledger"
CHECKPOINT: Final = Checkpoint("verifier.example/ledger/2026-11", 5, b"\x11" * 32)
BODY: Final = CHECKPOINT.encode()
NOW: Final = 1_800_000_000


@pytest.fixture(params=["ed25519", "ml-dsa-44"])
def cosigner(
    request: pytest.FixtureRequest, witness: Ed25519Cosigner, pq_witness: MLDSA44Cosigner
) -> Ed25519Cosigner | MLDSA44Cosigner:
    """A witness of each type."""
    return witness if request.param == "ed25519" else pq_witness


def cosigned(ledger: LedgerSigner, *lines: NoteSignature) -> VerifiedCheckpoint:
    """Return the ledger's checkpoint with cosignatures."""
    sealed = ledger.seal(CHECKPOINT.origin, CHECKPOINT.size, CHECKPOINT.root)
    return verify_checkpoint(
        sealed.checkpoint + b"".join(line.line() for line in lines), ledger.key
    )


def test_a_cosignature_verifies(cosigner: Ed25519Cosigner | MLDSA44Cosigner) -> None:
    """A cosignature gives the witness's key and the time."""
    verified = verify_cosignature(BODY, cosigner.cosign(BODY, NOW), cosigner.key)
    assert (verified.key, verified.timestamp) == (cosigner.key, NOW)


def test_the_ed25519_message_is_that_of_the_specification(witness: Ed25519Cosigner) -> None:
    """What an Ed25519 witness signs is header, time and text, put together by hand."""
    material = witness.cosign(BODY, NOW).signature
    assert material[:8] == struct.pack(">Q", NOW)
    message = b"cosignature/v1\ntime 1800000000\n" + BODY
    Ed25519PublicKey.from_public_bytes(witness.key.public).verify(material[8:], message)


def test_the_mldsa_message_is_that_of_the_specification(pq_witness: MLDSA44Cosigner) -> None:
    """What an ML-DSA-44 witness signs is the structure of the specification, made by hand."""
    material = pq_witness.cosign(BODY, NOW).signature
    message = b"".join(
        (
            b"subtree/v1\n\0",
            *(b"\x12", b"witness.example/w2", struct.pack(">Q", NOW)),
            *(b"\x1f", b"verifier.example/ledger/2026-11"),
            *(struct.pack(">QQ", 0, 5), b"\x11" * 32),
        )
    )
    MLDSA44PublicKey.from_public_bytes(pq_witness.key.public).verify(material[8:], message)


@pytest.mark.parametrize(
    "other",
    [
        Checkpoint("verifier.example/ledger/2026-12", 5, b"\x11" * 32),
        Checkpoint(CHECKPOINT.origin, 6, b"\x11" * 32),
        Checkpoint(CHECKPOINT.origin, 5, b"\x12" * 32),
        Checkpoint(CHECKPOINT.origin, 5, b"\x11" * 32, ("extension",)),
    ],
    ids=["origin", "size", "root", "extension"],
)
def test_a_cosignature_covers_the_checkpoint(
    other: Checkpoint, cosigner: Ed25519Cosigner | MLDSA44Cosigner
) -> None:
    """Under another origin, size, root or with an extension line a cosignature is refused."""
    with pytest.raises(VerificationError) as caught:
        verify_cosignature(other.encode(), cosigner.cosign(BODY, NOW), cosigner.key)
    assert caught.value.findings[0].id == "ledger.cosignature.invalid"


@pytest.mark.parametrize("place", [0, 7, 8, -1])
def test_an_altered_cosignature_is_refused(
    place: int, cosigner: Ed25519Cosigner | MLDSA44Cosigner
) -> None:
    """Another time, also one beyond 63 bits, or an altered signature is refused."""
    good = cosigner.cosign(BODY, NOW)
    material = bytearray(good.signature)
    material[place] ^= 0x80
    with pytest.raises(VerificationError):
        verify_cosignature(
            BODY, NoteSignature(good.name, good.key_id, bytes(material)), cosigner.key
        )


@pytest.mark.parametrize("size", [0, 7, 8, 71, 73])
def test_a_cosignature_has_one_length(size: int, witness: Ed25519Cosigner) -> None:
    """A signature of another length is refused."""
    line = NoteSignature(witness.key.name, witness.key.key_id, bytes(size))
    with pytest.raises(VerificationError):
        verify_cosignature(BODY, line, witness.key)


def test_mldsa_does_not_sign_extensions(pq_witness: MLDSA44Cosigner) -> None:
    """A checkpoint with lines that ML-DSA-44 would leave unsigned is not signed."""
    body = Checkpoint(CHECKPOINT.origin, 5, b"\x11" * 32, ("extension",)).encode()
    with pytest.raises(ValueError, match="extension"):
        pq_witness.cosign(body, NOW)


@pytest.mark.parametrize("timestamp", [-1, MAX_TIMESTAMP + 1])
def test_impossible_times_are_our_misuse(
    timestamp: int, cosigner: Ed25519Cosigner | MLDSA44Cosigner
) -> None:
    """A time has 63 bits and no sign."""
    with pytest.raises(ValueError, match="63 bits"):
        cosigner.cosign(BODY, timestamp)


def test_only_checkpoints_are_cosigned(cosigner: Ed25519Cosigner | MLDSA44Cosigner) -> None:
    """A witness signs no other text."""
    with pytest.raises(MalformedError):
        cosigner.cosign(b"I owe you everything.\n", NOW)


def test_keys_that_sign_text_do_not_cosign(ledger: LedgerSigner) -> None:
    """A log's key is not taken for a witness's: our misuse."""
    with pytest.raises(ValueError, match="cosigns"):
        verify_cosignature(BODY, NoteSignature(NAME, ledger.key.key_id, bytes(72)), ledger.key)


def test_a_quorum_is_counted(
    ledger: LedgerSigner, witness: Ed25519Cosigner, pq_witness: MLDSA44Cosigner
) -> None:
    """Cosignatures of known witnesses count, those of others do not."""
    checkpoint = cosigned(ledger, witness.cosign(BODY, NOW), pq_witness.cosign(BODY, NOW + 1))
    keys = [witness.key, pq_witness.key]
    found = verify_cosignatures(checkpoint, keys, at_least=2)
    assert [(one.key, one.timestamp) for one in found] == [
        (witness.key, NOW),
        (pq_witness.key, NOW + 1),
    ]
    assert len(verify_cosignatures(checkpoint, [witness.key], at_least=1)) == 1
    assert verify_cosignatures(checkpoint, [], at_least=0) == ()
    with pytest.raises(VerificationError) as caught:
        verify_cosignatures(checkpoint, [witness.key], at_least=2)
    assert caught.value.findings[0].id == "ledger.cosignature.missing"


def test_one_witness_with_two_keys_counts_once(
    ledger: LedgerSigner, witness: Ed25519Cosigner, signer: PrivateKeySigner
) -> None:
    """Two keys of one name are one witness."""
    second = Ed25519Cosigner(witness.key.name, signer)
    checkpoint = cosigned(ledger, witness.cosign(BODY, NOW), second.cosign(BODY, NOW))
    with pytest.raises(VerificationError) as caught:
        verify_cosignatures(checkpoint, [witness.key, second.key], at_least=2)
    assert caught.value.findings[0].id == "ledger.cosignature.missing"


def test_a_known_bad_cosignature_refuses(ledger: LedgerSigner, witness: Ed25519Cosigner) -> None:
    """A known witness's cosignature that does not verify is refused, not left out."""
    other = Checkpoint(CHECKPOINT.origin, 6, b"\x11" * 32).encode()
    checkpoint = cosigned(ledger, witness.cosign(other, NOW))
    with pytest.raises(VerificationError) as caught:
        verify_cosignatures(checkpoint, [witness.key], at_least=0)
    assert caught.value.findings[0].id == "ledger.cosignature.invalid"


def test_a_log_signs_with_both_kinds(signer: PrivateKeySigner, pq_witness: MLDSA44Cosigner) -> None:
    """A ledger with an ML-DSA-44 key puts both signatures under every checkpoint."""
    ledger = LedgerSigner(NAME, signer, cosigners=[pq_witness])
    checkpoint = cosigned(ledger)
    assert [one.name for one in checkpoint.note.signatures] == [NAME, pq_witness.key.name]
    assert verify_cosignatures(checkpoint, [pq_witness.key], at_least=1)[0].timestamp == 0


@given(st.binary(max_size=100), st.sampled_from([*SignatureType][1:]))
def test_any_signature_is_refused_with_a_finding(material: bytes, kind: SignatureType) -> None:
    """Whatever stands in the line, it verifies or is refused, never any other."""
    key = NoteKey("w", kind, b"\x05" * (32 if kind is SignatureType.ED25519_COSIGNATURE else 1312))
    with pytest.raises(VerificationError):
        verify_cosignature(BODY, NoteSignature("w", key.key_id, material), key)
    assert Note(BODY, (NoteSignature("w", key.key_id, b"\1" + material),)).encode()
