"""MakeCredential in software, and its inverse for software keys.

Specification: TPM 2.0 Library part 1 §24 (credential protection), §11.4.10 (KDFa, KDFe),
§B.4 (RSAES_OAEP), §B.10.4 and §C.6.4 (secret sharing for credentials); part 2 §12.4
(TPMS_ID_OBJECT).

The label of the seed is ``IDENTITY``, the keys are derived with ``STORAGE`` (bound to the
object's name) and ``INTEGRITY``, all under the nameAlg of the EK (B22). Randomness is an
argument; only OAEP's padding is drawn by OpenSSL, which offers no other way.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from bootlease.errors import VerificationError
from bootlease.model import Finding, HashAlg
from bootlease.tpm.attest import MAX_DIGEST
from bootlease.tpm.endorsement_key import EndorsementKey, accept_endorsement_key
from bootlease.tpm.public import TPMSECCPoint, TPMTPublic
from bootlease.tpm.schemes import SIGNATURE_HASHES
from bootlease.tpm.signature import MAX_ECC_BYTES, MAX_RSA_BYTES
from bootlease.tpm.wire import Reader, sized

_IDENTITY: Final = b"IDENTITY\0"
_STORAGE: Final = b"STORAGE\0"
_INTEGRITY: Final = b"INTEGRITY\0"
_MAX_ID_OBJECT: Final = 2 + MAX_DIGEST + 2 + MAX_DIGEST
_MAX_SECRET: Final = max(MAX_RSA_BYTES, 2 * (2 + MAX_ECC_BYTES))
_ZERO_IV: Final = bytes(16)
_HASHLIB: Final = {HashAlg.SHA256: "sha256", HashAlg.SHA384: "sha384", HashAlg.SHA512: "sha512"}


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that only the TPM with the EK, holding the named object, can open.

    Attributes:
        id_object: TPM2B_ID_OBJECT, the ``credentialBlob`` of TPM2_ActivateCredential.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET, its ``secret``.
    """

    id_object: bytes
    encrypted_secret: bytes


