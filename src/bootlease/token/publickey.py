"""Public keys as values, in their JOSE and COSE forms.

Specifications: RFC 7517, 7518 §6 and 8037 (JWK), RFC 9052 §7 and RFC 9053 §7, RFC 8230 §4
(COSE_Key), RFC 7638 (JWK thumbprint), RFC 9679 (COSE Key thumbprint).

Only what this project signs or confirms with: EC P-256 and P-384 with uncompressed points,
Ed25519, and RSA of 2048 to 4096 bits with exponent 65537. Private members are an error, not
ignored: a private key in a public place is a leak somebody must hear of.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.token import base64url

CryptographyPublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
"""The classes of the ``cryptography`` package that a ``PublicKey`` can stand for."""

RSA_EXPONENT: Final = 65537
_RSA_EXPONENT_BYTES: Final = b"\x01\x00\x01"
_RSA_SIZES: Final = (256, 384, 512)
_PRIVATE_JWK: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_KTY = 1
_OKP, _EC2, _RSA = 1, 2, 3


class KeyKind(enum.Enum):
    """A key type together with its curve."""

    P256 = "P-256"
    P384 = "P-384"
    ED25519 = "Ed25519"
    RSA = "RSA"


_SIZES: Final = {KeyKind.P256: 32, KeyKind.P384: 48, KeyKind.ED25519: 32}
_COSE_CURVES: Final = {KeyKind.P256: 1, KeyKind.P384: 2, KeyKind.ED25519: 6}
_EC_KINDS: Final = {1: KeyKind.P256, 2: KeyKind.P384}
_EC_NAMES: Final = {"P-256": KeyKind.P256, "P-384": KeyKind.P384}
_CURVES: Final = {KeyKind.P256: ec.SECP256R1, KeyKind.P384: ec.SECP384R1}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key by its parameters; comparing two compares the keys.

    That an EC point lies on its curve is checked by ``load``, not here.

    Attributes:
        kind: Key type and curve.
        parameters: ``(x, y)`` of an EC key, ``(x,)`` of Ed25519, ``(n, e)`` of RSA.
    """

    kind: KeyKind
    parameters: tuple[bytes, ...]
    _encoded: bytes | None = field(init=False, default=None, repr=False, compare=False)
    _thumbprint: bytes | None = field(init=False, default=None, repr=False, compare=False)

    def __hash__(self) -> int:
        # Byte strings keep their hash, and one set of parameters is of one kind in practice.
        return hash(self.parameters)

    def __post_init__(self) -> None:
        for parameter in self.parameters:
            if type(parameter) is not bytes:
                raise ValueError("a key parameter is not a byte string")
        size = _SIZES.get(self.kind)
        lengths = tuple(map(len, self.parameters))
        if size is None:
            if len(lengths) != 2 or lengths[0] not in _RSA_SIZES:  # noqa: PLR2004 - (n, e)
                raise ValueError("an RSA key has 2048, 3072 or 4096 bits")
            if self.parameters[0][0] < 0x80 or self.parameters[1] != _RSA_EXPONENT_BYTES:  # noqa: PLR2004 - top bit
                raise ValueError("an RSA key has a full modulus and the exponent 65537")
        elif lengths != ((size,) if self.kind is KeyKind.ED25519 else (size, size)):
            raise ValueError(f"a {self.kind.value} key has parameters of {size} bytes")

    @classmethod
    def from_cryptography(cls, key: object) -> PublicKey:
        """Take over a key of the ``cryptography`` package.

        Raises:
            ValueError: A type, curve or size that is not accepted.
        """
        if isinstance(key, ec.EllipticCurvePublicKey):
            kind = _EC_NAMES.get(
                {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name, "")
            )
            if kind is None:
                raise ValueError(f"curve {key.curve.name} is not accepted")
            numbers = key.public_numbers()
            size = _SIZES[kind]
            return cls(kind, (numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")))
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(KeyKind.ED25519, (key.public_bytes_raw(),))
        if isinstance(key, rsa.RSAPublicKey):
            modulus, exponent = key.public_numbers().n, key.public_numbers().e
            return cls(
                KeyKind.RSA,
                tuple(n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (modulus, exponent)),
            )
        raise ValueError("a key is EC, Ed25519 or RSA")

    @classmethod
    def from_jwk(cls, jwk: object) -> PublicKey:
        """Parse an unverified JWK; members that do not make the key are ignored.

        Raises:
            MalformedError: Not a public key of an accepted type.
        """
        if not isinstance(jwk, Mapping):
            raise MalformedError("JWK is not an object")
        if not _PRIVATE_JWK.isdisjoint(jwk):
            raise MalformedError("JWK holds private key material")
        kty = jwk.get("kty")
        if kty == "EC" and isinstance(curve := jwk.get("crv"), str) and curve in _EC_NAMES:
            return cls._made(_EC_NAMES[curve], _member(jwk, "x"), _member(jwk, "y"))
        if kty == "OKP" and jwk.get("crv") == "Ed25519":
            return cls._made(KeyKind.ED25519, _member(jwk, "x"))
        if kty == "RSA":
            return cls._made(KeyKind.RSA, _member(jwk, "n"), _member(jwk, "e"))
        raise MalformedError("JWK is not an EC P-256, EC P-384, Ed25519 or RSA key")

    @classmethod
    def from_cose(cls, key: object) -> PublicKey:
        """Parse an unverified COSE_Key map; labels that do not make the key are ignored.

        Raises:
            MalformedError: Not a public key of an accepted type.
        """
        if not isinstance(key, Mapping):
            raise MalformedError("COSE_Key is not a map")
        kty, first = key.get(_KTY), key.get(-1)
        if type(kty) is bool or type(first) is bool:  # true == 1 would pass for a type or a curve
            raise MalformedError("COSE_Key type or curve is not an integer")
        if kty == _EC2 and isinstance(first, int) and first in _EC_KINDS:
            _no_private(key, -4)
            return cls._made(_EC_KINDS[first], key.get(-2), key.get(-3))
        if kty == _OKP and first == _COSE_CURVES[KeyKind.ED25519]:
            _no_private(key, -4)
            return cls._made(KeyKind.ED25519, key.get(-2))
        if kty == _RSA:
            _no_private(key, -3)
            return cls._made(KeyKind.RSA, first, key.get(-2))
        raise MalformedError("COSE_Key is not an EC P-256, EC P-384, Ed25519 or RSA key")

    @classmethod
    def _made(cls, kind: KeyKind, *parameters: Any) -> PublicKey:  # noqa: ANN401 - unverified
        try:
            return cls(kind, parameters)
        except ValueError as exc:
            raise MalformedError(str(exc)) from exc

    def jwk(self) -> dict[str, str]:
        """Return the JWK with its required members, in the order RFC 7638 hashes them."""
        texts = [base64url.encode(parameter) for parameter in self.parameters]
        if self.kind is KeyKind.RSA:
            return {"e": texts[1], "kty": "RSA", "n": texts[0]}
        if self.kind is KeyKind.ED25519:
            return {"crv": "Ed25519", "kty": "OKP", "x": texts[0]}
        return {"crv": self.kind.value, "kty": "EC", "x": texts[0], "y": texts[1]}

    def cose(self) -> dict[int, int | bytes]:
        """Return the COSE_Key map with its required labels."""
        if self.kind is KeyKind.RSA:
            return {1: _RSA, -1: self.parameters[0], -2: self.parameters[1]}
        if self.kind is KeyKind.ED25519:
            return {1: _OKP, -1: _COSE_CURVES[self.kind], -2: self.parameters[0]}
        return {
            1: _EC2,
            -1: _COSE_CURVES[self.kind],
            -2: self.parameters[0],
            -3: self.parameters[1],
        }

    def encoded(self) -> bytes:
        """Return the deterministic CBOR of ``cose()``, made once."""
        encoded = self._encoded
        if encoded is None:
            if self.kind is KeyKind.P256:  # nearly every key: written out
                x, y = self.parameters
                encoded = b"\xa4\x01\x02\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y
            else:
                encoded = cbor.encode(self.cose())
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def thumbprint(self) -> bytes:
        """Return the SHA-256 JWK thumbprint (RFC 7638), made once: its identity everywhere here."""
        thumbprint = self._thumbprint
        if thumbprint is None:
            members = ",".join(f'"{name}":"{value}"' for name, value in self.jwk().items())
            thumbprint = hashlib.sha256(f"{{{members}}}".encode()).digest()
            object.__setattr__(self, "_thumbprint", thumbprint)
        return thumbprint

    def cose_thumbprint(self) -> bytes:
        """Return the SHA-256 COSE Key thumbprint (RFC 9679)."""
        return hashlib.sha256(self.encoded()).digest()

    def load(self) -> CryptographyPublicKey:
        """Return the key as an object of the ``cryptography`` package.

        Raises:
            MalformedError: The parameters name no key, for example a point off its curve.
        """
        try:
            return _load(self)
        except ValueError as exc:
            raise MalformedError(f"{self.kind.value} key is not valid") from exc

    def load_jose(self) -> Key:
        """Return the key as an object of the ``joserfc`` package.

        Raises:
            MalformedError: The parameters name no key, for example a point off its curve.
        """
        return _load_jose(self)


@functools.lru_cache(maxsize=1024)
def _load(key: PublicKey) -> CryptographyPublicKey:
    # Decoding a point costs as much as verifying with it; a holder proves possession many times.
    if key.kind is KeyKind.ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(key.parameters[0])
    first, second = (int.from_bytes(parameter, "big") for parameter in key.parameters)
    if key.kind is KeyKind.RSA:
        return rsa.RSAPublicNumbers(second, first).public_key()
    return ec.EllipticCurvePublicNumbers(first, second, _CURVES[key.kind]()).public_key()


@functools.lru_cache(maxsize=1024)
def _load_jose(key: PublicKey) -> Key:
    loaded = key.load()
    if isinstance(loaded, ec.EllipticCurvePublicKey):
        return ECKey.import_key(loaded)
    if isinstance(loaded, rsa.RSAPublicKey):
        return RSAKey.import_key(loaded)
    return OKPKey.import_key(loaded)


def _member(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if type(value) is not str:
        raise MalformedError(f"JWK lacks {name}")
    return base64url.decode(value)


def _no_private(key: Mapping[Any, Any], label: int) -> None:
    if label in key:
        raise MalformedError("COSE_Key holds private key material")
