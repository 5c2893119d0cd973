"""Receipts: proof that the ledger has a leaf, made for one commit at a time.

Specifications: RFC 9942 (COSE Receipts) §4 and §5.2 with the verifiable data structure
RFC9162_SHA256, in COSE_Sign1 (RFC 9052 §4.2) with a detached payload; RFC 9597 for the claims in
the header. The same proof as text is ``tlogproof``.

A receipt is ``18([protected, {396: {-1: [proof]}}, null, signature])``, ``proof`` an encoded
``[size, index, [path...]]``. The payload is the root, which the verifier makes from leaf and proof.
Protected are alg (1), kid (4: the key's RFC 7638 thumbprint), CWT claims (15) with the log's origin
as the issuer, vds (395) and the tree size (-65537, private use). All of them are the same for a
whole commit, so one signature serves every receipt of it. RFC 9942 signs root and header only:
without size and origin there, a receipt's size could be altered in transit, and a root that a
checkpoint contradicts would pass for a fork of the log.

The signed bytes begin with 0x84, those of a note with its text: neither signature of the ledger's
key can stand for the other.

Not handled, and refused: consistency proofs (-2), more than one inclusion proof in a receipt, other
data structures, ``crit``. A path may be empty: the RFC's CDDL forbids it, its tree of one leaf has
no other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger.checkpoint import Checkpoint, verify_origin
from bootlease.ledger.merkle import (
    HASH_SIZE,
    MAX_PATH,
    MAX_SIZE,
    inclusion_root,
    leaf_hash,
)
from bootlease.ledger.note import (
    Ed25519NoteSigner,
    Note,
    NoteKey,
    NoteSigner,
    SignatureType,
    ed25519_check,
)
from bootlease.ledger.tlogproof import TLogProof
from bootlease.model import Finding
from bootlease.token.cose import to_be_signed
from bootlease.token.keys import Algorithm, Signer
from bootlease.token.publickey import KeyKind, PublicKey

MAX_RECEIPT: Final = 8 * 1024
"""Bytes: a path of 63 hashes is 2 kB."""

_ALG, _KID, _CWT_CLAIMS, _VDS, _VDP = 1, 4, 15, 395, 396
_ISSUER: Final = 1
_INCLUSION: Final = -1
_RFC9162_SHA256: Final = 1
_TREE_SIZE: Final = -65537
_PROTECTED_MEMBERS: Final = {_ALG, _KID, _CWT_CLAIMS, _VDS, _TREE_SIZE}
_SCHEME: Final = "https://"
_SIGNATURE_SIZE: Final = 64

_SIGN1: Final = b"\xd2"
_START: Final = b"\xd2\x84"
_PROOF_HEAD: Final = b"\xa1\x19\x01\x8c\xa1\x20\x81"
"""{396: {-1: [...]}}, with one proof in the array."""
_END: Final = b"\xf6\x58\x40"
"""The detached payload, and the head of a signature of 64 bytes."""


@dataclass(frozen=True, slots=True)
class SealedRoot:
    """A tree's root as the ledger signed it, once for each commit.

    Attributes:
        origin: Which log.
        size: Its leaves.
        root: Its root.
        checkpoint: The signed checkpoint.
        protected: Encoded protected header of the receipts.
        signature: Signature of the receipts.
    """

    origin: str
    size: int
    root: bytes
    checkpoint: bytes
    protected: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A leaf's place in a sealed tree.

    Attributes:
        leaf: The leaf.
        index: Its index.
        path: Its inclusion path.
        sealed: The tree.
    """

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    sealed: SealedRoot

    def cose(self) -> bytes:
        """Return the COSE receipt (RFC 9942)."""
        sealed = self.sealed
        proof = cbor.array(
            (
                cbor.encode_integer(sealed.size),
                cbor.encode_integer(self.index),
                cbor.array([b"\x58\x20" + one for one in self.path]),
            )
        )
        return b"".join(
            (
                *(_START, cbor.encode_bytes(sealed.protected), _PROOF_HEAD),
                *(cbor.encode_bytes(proof), _END, sealed.signature),
            )
        )

    def tlog_proof(self) -> bytes:
        """Return the proof as text (C2SP tlog-proof)."""
        return TLogProof(self.leaf, self.index, self.path, self.sealed.checkpoint).encode()


