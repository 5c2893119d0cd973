"""Signatures under a key whose scheme and hash are fixed.

Specifications: TPM 2.0 Library part 1 §B.6 and §B.7 (RSASSA, RSAPSS), §C.4.2 (ECDSA);
FIPS 186-5 §6.4.2 (range of r and s).

The scheme and the hash come from the key, never from the signature: a TPMT_SIGNATURE
that names another is refused before any arithmetic (A15, A16). ECDSA signatures are
malleable, (r, n-s) is as valid as (r, s): nothing may use signature bytes to recognise
a replay (A17). Not handled on purpose: every scheme but RSASSA, RSAPSS and ECDSA, and
SHA-1 with any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from bootlease import ecdsa
from bootlease.errors import VerificationError
from bootlease.model import Finding, HashAlg
from bootlease.tpm.algorithms import TPMAlg, TPMECCCurve, algorithm_name, hash_name
from bootlease.tpm.public import CURVE_BYTES, TPMSECCParms, TPMSECCPoint, TPMSRSAParms, TPMTPublic
from bootlease.tpm.signature import TPMSSignatureECC, TPMSSignatureRSA, TPMTSignature

SIGNATURE_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
    HashAlg.SHA512: hashes.SHA512(),
}
"""Hashes that may sign or name a key; SHA-1 is not among them (A16, B20)."""

SIGNATURE_SCHEMES: Final = frozenset(map(int, (TPMAlg.RSASSA, TPMAlg.RSAPSS, TPMAlg.ECDSA)))

_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    TPMECCCurve.NIST_P256: ec.SECP256R1(),
    TPMECCCurve.NIST_P384: ec.SECP384R1(),
    TPMECCCurve.NIST_P521: ec.SECP521R1(),
}
_ORDERS: Final[dict[str, int]] = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
        "581a0db248b0a77aecec196accc52973",
        16,
    ),
}
_ECDSA: Final[dict[int, ec.ECDSA]] = {
    HashAlg.SHA256: ecdsa.SHA256,
    HashAlg.SHA384: ecdsa.SHA384,
    HashAlg.SHA512: ecdsa.SHA512,
}
HASHERS: Final = {
    HashAlg.SHA256: hashlib.sha256,
    HashAlg.SHA384: hashlib.sha384,
    HashAlg.SHA512: hashlib.sha512,
}
"""What computes each of ``SIGNATURE_HASHES``."""
# A TPM salts with the digest's length or with all the room there is (part 1 §B.7).
_PSS: Final[dict[int, padding.PSS]] = {
    alg: padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
    for alg, digest in SIGNATURE_HASHES.items()
}
_PKCS1: Final = padding.PKCS1v15()


def load_public_key(public: TPMTPublic, role: str) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Load the key that a public area describes.

    Args:
        public: An unverified public area.
        role: First part of the findings' ids, for example ``ak``.

    Returns:
        The key; an EC point is known to lie on its curve.

    Raises:
        VerificationError: The curve is not supported, or the numbers are no such key.
    """
    parameters, unique = public.parameters, public.unique
    try:
        if isinstance(parameters, TPMSRSAParms):
            return _load_rsa(parameters, cast("bytes", unique), role)
        return _load_ecc(parameters, cast("TPMSECCPoint", unique), role)
    except ValueError as exc:
        raise VerificationError(
            Finding(f"{role}.key.invalid", f"The {role} public key is not a valid key: {exc}.")
        ) from exc


def _load_rsa(parameters: TPMSRSAParms, modulus: bytes, role: str) -> rsa.RSAPublicKey:
    number = int.from_bytes(modulus, "big")
    if number.bit_length() != parameters.key_bits or len(modulus) * 8 != parameters.key_bits:
        raise VerificationError(
            Finding(
                f"{role}.key.invalid",
                f"The {role} says keyBits {parameters.key_bits}, but its modulus has another size.",
                expected=str(parameters.key_bits),
                seen=str(number.bit_length()),
            )
        )
    return rsa.RSAPublicNumbers(parameters.public_exponent, number).public_key()


