"""Which key verifies a token, by which algorithm, and what signs one.

Specifications: RFC 7517 §5 (JWK Set), RFC 9052 §7 (COSE_KeySet), RFC 9864 (fully specified
algorithm identifiers), RFC 8725 §3.1 (algorithm verification).

The algorithm belongs to the key. What a token's header says is compared with it and never obeyed,
so ``alg: none`` and an HMAC over a public key have nothing to hold on to. A key's id is its
RFC 7638 thumbprint: as base64url text in JOSE, as the 32 raw bytes in COSE. An id that is not
the thumbprint is refused, so no key set can make one key answer to another's name.
"""

from __future__ import annotations

import abc
import enum
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from joserfc.jwk import Key

from bootlease import cbor, ecdsa
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url, strictjson
from bootlease.token.publickey import CryptographyPublicKey, KeyKind, PublicKey

MAX_KEY_SET_BYTES: Final = 64 * 1024
INVALID_SIGNATURE: Final = Finding(
    "token.signature.invalid", "The token's signature does not verify."
)

MAX_KEYS: Final = 64
"""A key set of one verifier: current, next and a few retired keys; bounds what a fetch may cost."""


class Algorithm(enum.Enum):
    """A signature algorithm; the value is its JOSE name."""

    ES256 = "ES256"
    ES384 = "ES384"
    ED25519 = "EdDSA"
    RS256 = "RS256"
    PS256 = "PS256"

    # A member is one of a kind; enum's own hash, by name, would cost every signature a call.
    __hash__ = object.__hash__

    @property
    def cose_id(self) -> int:
        """The COSE identifier that is written."""
        return _COSE_IDS[self][0]

    @property
    def cose_ids(self) -> tuple[int, ...]:
        """The COSE identifiers that are accepted: polymorphic and fully specified."""
        return _COSE_IDS[self]

    @property
    def jose_names(self) -> tuple[str, ...]:
        """The JOSE names that are accepted."""
        return ("EdDSA", "Ed25519") if self is Algorithm.ED25519 else (self.value,)


_COSE_IDS: Final = {
    Algorithm.ES256: (-7, -9),
    Algorithm.ES384: (-35, -51),
    Algorithm.ED25519: (-8, -19),
    Algorithm.RS256: (-257,),
    Algorithm.PS256: (-37,),
}
_ALGORITHMS: Final = {
    KeyKind.P256: (Algorithm.ES256,),
    KeyKind.P384: (Algorithm.ES384,),
    KeyKind.ED25519: (Algorithm.ED25519,),
    KeyKind.RSA: (Algorithm.RS256, Algorithm.PS256),
}
TOKEN_ALGORITHMS: Final = (Algorithm.ES256, Algorithm.ES384, Algorithm.ED25519)
"""What a verifier may sign tokens with; RSA is for confirmation keys that live in a TPM."""

_ECDSA: Final = {
    Algorithm.ES256: (hashlib.sha256, ecdsa.SHA256, 32),
    Algorithm.ES384: (hashlib.sha384, ecdsa.SHA384, 48),
}
_SHA256: Final = hashes.SHA256()
_PKCS1: Final = padding.PKCS1v15()


def algorithms_of(kind: KeyKind) -> tuple[Algorithm, ...]:
    """Return the algorithms that a key of this kind may be used with, the preferred one first."""
    return _ALGORITHMS[kind]


SignatureCheck = Callable[[bytes, bytes], bool]
"""Tells whether a signature, in its COSE form, is the key's over some data."""


def signature_check(key: CryptographyPublicKey, algorithm: Algorithm) -> SignatureCheck:
    """Return the check for one key and one algorithm, with every choice already made.

    The one place where a token's signature is tried, and any of COSE; joserfc tries the others of
    JOSE (``jws``). Callers turn ``False`` into the finding that belongs to their object.

    Raises:
        ValueError: The algorithm is not the key's, or is not one of COSE tokens.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
        return _ecdsa_check(key, algorithm)
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm is Algorithm.ED25519:
        return _ed25519_check(key)
    raise ValueError(f"{algorithm.value} is not an algorithm of this key")


def _ecdsa_check(key: ec.EllipticCurvePublicKey, algorithm: Algorithm) -> SignatureCheck:
    hasher, scheme, half = _ECDSA[algorithm]
    verify, der, size = key.verify, ecdsa.der, 2 * half

    def check(signature: bytes, data: bytes) -> bool:
        if len(signature) != size:
            return False
        try:
            verify(der(signature[:half], signature[half:]), hasher(data).digest(), scheme)
        except InvalidSignature:
            return False
        return True

    return check


def _ed25519_check(key: ed25519.Ed25519PublicKey) -> SignatureCheck:
    def check(signature: bytes, data: bytes) -> bool:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return check


class AlgorithmKey(Protocol):
    """A key with the one algorithm that it is for."""

    @property
    def public(self) -> PublicKey:
        """The public key, which verifies."""

    @property
    def algorithm(self) -> Algorithm:
        """The one algorithm."""

    @property
    def key_id(self) -> str:
        """The key's RFC 7638 thumbprint as base64url text."""