class LedgerSigner:
    """Signs for the ledger: checkpoints, and the roots under receipts."""

    __slots__ = ("_cosigners", "_key_id", "_note_signer", "_signer", "key")

    def __init__(self, name: str, signer: Signer, *, cosigners: Sequence[NoteSigner] = ()) -> None:
        """Sign under ``name`` with an Ed25519 key.

        Args:
            name: Issuer without scheme, and ``/ledger``.
            signer: The ledger's key.
            cosigners: Sign every checkpoint too, such as an ML-DSA-44 key of the same name.

        Raises:
            ValueError: The key is not Ed25519, or the name cannot stand in a note.
        """
        self._note_signer = Ed25519NoteSigner(name, signer)
        self._signer = signer
        self._cosigners = tuple(cosigners)
        self._key_id = signer.public.thumbprint()
        self.key = self._note_signer.key

    def seal(self, origin: str, size: int, root: bytes) -> SealedRoot:
        """Sign a tree: its checkpoint, and its root for receipts.

        Raises:
            ValueError: The origin does not lie under the key's name, or there is no such tree.
        """
        if not origin.startswith(f"{self.key.name}/"):
            raise ValueError(f"the key of {self.key.name} does not speak for {origin}")
        body = Checkpoint(origin, size, root).encode()
        signers = (self._note_signer, *self._cosigners)
        checkpoint = Note(body, tuple([signer.sign(body) for signer in signers])).encode()
        protected = _encode_protected(self._key_id, origin, size)
        signature = self._signer.sign(to_be_signed(protected, root))
        return SealedRoot(origin, size, root, checkpoint, protected, signature)


def _encode_protected(key_id: bytes, origin: str, size: int) -> bytes:
    return cbor.encode(
        {
            _ALG: Algorithm.ED25519.cose_id,
            _KID: key_id,
            _CWT_CLAIMS: {_ISSUER: _SCHEME + origin},
            _VDS: _RFC9162_SHA256,
            _TREE_SIZE: size,
        }
    )