def _load_ecc(
    parameters: TPMSECCParms, point: TPMSECCPoint, role: str
) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(parameters.curve)
    if curve is None:
        raise VerificationError(
            Finding(
                f"{role}.curve.unsupported",
                f"The {role} is on a curve that is not supported.",
                expected="P-256 or P-384",
                seen=f"0x{parameters.curve:04x}",
            )
        )
    size = CURVE_BYTES[parameters.curve]
    encoded = b"\x04" + point.x.rjust(size, b"\0") + point.y.rjust(size, b"\0")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, encoded)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A loaded public key with the one scheme and the one hash it signs with.

    Attributes:
        key: The loaded key.
        scheme: RSASSA, RSAPSS or ECDSA.
        hash_alg: The scheme's hash.
        hasher: What computes it.
    """

    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    scheme: TPMAlg
    hash_alg: HashAlg
    hasher: Callable[[bytes], hashlib._Hash] = field(init=False, repr=False, compare=False)
    _order: int = field(init=False, repr=False, compare=False)
    _ecdsa: ec.ECDSA = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        is_ecc = isinstance(self.key, ec.EllipticCurvePublicKey)
        if is_ecc != (self.scheme == TPMAlg.ECDSA) or self.scheme not in SIGNATURE_SCHEMES:
            raise ValueError(f"scheme {self.scheme.name} does not fit the key")
        if self.hash_alg not in SIGNATURE_HASHES:
            raise ValueError(f"hash {self.hash_alg.label} does not sign")
        order = 0
        if is_ecc:
            curve = cast("ec.EllipticCurvePublicKey", self.key).curve.name
            order = _ORDERS.get(curve, 0)
            if not order:
                raise ValueError(f"curve {curve} does not sign")
        object.__setattr__(self, "_order", order)
        # Looked up once: hashing an enum member costs more than the bounds of a whole quote.
        object.__setattr__(self, "_ecdsa", _ECDSA[self.hash_alg])
        object.__setattr__(self, "hasher", HASHERS[self.hash_alg])

    def check(self, signature: TPMTSignature, message: bytes, subject: str) -> tuple[Finding, ...]:
        """Return what is wrong with a signature; nothing if it is this key's over ``message``.

        Args:
            signature: Unverified.
            message: What was signed, before hashing.
            subject: First part of the findings' ids, for example ``quote``.
        """
        body = signature.body
        if isinstance(body, bytes) or signature.alg != self.scheme:
            return (_scheme_finding(signature, self.scheme, subject),)
        if body.hash_alg != self.hash_alg:
            return (
                Finding(
                    f"{subject}.signature.hash-mismatch",
                    "The signature names another hash than the signing key's scheme.",
                    expected=self.hash_alg.label,
                    seen=hash_name(body.hash_alg),
                ),
            )
        try:
            if isinstance(body, TPMSSignatureECC):
                return self._check_ecdsa(body, message, subject)
            self._verify_rsa(body, message)
        except InvalidSignature:
            return (_invalid(subject),)
        return ()

    def _check_ecdsa(
        self, body: TPMSSignatureECC, message: bytes, subject: str
    ) -> tuple[Finding, ...]:
        r = int.from_bytes(body.r, "big")
        s = int.from_bytes(body.s, "big")
        # FIPS 186-5 §6.4.2 step 1; libraries differ on zeros and on values above n (A17).
        if not (0 < r < self._order and 0 < s < self._order):
            return (
                Finding(
                    f"{subject}.signature.range",
                    "The ECDSA signature holds a number outside 1 to n-1.",
                ),
            )
        key = cast("ec.EllipticCurvePublicKey", self.key)
        digest = self.hasher(message).digest()
        key.verify(ecdsa.der(body.r, body.s), digest, self._ecdsa)
        return ()

    def _verify_rsa(self, body: TPMSSignatureRSA, message: bytes) -> None:
        key = cast("rsa.RSAPublicKey", self.key)
        filling = _PSS[self.hash_alg] if self.scheme == TPMAlg.RSAPSS else _PKCS1
        key.verify(body.sig, message, filling, SIGNATURE_HASHES[self.hash_alg])


def _invalid(subject: str) -> Finding:
    return Finding(
        f"{subject}.signature.invalid",
        "The signature was not made by this key over these bytes.",
    )


def _scheme_finding(signature: TPMTSignature, wanted: TPMAlg, subject: str) -> Finding:
    seen = algorithm_name(signature.alg)
    if isinstance(signature.body, bytes):
        return Finding(
            f"{subject}.signature.scheme-refused",
            f"A signature of scheme {seen} proves nothing here.",
            expected=wanted.name,
            seen=seen,
        )
    return Finding(
        f"{subject}.signature.scheme-mismatch",
        "The signature is of another scheme than the signing key's.",
        expected=wanted.name,
        seen=seen,
    )
