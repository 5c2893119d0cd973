"""Certified keys and signatures over certificates: which are known, and how they are checked.

Specifications: RFC 3279 §2.3 (RSA), RFC 4055 §3 (RSASSA-PSS), RFC 5480 §2.1 (ECC), RFC 5758 §3.2
(ECDSA with SHA-2).

Only RSA keys and the NIST curves: others are keys that nothing here can use, not malformed.
Explicit curve parameters, compressed points, MD5 and SHA-224 are not handled on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from bootlease.endorsement import der
from bootlease.endorsement.der import Element, Reader
from bootlease.endorsement.tolerance import Tolerance
from bootlease.errors import MalformedError

EKPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_MAX_EXPONENT_BITS: Final = 33

_RSA: Final = "1.2.840.113549.1.1.1"
_OAEP: Final = "1.2.840.113549.1.1.7"
_EC: Final = "1.2.840.10045.2.1"
_PSS: Final = "1.2.840.113549.1.1.10"
_MGF1: Final = "1.2.840.113549.1.1.8"
_MAX_SALT: Final = 64

_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
}
_PKCS1: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.5": hashes.SHA1(),  # noqa: S303 - told, and refused unless policy allows it
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_ECDSA: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.1": hashes.SHA1(),  # noqa: S303 - as above
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """How a certificate is signed; valid by construction.

    Attributes:
        oid: The algorithm.
        hash: What is signed over.
        salt: Length of the salt for RSASSA-PSS, ``None`` for another scheme.
        elliptic: The signature is ECDSA's.
    """

    oid: str
    hash: hashes.HashAlgorithm
    salt: int | None
    elliptic: bool

    @property
    def is_sha1(self) -> bool:
        """The signature is over SHA-1."""
        return isinstance(self.hash, hashes.SHA1)

    def signed_by(self, key: EKPublicKey | None, signature: bytes, data: bytes) -> bool:
        """Tell whether this key signed these bytes in this scheme."""
        try:
            if isinstance(key, rsa.RSAPublicKey) and not self.elliptic:
                scheme: padding.AsymmetricPadding = padding.PKCS1v15()
                if self.salt is not None:
                    scheme = padding.PSS(padding.MGF1(self.hash), self.salt)
                key.verify(signature, data, scheme, self.hash)
                return True
            if isinstance(key, ec.EllipticCurvePublicKey) and self.elliptic:
                key.verify(signature, data, ec.ECDSA(self.hash))
                return True
        except (InvalidSignature, ValueError):
            return False
        return False


def parse_scheme(element: Element, tolerated: set[Tolerance], what: str) -> SignatureScheme | None:
    """Parse an AlgorithmIdentifier of a signature; ``None`` if it is one that is not known."""
    reader = element.inside()
    oid = der.object_identifier(reader.take(der.OID, what), what)
    if oid in _PKCS1:
        _null(reader, what)
        return SignatureScheme(oid, _PKCS1[oid], None, elliptic=False)
    if oid in _ECDSA:
        if reader.next_tag() == der.NULL:
            _null(reader, what)
            tolerated.add(Tolerance.ECDSA_PARAMETERS)
        reader.finish(what)
        return SignatureScheme(oid, _ECDSA[oid], None, elliptic=True)
    if oid == _PSS:
        return _pss(reader.take(der.SEQUENCE, what).inside(), what)
    return None


def _pss(reader: Reader, what: str) -> SignatureScheme | None:
    # RFC 4055 §3.1: every default means SHA-1, so all of them must be overridden but the trailer.
    hash_id = reader.take(0xA0, what).inside().take(der.SEQUENCE, what)
    mask = reader.take(0xA1, what).inside().take(der.SEQUENCE, what).inside()
    salt = der.integer(reader.take(0xA2, what).inside().take(der.INTEGER, what), what)
    trailer = reader.optional(0xA3, what)
    if trailer is not None:
        number = der.integer(trailer.inside().take(der.INTEGER, what), what)
        if number != 1:
            return None
    reader.finish(what)
    algorithm = _hash(hash_id, what)
    is_mgf1 = der.object_identifier(mask.take(der.OID, what), what) == _MGF1
    same = _hash(mask.take(der.SEQUENCE, what), what) is algorithm
    if algorithm is None or not is_mgf1 or not same or not 0 <= salt <= _MAX_SALT:
        return None
    return SignatureScheme(_PSS, algorithm, salt, elliptic=False)


def _hash(element: Element, what: str) -> hashes.HashAlgorithm | None:
    return _HASHES.get(der.object_identifier(element.inside().take(der.OID, what), what))


def _null(reader: Reader, what: str) -> None:
    if reader.take(der.NULL, what).value:
        raise MalformedError(f"{what} has a NULL that holds something")
    reader.finish(what)


def parse_public_key(element: Element, tolerated: set[Tolerance]) -> EKPublicKey | None:
    """Parse a SubjectPublicKeyInfo.

    Returns:
        The key; ``None`` if it is of a kind that is not known.

    Raises:
        MalformedError: It is of a known kind, and no key of that kind.
    """
    what = "the certified key"
    reader = element.inside()
    algorithm = reader.take(der.SEQUENCE, what).inside()
    bits = reader.take(der.BIT_STRING, what)
    reader.finish(what)
    oid = der.object_identifier(algorithm.take(der.OID, what), what)
    if oid == _RSA:
        _null(algorithm, what)
        return _rsa(der.whole_bytes(bits, what))
    if oid == _OAEP:
        # RFC 4055 §4.1 allows it; its parameters bind whoever encrypts, as TPM2_MakeCredential
        # does in a way of its own.
        tolerated.add(Tolerance.OAEP_KEY)
        return _rsa(der.whole_bytes(bits, what))
    if oid == _EC and algorithm.next_tag() == der.OID:
        curve = _CURVES.get(der.object_identifier(algorithm.take(der.OID, what), what))
        algorithm.finish(what)
        return None if curve is None else _ec(curve, der.whole_bytes(bits, what))
    return None


def _rsa(encoded: bytes) -> rsa.RSAPublicKey:
    what = "the certified RSA key"
    reader = der.parse_one(encoded, der.SEQUENCE, what).inside()
    modulus = der.integer(reader.take(der.INTEGER, what), what)
    exponent = der.integer(reader.take(der.INTEGER, what), what)
    reader.finish(what)
    # B19: 0 stands for 65537 in a TPM's public area only; here it would be no key.
    if modulus.bit_length() > _MAX_RSA_BITS or exponent.bit_length() > _MAX_EXPONENT_BITS:
        raise MalformedError("the certified RSA key is larger than any that is in use")
    if modulus < 1 or exponent < 1:
        raise MalformedError("the certified RSA key is no key")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as exc:
        raise MalformedError("the certified RSA key is no key") from exc


def _ec(curve: ec.EllipticCurve, point: bytes) -> ec.EllipticCurvePublicKey:
    if point[:1] != b"\x04":
        raise MalformedError("the certified ECC key is no uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except ValueError as exc:
        raise MalformedError("the certified ECC key is no point of its curve") from exc
