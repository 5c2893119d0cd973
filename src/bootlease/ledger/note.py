"""Signed notes: text under signatures, each a line of its own.

Specification: C2SP signed-note v1, with its verifier keys (``vkey``). Of its signature types this
module verifies 0x01, Ed25519 over the text; 0x04 and 0x06 are cosignatures (``cosignature``), whose
lines and keys have their form here.

Who signed is told by name and key id together. A signature of an unknown key is ignored, as the
specification demands, but reported; one of a known key that does not verify refuses the note; two
by one key make the note malformed.

Not handled: ECDSA (0x02), RFC 6962 tree heads (0x05) and types without a number (0xff).
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Protocol

from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.text import decode_base64, encode_base64
from bootlease.model import Finding
from bootlease.token.keys import Algorithm, SignatureCheck, Signer, signature_check
from bootlease.token.publickey import KeyKind, PublicKey

MAX_NOTE: Final = 256 * 1024
"""Bytes of a note; a post-quantum cosignature is a line of some 3.3 kB."""
MAX_SIGNATURES: Final = 64
"""The specification demands that 16 be accepted."""
MAX_NAME: Final = 255
"""Bytes of a key's name: what the length byte of an ML-DSA-44 cosignature can say."""

_ID_SIZE: Final = 4
_DASH: Final = "\N{EM DASH} ".encode()
_LINE_MEMBERS: Final = 2
_MAX_VKEY: Final = 4096
_CONTROLS: Final = bytes(range(0x20)).replace(b"\n", b"")


class SignatureType(enum.IntEnum):
    """What a key signs, by the byte that goes into its id."""

    ED25519 = 0x01
    ED25519_COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06


_KEY_SIZES: Final = {
    SignatureType.ED25519: 32,
    SignatureType.ED25519_COSIGNATURE: 32,
    SignatureType.ML_DSA_44_COSIGNATURE: 1312,
}


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that may sign notes, with the name it signs under.

    Attributes:
        name: Who it is; a URL without scheme by custom.
        kind: What it signs.
        public: The public key's bytes.
        key_id: Four bytes made of all three: a hint, not a fingerprint.
    """

    name: str
    kind: SignatureType
    public: bytes = field(repr=False)
    key_id: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != _KEY_SIZES[self.kind]:
            raise ValueError(f"a {self.kind.name} key has {_KEY_SIZES[self.kind]} bytes")
        material = b"".join((self.name.encode(), b"\n", bytes((self.kind,)), self.public))
        object.__setattr__(self, "key_id", sha256(material).digest()[:_ID_SIZE])

    def __str__(self) -> str:
        """Return the verifier key, ``name+id+base64``: the key as one line of text."""
        material = encode_base64(bytes((self.kind,)) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Parse a verifier key.

        Raises:
            MalformedError: It is none, or of a type that this module does not know.
        """
        name, _, rest = text[:_MAX_VKEY].partition("+")
        encoded = rest.partition("+")[2].encode(errors="replace")
        if not encoded:
            raise MalformedError("verifier key: not of the form name+id+base64")
        material = decode_base64(encoded)
        try:
            key = cls(name, SignatureType(material[0]), material[1:])
        except ValueError as exc:
            raise MalformedError(f"verifier key: {exc}") from exc
        # The id must be the key's own: otherwise one key could answer to the name of another.
        if str(key) != text:
            raise MalformedError("verifier key: the id is not that of name and key")
        return key

    def matches(self, signature: NoteSignature) -> bool:
        """Tell whether a signature says that it is by this key."""
        return signature.key_id == self.key_id and signature.name == self.name


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, unverified.

    Attributes:
        name: Name of the key.
        key_id: Its id.
        signature: What follows the id.
    """

    name: str
    key_id: bytes
    signature: bytes = field(repr=False)

    def line(self) -> bytes:
        """Return the line, with its newline."""
        material = encode_base64(self.key_id + self.signature)
        return b"".join((_DASH, self.name.encode(), b" ", material, b"\n"))


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note, unverified.

    Attributes:
        body: The text, with its last newline.
        signatures: The signature lines.
    """

    body: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the note."""
        return b"".join((self.body, b"\n", *(one.line() for one in self.signatures)))


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A note that keys of the caller signed.

    Attributes:
        body: The text.
        keys: The keys whose signatures verified, in the order of the lines.
        unknown: The signatures that nobody checked.
    """

    body: bytes
    keys: tuple[NoteKey, ...]
    unknown: tuple[NoteSignature, ...]


class NoteSigner(Protocol):
    """Whatever signs notes for a key."""

    @property
    def key(self) -> NoteKey:
        """The key that verifies what this signs."""

    def sign(self, body: bytes) -> NoteSignature:
        """Sign the text of a note."""


class Ed25519NoteSigner:
    """Signs notes with an Ed25519 key, signature type 0x01."""

    __slots__ = ("_signer", "key")

    def __init__(self, name: str, signer: Signer) -> None:
        """Sign under ``name`` with ``signer``.

        Raises:
            ValueError: The key is not Ed25519, or the name cannot stand in a note.
        """
        self.key = NoteKey(name, SignatureType.ED25519, ed25519_bytes(signer.public))
        self._signer = signer

    def sign(self, body: bytes) -> NoteSignature:
        """Sign the text of a note."""
        return NoteSignature(self.key.name, self.key.key_id, self._signer.sign(body))


