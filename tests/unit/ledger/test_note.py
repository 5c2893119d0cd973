"""Signed notes: what is signed, by whom, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.note import (
    MAX_NOTE,
    MAX_SIGNATURES,
    Ed25519NoteSigner,
    Note,
    NoteKey,
    NoteSignature,
    SignatureType,
    parse_note,
    parse_signature_lines,
    sign_note,
    verify_note,
    verify_signature,
)
from bootlease.ledger.text import encode_base64
from bootlease.token import PrivateKeySigner

BODY = "Erste Zeile\n\nà la fin\n".encode()
DASH = "\N{EM DASH}"


def line(name: str) -> bytes:
    """Return a signature line."""
    return f"{DASH} {name} QUJDREU=\n".encode()


@pytest.fixture
def alice(signer: PrivateKeySigner) -> Ed25519NoteSigner:
    """Somebody who signs notes."""
    return Ed25519NoteSigner("alice.example", signer)


@pytest.fixture
def bob(other_signer: PrivateKeySigner) -> Ed25519NoteSigner:
    """Somebody else who signs notes."""
    return Ed25519NoteSigner("bob.example", other_signer)


def test_notes_verify(alice: Ed25519NoteSigner, bob: Ed25519NoteSigner) -> None:
    """A note verifies under the keys that signed it, in the order of its lines."""
    note = verify_note(sign_note(BODY, alice, bob), [bob.key, alice.key])
    assert (note.body, note.keys, note.unknown) == (BODY, (alice.key, bob.key), ())


def test_unknown_signatures_are_ignored_and_reported(
    alice: Ed25519NoteSigner, bob: Ed25519NoteSigner
) -> None:
    """A signature by a key that nobody knows neither helps nor hurts, and is reported."""
    note = verify_note(sign_note(BODY, alice, bob), [alice.key])
    assert note.keys == (alice.key,)
    assert [one.name for one in note.unknown] == ["bob.example"]


def test_one_known_bad_signature_refuses_the_note(
    alice: Ed25519NoteSigner, bob: Ed25519NoteSigner
) -> None:
    """A known key's signature that does not verify is refused though another one does."""
    wrong = NoteSignature(bob.key.name, bob.key.key_id, bob.sign(b"another\n").signature)
    data = Note(BODY, (alice.sign(BODY), wrong)).encode()
    with pytest.raises(VerificationError) as caught:
        verify_note(data, [alice.key, bob.key])
    assert caught.value.findings[0].id == "ledger.note.signature.invalid"


def test_a_note_by_nobody_known_is_refused(
    alice: Ed25519NoteSigner, bob: Ed25519NoteSigner
) -> None:
    """A note without a signature of a trusted key is refused."""
    for keys in ([bob.key], []):
        with pytest.raises(VerificationError) as caught:
            verify_note(sign_note(BODY, alice), keys)
        assert caught.value.findings[0].id == "ledger.note.key.unknown"


