"""Signatures of files, as entries carry them, verified against keys that somebody gives.

Specifications: Linux ``security/integrity/integrity.h`` (``signature_v2_hdr``), ``digsig.c``,
``digsig_asymmetric.c`` (``asymmetric_verify``: RSA is PKCS #1 v1.5, ECDSA is DER),
``ima_appraise.c`` (``calc_file_id_hash``: version 3), ``evm_crypto.c``
(``evm_calc_hmac_or_hash``, ``hmac_add_misc``: portable signatures); RFC 5280 §4.2.1.2 (1)
(key id)::

    u8 type      3 security.ima, 5 portable security.evm, 6 security.ima over fs-verity
    u8 version   2: the digest is signed; 3: the hash of { u8 type, u8 hash, digest }
    u8 hash      enum hash_algo
    be32 key id  last four bytes of the SHA-1 of the public key
    be16 size
    signature

Only given keys count. A node's own keyrings prove nothing: whoever is root adds a key to them,
and that the kernel measured the key (:mod:`bootlease.ima.keyrings`) does not make it good. The
key id, four bytes, only says which keys to try.

Not handled: version 1 (no hash in the header), EC-RDSA and SM2, hashes below SHA-256.
"""

from __future__ import annotations

import enum
import struct
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima.entry import DigestType
from bootlease.ima.modsig import parse_modsig
from bootlease.model import Finding, HashAlg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bootlease.ima.entry import IMADigest, Measurement

MIN_RSA_BITS: Final = 2048
MIN_ECC_BITS: Final = 256
MAX_SIGNATURE: Final = 1024
"""RSA-8192; the kernel's xattrs hold less."""

_HEADER: Final = struct.Struct(">BBB4sH")
_FILE_ID: Final = struct.Struct("BB")
_INODE: Final = struct.Struct("<8x4xIIH2x")
"""``h_misc`` of a 64-bit kernel, inode and generation zero as in portable signatures."""

_SECURITY_IMA: Final = b"security.ima"
_DIGEST_NG: Final = 4
_OVER_FILE_ID: Final = 3
_VERSIONS: Final = (2, _OVER_FILE_ID)
_KEY_ID_SIZE: Final = 4

HASH_ALGO_NUMBERS: Final = {
    2: HashAlg.SHA1,
    4: HashAlg.SHA256,
    5: HashAlg.SHA384,
    6: HashAlg.SHA512,
    17: HashAlg.SM3_256,
    20: HashAlg.SHA3_256,
    21: HashAlg.SHA3_384,
    22: HashAlg.SHA3_512,
}
"""``enum hash_algo`` of ``include/uapi/linux/hash_info.h``, as far as PCR banks use it."""

_NUMBERS: Final = {alg: number for number, alg in HASH_ALGO_NUMBERS.items()}

_PREHASHED: Final[Mapping[HashAlg, Callable[[], hashes.HashAlgorithm]]] = {
    HashAlg.SHA256: hashes.SHA256,
    HashAlg.SHA384: hashes.SHA384,
    HashAlg.SHA512: hashes.SHA512,
    HashAlg.SHA3_256: hashes.SHA3_256,
    HashAlg.SHA3_384: hashes.SHA3_384,
    HashAlg.SHA3_512: hashes.SHA3_512,
}
"""Hashes under which a signature counts: SHA-1 can be forged, and no key here is of SM2."""


class SignatureType(enum.IntEnum):
    """What a signature in an extended attribute is over (``enum evm_ima_xattr_type``)."""

    FILE = 3
    PORTABLE = 5
    VERITY = 6