def sign_note(body: bytes, *signers: NoteSigner) -> bytes:
    """Sign a text.

    Raises:
        ValueError: The text cannot be a note's, or nobody signs it.
    """
    if not signers:
        raise ValueError("a note has a signature")
    _check_body(body)
    return Note(body, tuple([signer.sign(body) for signer in signers])).encode()


def parse_note(data: bytes) -> Note:
    """Parse a signed note.

    Raises:
        MalformedError: It is none, or too large, or has two signatures by one key.
    """
    if len(data) > MAX_NOTE:
        raise MalformedError(f"a note has at most {MAX_NOTE} bytes")
    text, gap, lines = data.rpartition(b"\n\n")
    if not gap:
        raise MalformedError("a note has an empty line between text and signatures")
    body = text + b"\n"
    try:
        _check_body(body)
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc
    return Note(body, parse_signature_lines(lines))


def parse_signature_lines(data: bytes) -> tuple[NoteSignature, ...]:
    """Parse the signature lines of a note, such as a witness answers with.

    Raises:
        MalformedError: There is none, one has another form, or a key is there twice.
    """
    if len(data) > MAX_NOTE or data[-1:] != b"\n" or data.count(b"\n") > MAX_SIGNATURES:
        raise MalformedError(f"a note has 1 to {MAX_SIGNATURES} signature lines, all complete")
    signatures = tuple(map(_parse_line, data[:-1].split(b"\n")))
    if len({(one.name, one.key_id) for one in signatures}) != len(signatures):
        raise MalformedError("a note is signed twice by one key")
    return signatures


def _parse_line(line: bytes) -> NoteSignature:
    parts = line.removeprefix(_DASH).split(b" ")
    if not line.startswith(_DASH) or len(parts) != _LINE_MEMBERS:
        raise MalformedError("a signature line is a dash, a name and base64")
    material = decode_base64(parts[1])
    if len(material) <= _ID_SIZE:
        raise MalformedError("a signature line holds a key id and a signature")
    try:
        name = parts[0].decode()
        check_name(name)
    except ValueError as exc:
        raise MalformedError(f"signature line: {exc}") from exc
    return NoteSignature(name, material[:_ID_SIZE], material[_ID_SIZE:])


def verify_note(data: bytes, keys: Sequence[NoteKey]) -> VerifiedNote:
    """Prove that a key of ``keys`` signed a note, and that none of them is misused in it.

    Args:
        data: Unverified bytes.
        keys: Ed25519 keys (type 0x01) that the caller trusts.

    Raises:
        MalformedError: Not a signed note.
        VerificationError: A known key's signature does not verify, or no known key signed.
        ValueError: A key is of another type.
    """
    note = parse_note(data)
    known, unknown = [], []
    for signature in note.signatures:
        key = next((key for key in keys if key.matches(signature)), None)
        if key is None:
            unknown.append(signature)
        else:
            verify_signature(note.body, signature, key)
            known.append(key)
    if not known:
        raise VerificationError(
            Finding(
                "ledger.note.key.unknown",
                "No trusted key signed the note.",
                expected=", ".join(key.name for key in keys),
                seen=", ".join(signature.name for signature in note.signatures),
            )
        )
    return VerifiedNote(note.body, tuple(known), tuple(unknown))


def verify_signature(body: bytes, signature: NoteSignature, key: NoteKey) -> None:
    """Prove that ``key`` made one signature over the text of a note.

    Raises:
        VerificationError: It did not.
        ValueError: The key is not one that signs the text itself (type 0x01).
    """
    if key.kind is not SignatureType.ED25519:
        raise ValueError("cosignature keys sign other messages than a note's text")
    if not key.matches(signature) or not ed25519_check(key.public)(signature.signature, body):
        raise VerificationError(
            Finding(
                "ledger.note.signature.invalid",
                f"The signature of {key.name} under the note does not verify.",
            )
        )


@functools.lru_cache(maxsize=256)
def ed25519_check(public: bytes) -> SignatureCheck:
    """Return the check for the signatures of an Ed25519 key."""
    return signature_check(PublicKey(KeyKind.ED25519, (public,)).load(), Algorithm.ED25519)


def ed25519_bytes(public: PublicKey) -> bytes:
    """Return the 32 bytes of an Ed25519 key.

    Raises:
        ValueError: The key is of another kind.
    """
    if public.kind is not KeyKind.ED25519:
        raise ValueError("notes are signed with Ed25519 keys")
    return public.parameters[0]


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a key.

    Raises:
        ValueError: It is empty or too long, or has spaces, plus signs or control characters.
    """
    if not 0 < len(name.encode(errors="replace")) <= MAX_NAME:
        raise ValueError(f"a key's name has 1 to {MAX_NAME} bytes")
    if any(one.isspace() or one == "+" or one < " " or "\ud800" <= one <= "\udfff" for one in name):
        raise ValueError("a key's name has no spaces, plus signs or control characters")


def _check_body(body: bytes) -> None:
    # A control character could make a terminal show another text than the one that is signed.
    if body[-1:] != b"\n" or len(body.translate(None, _CONTROLS)) != len(body):
        raise ValueError("a note is text without control characters that ends in a newline")
    body.decode()