def test_name_and_id_make_the_key_together(
    alice: Ed25519NoteSigner, signer: PrivateKeySigner
) -> None:
    """A signature under another name, or with another id, is another key's: unknown."""
    data = sign_note(BODY, alice)
    for key in (
        Ed25519NoteSigner("alicia.example", signer).key,
        NoteKey("alice.example", SignatureType.ED25519, b"\x09" * 32),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_note(data, [key])
        assert caught.value.findings[0].id == "ledger.note.key.unknown"


def test_two_signatures_of_one_key_are_malformed(alice: Ed25519NoteSigner) -> None:
    """A key signs a note once."""
    once = alice.sign(BODY)
    with pytest.raises(MalformedError, match="twice"):
        parse_note(Note(BODY, (once, once)).encode())


def test_cosignature_keys_do_not_verify_notes(alice: Ed25519NoteSigner) -> None:
    """A key that cosigns is not taken for one that signs the text: our misuse."""
    key = NoteKey("alice.example", SignatureType.ED25519_COSIGNATURE, alice.key.public)
    assert key.key_id != alice.key.key_id
    with pytest.raises(ValueError, match="other messages"):
        verify_signature(BODY, NoteSignature(key.name, key.key_id, b"\0" * 64), key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        f"text\n{DASH} a QUJDREU=\n".encode(),
        f"text\n\n{DASH} a QUJDREU=".encode(),
        f"text\n\n{DASH} a QUJDREU=\n\n".encode(),
        b"text\n\n- a QUJDREU=\n",
        f"text\n\n{DASH}a QUJDREU=\n".encode(),
        f"text\n\n{DASH} a  QUJDREU=\n".encode(),
        f"text\n\n{DASH} a QUJDREU= \n".encode(),
        f"text\n\n{DASH} QUJDREU=\n".encode(),
        f"text\n\n{DASH} a QUJDRA==\n".encode(),
        f"text\n\n{DASH} a QUJDREV=\n".encode(),
        f"text\n\n{DASH} a+b QUJDREU=\n".encode(),
        f"text\n\n{DASH} a\u2003b QUJDREU=\n".encode(),
        f"text\n\n{DASH} {'a' * 256} QUJDREU=\n".encode(),
        f"te\x07xt\n\n{DASH} a QUJDREU=\n".encode(),
        f"te\rxt\n\n{DASH} a QUJDREU=\n".encode(),
        b"te\xffxt\n\n\xe2\x80\x94 a QUJDREU=\n",
        b"text\n\n\xe2\x80\x94 a\xff QUJDREU=\n",
        f"text\n\n{DASH} a QUJDREU=\n".encode().rjust(MAX_NOTE + 1, b"x"),
        b"text\n\n"
        + b"".join(f"{DASH} a{n} QUJDREU=\n".encode() for n in range(MAX_SIGNATURES + 1)),
    ],
)
def test_other_forms_are_malformed(data: bytes) -> None:
    """Each deviation from the form makes a note malformed."""
    with pytest.raises(MalformedError):
        parse_note(data)


def test_sixteen_signatures_are_accepted() -> None:
    """The specification demands that 16 signatures be accepted, also post-quantum ones."""
    signatures = tuple(NoteSignature(f"w{n}", b"1234", bytes(5000)) for n in range(16))
    assert parse_note(Note(BODY, signatures).encode()).signatures == signatures


@pytest.mark.parametrize("body", [b"", b"no newline", b"bell\x07\n", b"\xff\n"])
def test_what_cannot_be_a_note_is_not_signed(body: bytes, alice: Ed25519NoteSigner) -> None:
    """Signing a text that no reader would accept is our misuse, and so is signing by nobody."""
    with pytest.raises(ValueError, match=r"note|decode"):
        sign_note(body, alice)
    with pytest.raises(ValueError, match="has a signature"):
        sign_note(BODY)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b", "a" * 256, "\ud800"]
)
def test_impossible_names_are_our_misuse(name: str, signer: PrivateKeySigner) -> None:
    """A name that could be read as something else is no key's."""
    with pytest.raises(ValueError, match="name"):
        Ed25519NoteSigner(name, signer)


def test_keys_survive_their_text(alice: Ed25519NoteSigner) -> None:
    """A key of each type survives its text form."""
    for kind, size in (
        (SignatureType.ED25519, 32),
        (SignatureType.ED25519_COSIGNATURE, 32),
        (SignatureType.ML_DSA_44_COSIGNATURE, 1312),
    ):
        key = NoteKey("witness.example/w1", kind, b"\x05" * size)
        assert NoteKey.parse(str(key)) == key
    assert str(alice.key).startswith("alice.example+")


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 7, 255])
def test_keys_of_other_types_are_malformed(kind: int, alice: Ed25519NoteSigner) -> None:
    """A verifier key of a type that is not verified here is refused, not kept for nothing."""
    text = encode_base64(bytes([kind]) + alice.key.public).decode()
    with pytest.raises(MalformedError):
        NoteKey.parse(f"alice.example+{alice.key.key_id.hex()}+{text}")


@given(st.binary(max_size=120) | st.text(f"ab {DASH}\n+=QUJD", max_size=60).map(str.encode))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Bytes are a note that encodes to them, or malformed, never any other."""
    with contextlib.suppress(MalformedError):
        assert parse_note(data).encode() == data
    try:
        lines = parse_signature_lines(data)
    except MalformedError:
        return
    assert b"".join(one.line() for one in lines) == data


@given(st.text(max_size=80) | st.text("ab+0123456789abcdefAQ=/", max_size=60))
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    """Text is a key that is written the same, or malformed, never any other."""
    try:
        assert str(NoteKey.parse(text)) == text
    except MalformedError:
        return