@dataclass(frozen=True, slots=True)
class COSEReceipt:
    """A COSE receipt, unverified.

    Attributes:
        algorithm: COSE algorithm that the header names.
        key_id: Key that the header names.
        origin: Log that the header names.
        signed_size: Tree size in the header.
        protected: Encoded protected header.
        size: Tree size in the proof.
        index: Index of the leaf.
        path: Its inclusion path.
        signature: The signature.
    """

    algorithm: int
    key_id: bytes
    origin: str
    signed_size: int
    protected: bytes
    size: int
    index: int
    path: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A leaf that a tree signed by the ledger's key has.

    Attributes:
        leaf: The leaf.
        index: Its index.
        size: Leaves of the tree.
        root: Root of the tree.
        origin: Which log.
    """

    leaf: bytes
    index: int
    size: int
    root: bytes
    origin: str


def parse_receipt(data: bytes) -> COSEReceipt:
    """Parse a COSE receipt.

    Raises:
        MalformedError: It is none, in the form this module documents.
    """
    if not data.startswith(_SIGN1):
        raise MalformedError("a receipt is a tagged COSE_Sign1")
    fields = cbor.decode(data[1:], max_bytes=MAX_RECEIPT)
    if type(fields) is not list or [*map(type, fields)] != [bytes, dict, type(None), bytes]:
        raise MalformedError("a receipt is [bytes, map, null, bytes]")
    protected, unprotected, _, signature = fields
    if len(signature) != _SIGNATURE_SIZE:
        raise MalformedError("a receipt has a signature of 64 bytes")
    size, index, path = _parse_proof(unprotected)
    return COSEReceipt(*_parse_protected(protected), protected, size, index, path, signature)


@functools.lru_cache(maxsize=256)
def _parse_protected(data: bytes) -> tuple[int, bytes, str, int]:
    # All receipts of one commit share one header: it is read once.
    header = cbor.decode(data, max_bytes=MAX_RECEIPT)
    if type(header) is not dict or header.keys() != _PROTECTED_MEMBERS:
        raise MalformedError("a receipt's header is alg, kid, CWT claims, vds and tree size")
    claims = header[_CWT_CLAIMS]
    issuer = claims.get(_ISSUER) if type(claims) is dict and len(claims) == 1 else None
    if type(issuer) is not str or not issuer.startswith(_SCHEME):
        raise MalformedError("a receipt's issuer is the log's origin as a URL")
    if type(header[_VDS]) is not int or header[_VDS] != _RFC9162_SHA256:
        raise MalformedError("a receipt is of a tree as in RFC 9162 with SHA-256")
    if type(header[_ALG]) is not int or type(header[_KID]) is not bytes:
        raise MalformedError("a receipt's header lacks alg or kid")
    size = _parse_number(header[_TREE_SIZE])
    return header[_ALG], header[_KID], issuer.removeprefix(_SCHEME), size


def _parse_proof(unprotected: Mapping[Any, Any]) -> tuple[int, int, tuple[bytes, ...]]:
    proofs = unprotected.get(_VDP)
    inclusions = proofs.get(_INCLUSION) if type(proofs) is dict and len(proofs) == 1 else None
    if len(unprotected) != 1 or type(inclusions) is not list or len(inclusions) != 1:
        raise MalformedError("a receipt has one inclusion proof, and nothing else unprotected")
    if type(inclusions[0]) is not bytes:
        raise MalformedError("an inclusion proof is a byte string")
    proof = cbor.decode(inclusions[0], max_bytes=MAX_RECEIPT)
    if type(proof) is not list or [*map(type, proof)] != [int, int, list]:
        raise MalformedError("an inclusion proof is [size, index, [path...]]")
    size, index, path = proof
    if len(path) > MAX_PATH or any(type(one) is not bytes or len(one) != HASH_SIZE for one in path):
        raise MalformedError(f"an inclusion path is at most {MAX_PATH} hashes of 32 bytes")
    return _parse_number(size), _parse_number(index), tuple(path)


def _parse_number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise MalformedError("a tree size or index is a number of at most 63 bits")
    return value


def verify_receipt(
    data: bytes, leaf: bytes, key: NoteKey, *, origin: str | None = None
) -> VerifiedReceipt:
    """Prove that a tree signed by the ledger's key has a leaf.

    Does not prove that the ledger shows everybody the same tree, nor that what the leaf names is
    true: it is what the ledger signed, which its checkpoints let others hold it to.

    Args:
        data: Unverified bytes.
        leaf: The leaf as the caller made it (``leaf.encode_leaf``) from what it holds.
        key: The ledger's Ed25519 key.
        origin: The shard; by default any of this ledger.

    Raises:
        MalformedError: Not a receipt.
        VerificationError: Another key's or log's, of another leaf, or altered.
    """
    receipt = parse_receipt(data)
    if receipt.key_id != _key_id(key):
        _refuse("ledger.receipt.key.unknown", "The receipt is not signed by the ledger's key.")
    if receipt.algorithm not in Algorithm.ED25519.cose_ids:
        _refuse(
            "ledger.receipt.algorithm.mismatch",
            "The receipt names another algorithm than its key's.",
        )
    verify_origin(receipt.origin, key, origin)
    if receipt.size != receipt.signed_size:
        _refuse(
            "ledger.receipt.size.mismatch",
            "The receipt's proof is for another tree than was signed.",
        )
    root = inclusion_root(leaf_hash(leaf), receipt.index, receipt.size, receipt.path)
    signed = to_be_signed(receipt.protected, root)
    if not _signed(key.public, receipt.signature, signed):
        # The root is made from the leaf: a wrong leaf and a wrong signature look the same.
        _refuse(
            "ledger.receipt.signature.invalid",
            "The receipt is for another ledger entry, or was altered.",
        )
    return VerifiedReceipt(leaf, receipt.index, receipt.size, root, receipt.origin)


@functools.lru_cache(maxsize=256)
def _signed(public: bytes, signature: bytes, signed: bytes) -> bool:
    # What was granted together has receipts of one tree, and all of them this one signature.
    return ed25519_check(public)(signature, signed)


@functools.lru_cache(maxsize=64)
def _key_id(key: NoteKey) -> bytes:
    if key.kind is not SignatureType.ED25519:
        raise ValueError("receipts are signed with Ed25519 keys")
    return PublicKey(KeyKind.ED25519, (key.public,)).thumbprint()


def _refuse(finding: str, message: str) -> NoReturn:
    raise VerificationError(Finding(finding, message))