class Signer(AlgorithmKey, Protocol):
    """Whatever can sign for a key: a process, an HSM, a TPM."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; ECDSA signatures are r‖s of fixed length (RFC 7518 §3.4)."""


PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class PrivateKeySigner:
    """Signs with a private key held in this process."""

    __slots__ = ("_sign", "algorithm", "key_id", "public")

    def __init__(self, key: PrivateKey) -> None:
        """Wrap ``key``.

        Raises:
            ValueError: The key's type, curve or size is not accepted.
        """
        self.public = PublicKey.from_cryptography(key.public_key())
        self.algorithm = algorithms_of(self.public.kind)[0]
        self.key_id = base64url.encode(self.public.thumbprint())
        self._sign: Final = _signing(key, self.algorithm)

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``; see ``Signer``."""
        return self._sign(data)


def _signing(key: PrivateKey, algorithm: Algorithm) -> Callable[[bytes], bytes]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ecdsa_signing(key, algorithm)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    return lambda data: key.sign(data, _PKCS1, _SHA256)


def _ecdsa_signing(
    key: ec.EllipticCurvePrivateKey, algorithm: Algorithm
) -> Callable[[bytes], bytes]:
    hasher, scheme, size = _ECDSA[algorithm]
    sign, fixed = key.sign, ecdsa.fixed
    return lambda data: fixed(sign(hasher(data).digest(), scheme), size)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that may verify tokens.

    Attributes:
        public: The key.
        algorithm: The one algorithm it verifies.
        key_id: Its RFC 7638 thumbprint as base64url text.
        jose_key: The key as joserfc takes it.
    """

    public: PublicKey
    algorithm: Algorithm = field(init=False)
    key_id: str = field(init=False)
    jose_key: Key = field(init=False, repr=False, compare=False)
    _check: SignatureCheck = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        algorithm = algorithms_of(self.public.kind)[0]
        if algorithm not in TOKEN_ALGORITHMS:
            raise ValueError(f"{self.public.kind.value} keys do not sign tokens")
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "key_id", base64url.encode(self.public.thumbprint()))
        object.__setattr__(self, "_check", signature_check(self.public.load(), algorithm))
        object.__setattr__(self, "jose_key", self.public.load_jose())

    def verify(self, signature: bytes, data: bytes) -> None:
        """Prove that the holder of this key signed ``data``.

        Raises:
            VerificationError: It did not.
        """
        if not self._check(signature, data):
            raise VerificationError(INVALID_SIGNATURE)

    @classmethod
    def from_pem(cls, data: bytes) -> VerificationKey:
        """Parse a PEM SubjectPublicKeyInfo.

        Raises:
            MalformedError: Not a public key that may verify tokens.
        """
        try:
            return cls(PublicKey.from_cryptography(serialization.load_pem_public_key(data)))
        except (ValueError, TypeError) as exc:
            raise MalformedError(f"PEM public key: {exc}") from exc


Member = TypeVar("Member", bound=AlgorithmKey)
_Wire = TypeVar("_Wire")