@dataclass(frozen=True, slots=True)
class FileSignature:
    """A parsed signature, unverified.

    Attributes:
        type: What it is over.
        version: 2 or 3.
        alg: The hash, ``None`` for one that no PCR bank uses.
        key_id: Four bytes that say which key to try.
        signature: The signature itself.
    """

    type: SignatureType
    version: int
    alg: HashAlg | None
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class FileSigner:
    """A public key whose signatures of files count.

    Attributes:
        name: What findings call it.
        key: The key.
        key_ids: The ids under which signatures name it.
    """

    name: str
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    key_ids: frozenset[bytes]

    @classmethod
    def of_key(cls, name: str, spki: bytes) -> FileSigner:
        """Return the signer of a DER SubjectPublicKeyInfo.

        Raises:
            MalformedError: It is none, or of a kind or size that does not count.
        """
        try:
            key = load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise MalformedError(f"the key of {name} cannot be read: {exc}") from exc
        return cls._of(name, key, frozenset())

    @classmethod
    def of_certificate(cls, name: str, certificate: bytes) -> FileSigner:
        """Return the signer of a DER certificate; its validity and issuer do not matter.

        Raises:
            MalformedError: It is none, or its key is of a kind or size that does not count.
        """
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            key = parsed.public_key()
            extension = parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            own = frozenset({extension.value.digest[-_KEY_ID_SIZE:]})
        except x509.ExtensionNotFound:
            own = frozenset()
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as exc:
            raise MalformedError(f"the certificate of {name} cannot be read: {exc}") from exc
        return cls._of(name, key, own)

    @classmethod
    def _of(cls, name: str, key: object, ids: frozenset[bytes]) -> FileSigner:
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise MalformedError(f"the key of {name} is neither RSA nor of an elliptic curve")
        least = MIN_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else MIN_ECC_BITS
        if key.key_size < least:
            raise MalformedError(f"the key of {name} has {key.key_size} bits")
        key_id = x509.SubjectKeyIdentifier.from_public_key(key).digest[-_KEY_ID_SIZE:]
        return cls(name, key, ids | {key_id})


