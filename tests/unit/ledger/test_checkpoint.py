"""Checkpoints: whose, of which size, with which root."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import LedgerSigner, NoteSigner, sign_note
from bootlease.ledger.checkpoint import (
    Checkpoint,
    parse_checkpoint,
    parse_signed_checkpoint,
    verify_checkpoint,
)
from bootlease.ledger.merkle import EMPTY_ROOT, MAX_SIZE
from bootlease.ledger.note import Ed25519NoteSigner, NoteSignature
from bootlease.token import PrivateKeySigner

NAME = "verifier.example/ledger"
ORIGIN = f"{NAME}/2026-11"
ROOT = b"\x11" * 32


@pytest.fixture
def log(signer: PrivateKeySigner) -> Ed25519NoteSigner:
    """The log's signer."""
    return Ed25519NoteSigner(NAME, signer)


def sealed(signer: NoteSigner, origin: str = ORIGIN, *extensions: str) -> bytes:
    """Return a signed checkpoint."""
    return sign_note(Checkpoint(origin, 5, ROOT, extensions).encode(), signer)


def test_a_checkpoint_verifies(log: Ed25519NoteSigner) -> None:
    """A checkpoint of the ledger's key gives origin, size and root."""
    verified = verify_checkpoint(sealed(log), log.key)
    assert (verified.origin, verified.size, verified.root) == (ORIGIN, 5, ROOT)


def test_a_seal_is_a_checkpoint(ledger: LedgerSigner) -> None:
    """What the ledger signs for a commit is a checkpoint of its key."""
    verified = verify_checkpoint(ledger.seal(ORIGIN, 5, ROOT).checkpoint, ledger.key)
    assert verified.checkpoint == Checkpoint(ORIGIN, 5, ROOT)


def test_extension_lines_survive(log: Ed25519NoteSigner) -> None:
    """Extension lines are signed and read."""
    verified = verify_checkpoint(sealed(log, ORIGIN, "one", "two words"), log.key)
    assert verified.checkpoint.extensions == ("one", "two words")


@pytest.mark.parametrize("origin", [NAME, f"{NAME}/2026-11", f"{NAME}/2026-11.2"])
def test_a_key_speaks_for_what_lies_under_its_name(origin: str, log: Ed25519NoteSigner) -> None:
    """Without a demand any shard of the ledger is accepted."""
    assert verify_checkpoint(sealed(log, origin), log.key).origin == origin


@pytest.mark.parametrize("origin", [f"{NAME}s/2026-11", "verifier.example", "other.example/ledger"])
def test_a_key_speaks_for_no_other_log(origin: str, log: Ed25519NoteSigner) -> None:
    """A checkpoint of a log that is not under the key's name is refused, though it is signed."""
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(sealed(log, origin), log.key)
    assert caught.value.findings[0].id == "ledger.checkpoint.origin.mismatch"


def test_another_shard_than_demanded_is_refused(log: Ed25519NoteSigner) -> None:
    """With a demand exactly this log is accepted."""
    verify_checkpoint(sealed(log), log.key, origin=ORIGIN)
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(sealed(log), log.key, origin=f"{NAME}/2026-12")
    assert caught.value.findings[0].id == "ledger.checkpoint.origin.mismatch"


def test_another_key_is_refused(log: Ed25519NoteSigner, other_signer: PrivateKeySigner) -> None:
    """A checkpoint signed by another key of the same name is not signed."""
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(sealed(log), Ed25519NoteSigner(NAME, other_signer).key)
    assert caught.value.findings[0].id == "ledger.checkpoint.key.unknown"


def test_an_altered_signature_is_refused(log: Ed25519NoteSigner) -> None:
    """A signature of the log's key that does not verify is refused."""
    body = Checkpoint(ORIGIN, 5, ROOT).encode()
    wrong = NoteSignature(log.key.name, log.key.key_id, bytes(64))
    with pytest.raises(VerificationError) as caught:
        verify_checkpoint(b"".join((body, b"\n", wrong.line())), log.key)
    assert caught.value.findings[0].id == "ledger.note.signature.invalid"


def test_every_flipped_bit_is_caught(log: Ed25519NoteSigner) -> None:
    """No bit of a checkpoint can be changed."""
    data = sealed(log)
    for place in range(8 * len(data)):
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises((MalformedError, VerificationError)):
            verify_checkpoint(bytes(altered), log.key)


GOOD = Checkpoint(ORIGIN, 5, ROOT).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        GOOD[:-1],
        GOOD.replace(b"\n5\n", b"\n05\n"),
        GOOD.replace(b"\n5\n", b"\n-5\n"),
        GOOD.replace(b"\n5\n", b"\n9223372036854775808\n"),
        GOOD.replace(b"\n5\n", b"\n0\n"),
        GOOD.replace(b"\n5\n", b"\n"),
        GOOD[GOOD.index(b"\n") :],
        GOOD.replace(b"ERE", b"ER"),
        GOOD + b"\n",
        GOOD + b"extension",
        GOOD + b"a\n\n",
        GOOD + b"line\n" * 17,
        GOOD.replace(b"verifier", b"verifier" * 40),
        GOOD.replace(b"verifier", b"ver\xffier"),
        GOOD.replace(b"verifier", b"ver\x7fier"),
    ],
)
def test_other_texts_are_malformed(body: bytes) -> None:
    """Each deviation from the form makes a checkpoint malformed."""
    with pytest.raises(MalformedError):
        parse_checkpoint(body)


def test_the_empty_log_has_a_checkpoint(log: Ed25519NoteSigner) -> None:
    """A log without leaves has size 0 and the root of nothing."""
    data = sign_note(Checkpoint(ORIGIN, 0, EMPTY_ROOT).encode(), log)
    assert verify_checkpoint(data, log.key).size == 0


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 5, ROOT),
        ("a\nb", 5, ROOT),
        ("a" * 256, 5, ROOT),
        (ORIGIN, -1, ROOT),
        (ORIGIN, MAX_SIZE + 1, ROOT),
        (ORIGIN, 5, ROOT[1:]),
        (ORIGIN, 0, ROOT),
    ],
)
def test_impossible_checkpoints_are_our_misuse(origin: str, size: int, root: bytes) -> None:
    """What no reader would accept cannot be made."""
    with pytest.raises(ValueError, match=r"."):
        Checkpoint(origin, size, root)


@given(st.binary(max_size=150) | st.text("a1=\n/", max_size=60).map(str.encode))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Bytes are a checkpoint that encodes to them, or malformed, never any other."""
    with contextlib.suppress(MalformedError):
        assert parse_checkpoint(data).encode() == data
    try:
        assert parse_signed_checkpoint(data).note.encode() == data
    except MalformedError:
        return