class PublishedKeys(abc.ABC, Generic[Member]):
    """Keys for one purpose, as their owner publishes them; immutable."""

    __slots__ = ("_by_id", "keys")

    AT_MOST: ClassVar[int]
    """How many there may be."""

    def __init__(self, keys: tuple[Member, ...]) -> None:
        """Hold ``keys``.

        Raises:
            ValueError: There is no key, there are too many, or one is repeated.
        """
        self.keys: Final = keys
        self._by_id: Final = {key.key_id: key for key in keys}
        if not 0 < len(keys) <= self.AT_MOST:
            raise ValueError(f"a key set has 1 to {self.AT_MOST} keys")
        if len(self._by_id) != len(keys):
            raise ValueError("a key set holds a key twice")

    @staticmethod
    @abc.abstractmethod
    def member(public: PublicKey) -> Member:
        """Return the key for this purpose.

        Raises:
            ValueError: It is not for this purpose.
        """

    def get(self, key_id: str) -> Member | None:
        """Return the key with this id."""
        return self._by_id.get(key_id)

    def to_jwks(self) -> dict[str, Any]:
        """Return the JWK Set to publish."""
        return {
            "keys": [
                {**key.public.jwk(), "kid": key.key_id, "alg": key.algorithm.value, "use": "sig"}
                for key in self.keys
            ]
        }

    @classmethod
    def from_jwks(cls, data: bytes) -> Self:
        """Parse an unverified JWK Set; the caller vouches for where it came from.

        Raises:
            MalformedError: Not a set in which every key may verify what this one is for.
        """
        _bound(data)
        members = strictjson.parse_object(data).get("keys")
        if type(members) is not list or len(members) > cls.AT_MOST:
            raise MalformedError("JWK Set has no keys, or too many")
        return cls._read(members, cls._from_jwk)

    @classmethod
    def _read(cls, members: Sequence[_Wire], read: Callable[[_Wire], Member]) -> Self:
        try:
            return cls(tuple(map(read, members)))
        except ValueError as exc:
            raise MalformedError(str(exc)) from exc

    @classmethod
    def _from_jwk(cls, jwk: object) -> Member:
        key = cls.member(PublicKey.from_jwk(jwk))
        if not isinstance(jwk, dict) or jwk.get("kid") != key.key_id:
            raise MalformedError("a key id is not the key's RFC 7638 thumbprint")
        if jwk.get("alg", key.algorithm.value) not in key.algorithm.jose_names:
            raise MalformedError("a key's alg does not fit the key")
        if jwk.get("use", "sig") != "sig" or jwk.get("key_ops", ["verify"]) != ["verify"]:
            raise MalformedError("a key is not meant for signatures")
        return key


class KeySet(PublishedKeys[VerificationKey]):
    """The keys a relying party accepts tokens under; immutable."""

    __slots__ = ()

    AT_MOST = MAX_KEYS

    @staticmethod
    def member(public: PublicKey) -> VerificationKey:
        """Return the key as one of tokens; see ``PublishedKeys``."""
        return VerificationKey(public)

    def to_cose(self) -> bytes:
        """Return the COSE_KeySet to publish."""
        return cbor.encode(
            [
                {**key.public.cose(), 2: base64url.decode(key.key_id), 3: key.algorithm.cose_id}
                for key in self.keys
            ]
        )

    @classmethod
    def from_cose(cls, data: bytes) -> Self:
        """Parse an unverified COSE_KeySet; the caller vouches for where it came from.

        Raises:
            MalformedError: Not a set in which every key may verify tokens.
        """
        members = cbor.decode_foreign(data, max_bytes=MAX_KEY_SET_BYTES)
        if type(members) is not list:
            raise MalformedError("COSE_KeySet is not an array")
        return cls._read(members, cls._from_cose)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse an unverified JWK Set, COSE_KeySet or PEM public key, told apart by form.

        Raises:
            MalformedError: None of them.
        """
        _bound(data)
        if data.lstrip().startswith(b"{"):
            return cls.from_jwks(data)
        if data.lstrip().startswith(b"-----BEGIN"):
            return cls._read([data], VerificationKey.from_pem)
        return cls.from_cose(data)

    @classmethod
    def _from_cose(cls, value: object) -> VerificationKey:
        key = cls.member(PublicKey.from_cose(value))
        if not isinstance(value, dict) or value.get(2) != base64url.decode(key.key_id):
            raise MalformedError("a key id is not the key's RFC 7638 thumbprint")
        if value.get(3, key.algorithm.cose_id) not in key.algorithm.cose_ids:
            raise MalformedError("a key's alg does not fit the key")
        if value.get(4, [2]) != [2]:
            raise MalformedError("a key is not meant for signatures")
        return key


def _bound(data: bytes) -> None:
    if len(data) > MAX_KEY_SET_BYTES:
        raise MalformedError(f"key set is longer than {MAX_KEY_SET_BYTES} bytes")