def kdfa(hash_alg: HashAlg, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Derive ``bits`` (a multiple of 8) by KDFa (part 1 §11.4.10.2).

    Args:
        hash_alg: Hash of the HMAC.
        key: Its key.
        label: With its terminating zero.
        context: contextU || contextV.
        bits: How much to derive.
    """
    output = b""
    counter = 0
    suffix = label + context + struct.pack(">I", bits)
    while len(output) * 8 < bits:
        counter += 1
        block = struct.pack(">I", counter) + suffix
        output += hmac.digest(key, block, _HASHLIB[hash_alg])
    return output[: bits // 8]


def kdfe(hash_alg: HashAlg, shared: bytes, label: bytes, parties: bytes, bits: int) -> bytes:
    """Derive ``bits`` (a multiple of 8) by KDFe (part 1 §11.4.10.3).

    Args:
        hash_alg: The hash.
        shared: x coordinate of the shared point, padded to the curve's size.
        label: With its terminating zero.
        parties: partyUInfo || partyVInfo.
        bits: How much to derive.
    """
    output = b""
    counter = 0
    suffix = shared + label + parties
    while len(output) * 8 < bits:
        counter += 1
        output += hash_alg.digest(struct.pack(">I", counter) + suffix)
    return output[: bits // 8]


def _coordinate(value: int, curve: ec.EllipticCurve) -> bytes:
    return value.to_bytes((curve.key_size + 7) // 8, "big")


def _oaep(name_alg: HashAlg) -> padding.OAEP:
    digest = SIGNATURE_HASHES[name_alg]
    return padding.OAEP(padding.MGF1(digest), digest, _IDENTITY)


def _ecdh_seed(
    name_alg: HashAlg,
    private: ec.EllipticCurvePrivateKey,
    peer: ec.EllipticCurvePublicKey,
    ephemeral: ec.EllipticCurvePublicKey,
    static: ec.EllipticCurvePublicKey,
) -> bytes:
    shared = private.exchange(ec.ECDH(), peer)
    curve = static.curve
    parties = _coordinate(ephemeral.public_numbers().x, curve) + _coordinate(
        static.public_numbers().x, curve
    )
    return kdfe(name_alg, shared, _IDENTITY, parties, name_alg.size * 8)


def _keys(ek: TPMTPublic, seed: bytes, name: bytes) -> tuple[bytes, bytes]:
    name_alg = HashAlg(ek.name_alg)
    bits = ek.parameters.symmetric.key_bits or 0
    return (
        kdfa(name_alg, seed, _STORAGE, name, bits),
        kdfa(name_alg, seed, _INTEGRITY, b"", name_alg.size * 8),
    )


def make_credential(
    ek: TPMTPublic | EndorsementKey,
    name: bytes,
    secret: bytes,
    *,
    seed: bytes | None = None,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
) -> Credential:
    """Encrypt ``secret`` for the TPM that has the EK and an object of this name.

    A TPM that returns the secret has both at once. The caller must have recomputed the
    name from the object's public area (B4), give the secret out once, and compare the
    answer in constant time (B6).

    Args:
        ek: The EK; an unverified public area is accepted first.
        name: Name of the object (of the attestation key).
        secret: At most as long as a digest of the EK's nameAlg.
        seed: For an RSA EK, as many random bytes as a digest of its nameAlg has.
        ephemeral: For an ECC EK, a fresh key on its curve.

    Returns:
        What TPM2_ActivateCredential takes.

    Raises:
        VerificationError: The EK is not acceptable.
        ValueError: Secret, seed or ephemeral key has not the form described.
    """
    accepted = ek if isinstance(ek, EndorsementKey) else accept_endorsement_key(ek)
    name_alg = HashAlg(accepted.public.name_alg)
    if not 0 < len(secret) <= name_alg.size:
        raise ValueError(f"the secret must have 1 to {name_alg.size} bytes")
    if isinstance(accepted.key, rsa.RSAPublicKey):
        if seed is None or len(seed) != name_alg.size:
            raise ValueError(f"an RSA EK needs a seed of {name_alg.size} bytes")
        encrypted = accepted.key.encrypt(seed, _oaep(name_alg))
    else:
        if ephemeral is None or ephemeral.curve.name != accepted.key.curve.name:
            raise ValueError(f"an ECC EK needs an ephemeral key on {accepted.key.curve.name}")
        point = ephemeral.public_key()
        seed = _ecdh_seed(name_alg, ephemeral, accepted.key, point, accepted.key)
        numbers = point.public_numbers()
        encrypted = TPMSECCPoint(
            _coordinate(numbers.x, point.curve), _coordinate(numbers.y, point.curve)
        ).marshal()
    storage, integrity = _keys(accepted.public, seed, name)
    cipher = Cipher(AES(storage), CFB(_ZERO_IV)).encryptor()
    identity = cipher.update(sized(secret)) + cipher.finalize()
    outer = hmac.digest(integrity, identity + name, _HASHLIB[name_alg])
    return Credential(sized(sized(outer) + identity), sized(encrypted))


def activate_credential(
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    ek_public: TPMTPublic,
    name: bytes,
    credential: Credential,
) -> bytes:
    """Do what TPM2_ActivateCredential does, with an EK that is held in software.

    Args:
        private_key: The EK's private key.
        ek_public: The EK's public area.
        name: Name of the object for which the credential must be meant.
        credential: Untrusted.

    Returns:
        The secret.

    Raises:
        MalformedError: The credential has not its structure.
        VerificationError: It was made for another EK or another name.
    """
    accepted = accept_endorsement_key(ek_public)
    name_alg = HashAlg(ek_public.name_alg)
    outer = Reader(credential.id_object)
    blob = Reader(outer.sized(_MAX_ID_OBJECT))
    outer.finish()
    integrity_tag, identity = blob.sized(MAX_DIGEST), blob.rest()
    wrapped = Reader(credential.encrypted_secret)
    encrypted = wrapped.sized(_MAX_SECRET)
    wrapped.finish()
    seed = _unwrap(private_key, accepted, encrypted)
    storage, integrity = _keys(ek_public, seed, name)
    expected = hmac.digest(integrity, identity + name, _HASHLIB[name_alg])
    if not hmac.compare_digest(expected, integrity_tag):
        raise VerificationError(_activation_finding())
    cipher = Cipher(AES(storage), CFB(_ZERO_IV)).decryptor()
    plain = Reader(cipher.update(identity) + cipher.finalize())
    secret = plain.sized(name_alg.size)
    plain.finish()
    return secret


def _unwrap(
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    ek: EndorsementKey,
    encrypted: bytes,
) -> bytes:
    name_alg = HashAlg(ek.public.name_alg)
    try:
        if isinstance(private_key, rsa.RSAPrivateKey):
            return private_key.decrypt(encrypted, _oaep(name_alg))
        reader = Reader(encrypted)
        x = int.from_bytes(reader.sized(MAX_ECC_BYTES), "big")
        y = int.from_bytes(reader.sized(MAX_ECC_BYTES), "big")
        reader.finish()
        ephemeral = ec.EllipticCurvePublicNumbers(x, y, private_key.curve).public_key()
        static = private_key.public_key()
        return _ecdh_seed(name_alg, private_key, ephemeral, ephemeral, static)
    except ValueError as exc:
        raise VerificationError(_activation_finding()) from exc


def _activation_finding() -> Finding:
    return Finding(
        "credential.integrity",
        "The credential was made for another endorsement key or another object.",
    )