class FileSigners:
    """Keys whose signatures count, found by their ids.

    Args:
        signers: The keys.
    """

    __slots__ = ("_by_id", "all")

    def __init__(self, signers: Iterable[FileSigner]) -> None:
        self.all: Final = tuple(signers)
        by_id: defaultdict[bytes, tuple[FileSigner, ...]] = defaultdict(tuple)
        for signer in self.all:
            for key_id in signer.key_ids:
                by_id[key_id] += (signer,)
        self._by_id: Final = dict(by_id)

    def named(self, key_id: bytes) -> tuple[FileSigner, ...]:
        """Return the keys that have an id; several may."""
        return self._by_id.get(key_id, ())


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature of a measured file that a given key made.

    Attributes:
        signer: Name of the key.
        alg: Hash under which it was made.
        portable: Owner, mode and extended attributes of the file are signed too.
    """

    signer: str
    alg: HashAlg
    portable: bool = False


def parse_file_signature(data: bytes) -> FileSignature:
    """Read the value of a ``security.ima`` or ``security.evm`` that holds a signature.

    Args:
        data: Unverified bytes.

    Raises:
        MalformedError: They are no signature of version 2 or 3.
    """
    if len(data) <= _HEADER.size or len(data) > _HEADER.size + MAX_SIGNATURE:
        raise MalformedError(f"a file signature of {len(data)} bytes")
    kind, version, number, key_id, size = _HEADER.unpack_from(data)
    if size != len(data) - _HEADER.size:
        raise MalformedError(f"a file signature that says it has {size} bytes")
    try:
        signature_type = SignatureType(kind)
    except ValueError as exc:
        raise MalformedError(f"an extended attribute of type {kind} is no signature") from exc
    versions = (_OVER_FILE_ID,) if signature_type is SignatureType.VERITY else _VERSIONS
    if version not in versions:
        raise MalformedError(f"a file signature of version {version}")
    alg = HASH_ALGO_NUMBERS.get(number)
    return FileSignature(signature_type, version, alg, key_id, data[_HEADER.size :])


def verify_signature(measurement: Measurement, signers: FileSigners) -> VerifiedSignature:
    """Verify that a given key signed what was measured.

    Proves that the holder of the key signed this digest; of a portable signature also the owner,
    mode and extended attributes. Does not prove under which name, nor when: an old version of
    a file keeps its signature. The entry must be attested, and no violation.

    Args:
        measurement: What an attested entry says; one of its signatures is enough.
        signers: Keys that count.

    Raises:
        VerificationError: It has no signature, or none of them verifies; one finding for each.
    """
    ways = (
        (measurement.signature, _verify_xattr),
        (measurement.evm_signature, _verify_xattr),
        (measurement.modsig, _verify_modsig),
    )
    findings: list[Finding] = []
    for data, verify in ways:
        if not data:
            continue
        try:
            return verify(measurement, data, signers)
        except VerificationError as exc:
            findings.extend(exc.findings)
    raise VerificationError(*(findings or [_finding("missing", "the file is not signed")]))


def _verify_xattr(measurement: Measurement, data: bytes, signers: FileSigners) -> VerifiedSignature:
    try:
        signature = parse_file_signature(data)
    except MalformedError as exc:
        raise VerificationError(_finding("malformed", str(exc))) from exc
    alg = signature.alg
    if alg is None or alg not in _PREHASHED:
        raise VerificationError(_WEAK_HASH)
    digest = _signed_digest(measurement, signature, alg)
    if signature.version == _OVER_FILE_ID:
        digest = alg.digest(_FILE_ID.pack(signature.type, _NUMBERS[alg]) + digest)
    signer = _find_signer(signers.named(signature.key_id), alg, digest, signature.signature)
    portable = signature.type is SignatureType.PORTABLE
    return VerifiedSignature(signer.name, alg, portable=portable)


def _signed_digest(measurement: Measurement, signature: FileSignature, alg: HashAlg) -> bytes:
    """Return the digest that a signature must be over."""
    digest = measurement.digest
    if signature.type is SignatureType.PORTABLE:
        return _portable_digest(measurement, alg)
    wanted = (
        DigestType.VERITY if signature.type is SignatureType.VERITY else DigestType.IMA,
        alg.label,
    )
    # The kernel hashes the file under the signature's hash; another was not signed (E11).
    if digest is None or digest[:2] != wanted:
        raise VerificationError(
            _finding("other-digest", "the file's signature is over another kind of digest")
        )
    return digest.value


def _portable_digest(measurement: Measurement, alg: HashAlg) -> bytes:
    """Return what a portable signature is over, if ``security.ima`` in it is what was measured."""
    uid, gid, mode = measurement.uid, measurement.gid, measurement.mode
    if uid is None or gid is None or mode is None:
        raise VerificationError(
            _finding("unverifiable", "the entry does not have what its portable signature is over")
        )
    xattrs = dict(measurement.xattrs)
    digest = measurement.digest
    if digest is None or not _is_digest_xattr(xattrs.get(_SECURITY_IMA, b""), digest):
        # Without it the signature is over the file's attributes only, not over its content.
        raise VerificationError(
            _finding("other-digest", "the file's portable signature is over another digest")
        )
    inode = _INODE.pack(uid, gid, mode)
    return alg.digest(b"".join(value for _, value in measurement.xattrs) + inode)


def _is_digest_xattr(value: bytes, digest: IMADigest) -> bool:
    """Tell whether a ``security.ima`` holds this digest (``IMA_XATTR_DIGEST_NG``)."""
    alg = HASH_ALGO_NUMBERS.get(value[1]) if len(value) > 1 else None
    return (
        alg is not None
        and value[0] == _DIGEST_NG
        and digest == (DigestType.IMA, alg.label, value[2:])
    )


def _verify_modsig(
    measurement: Measurement, data: bytes, signers: FileSigners
) -> VerifiedSignature:
    content = measurement.modsig_digest
    try:
        infos = parse_modsig(data)
    except MalformedError as exc:
        raise VerificationError(_finding("malformed", str(exc))) from exc
    findings = []
    for info in infos:
        alg = info.alg
        if alg is None or alg not in _PREHASHED:
            findings.append(_WEAK_HASH)
            continue
        if content is None or content[:2] != (DigestType.IMA, alg.label):
            findings.append(
                _finding("other-digest", "the file's signature is over another kind of digest")
            )
            continue
        if info.attributes and info.message_digest != content.value:
            findings.append(_finding("invalid", "the file's signature is over other content"))
            continue
        digest = alg.digest(info.attributes) if info.attributes else content.value
        try:
            signer = _find_signer(signers.all, alg, digest, info.signature)
        except VerificationError as exc:
            findings.extend(exc.findings)
            continue
        return VerifiedSignature(signer.name, alg)
    raise VerificationError(*findings)


def _find_signer(
    candidates: tuple[FileSigner, ...], alg: HashAlg, digest: bytes, signature: bytes
) -> FileSigner:
    """Return the key among ``candidates`` that made a signature.

    Raises:
        VerificationError: There is none.
    """
    prehashed = Prehashed(_PREHASHED[alg]())
    for signer in candidates:
        try:
            if isinstance(signer.key, rsa.RSAPublicKey):
                signer.key.verify(signature, digest, padding.PKCS1v15(), prehashed)
            else:
                signer.key.verify(signature, digest, ec.ECDSA(prehashed))
        except InvalidSignature:
            continue
        return signer
    if not candidates:
        raise VerificationError(_finding("unknown-key", "no given key has the signature's key id"))
    raise VerificationError(_finding("invalid", "the file's signature is by no given key"))


def _finding(what: str, message: str) -> Finding:
    return Finding(f"ima.signature.{what}", message)


_WEAK_HASH: Final = _finding("weak-hash", "the file is signed under no hash that counts")
