"""TPMT_PUBLIC: the public area of a key, its name and its qualified name.

Specification: TPM 2.0 Library part 2 §12.2.4 (TPMT_PUBLIC), §12.2.3.5 (RSA and ECC
parameters), §11.2.4.5 (TPMS_ECC_POINT), §11.1.7 (TPMT_SYM_DEF_OBJECT); part 1 §16
(names and qualified names)::

    type u16 | nameAlg u16 | objectAttributes u32 | authPolicy 2B | parameters | unique
    RSA parameters: symmetric, scheme, keyBits u16, exponent u32;    unique: modulus 2B
    ECC parameters: symmetric, scheme, curveID u16, kdf;             unique: x 2B, y 2B

A parsed key is unverified: what makes it acceptable is in ``keys``. Curves, sizes and
schemes that cannot be used are parsed all the same, so that they are refused with a
finding. Not handled on purpose: KEYEDHASH and SYMCIPHER objects, which are no keys to
verify with.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import or_
from typing import Final

from bootlease.errors import MalformedError
from bootlease.frozen import quick_init
from bootlease.model import HashAlg
from bootlease.tpm.algorithms import TPMRH, TPMAlg, TPMAObject, TPMECCCurve, algorithm_name
from bootlease.tpm.signature import MAX_ECC_BYTES, MAX_RSA_BYTES
from bootlease.tpm.wire import Reader, sized, u16, u32

MAX_POLICY: Final = 64

DEFAULT_EXPONENT: Final = 65537
CURVE_BYTES: Final[dict[int, int]] = {
    TPMECCCurve.NIST_P256: 32,
    TPMECCCurve.NIST_P384: 48,
    TPMECCCurve.NIST_P521: 66,
}
"""Bytes of a coordinate, for the curves that can be used."""

_HEAD: Final = struct.Struct(">HHI")
_PLAIN_COORDINATE: Final = 32
_PLAIN_POINT: Final = struct.Struct(">H32sH32s")
_NO_POINT: Final = bytes(4)
_MAX_REMEMBERED: Final = 128
"""Anybody can send keys: what is kept of them is bounded in number and in size."""
_KNOWN_ATTRIBUTES: Final = int(reduce(or_, TPMAObject))
_SYMMETRIC: Final = frozenset(
    map(int, (TPMAlg.AES, TPMAlg.SM4, TPMAlg.CAMELLIA, TPMAlg.TDES)),
)
_SCHEMES_WITHOUT_HASH: Final = frozenset(map(int, (TPMAlg.NULL, TPMAlg.RSAES)))
_SCHEMES_WITH_HASH: Final = frozenset(
    map(
        int,
        (
            TPMAlg.RSASSA,
            TPMAlg.RSAPSS,
            TPMAlg.OAEP,
            TPMAlg.ECDSA,
            TPMAlg.ECDH,
            TPMAlg.ECDAA,
            TPMAlg.SM2,
            TPMAlg.ECSCHNORR,
            TPMAlg.ECMQV,
        ),
    )
)
_KDFS: Final = frozenset(
    map(int, (TPMAlg.MGF1, TPMAlg.KDF1_SP800_56A, TPMAlg.KDF2, TPMAlg.KDF1_SP800_108))
)


@dataclass(frozen=True, slots=True)
class TPMTSymDefObject:
    """TPMT_SYM_DEF_OBJECT: how a storage key protects its children; NULL for others."""

    alg: int = TPMAlg.NULL
    key_bits: int | None = None
    mode: int | None = None

    def marshal(self) -> bytes:
        """Return the wire form."""
        if self.key_bits is None or self.mode is None:
            return u16(self.alg)
        return u16(self.alg) + u16(self.key_bits) + u16(self.mode)


@dataclass(frozen=True, slots=True)
class TPMTAsymScheme:
    """TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME: an algorithm with its hash.

    Attributes:
        alg: The scheme's TPM_ALG_ID; NULL if the key leaves it open.
        hash_alg: Its hash, where the scheme has one.
        count: Commit counter, ECDAA only.
    """

    alg: int = TPMAlg.NULL
    hash_alg: int | None = None
    count: int | None = None

    def marshal(self) -> bytes:
        """Return the wire form."""
        parts = (self.alg, self.hash_alg, self.count)
        return b"".join(u16(part) for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class TPMSRSAParms:
    """TPMS_RSA_PARMS.

    Attributes:
        symmetric: Protection of children.
        scheme: Signing or encryption scheme.
        key_bits: Size of the modulus.
        exponent: As on the wire, where 0 stands for 65537.
    """

    symmetric: TPMTSymDefObject
    scheme: TPMTAsymScheme
    key_bits: int
    exponent: int = 0

    @property
    def public_exponent(self) -> int:
        """The exponent that is meant (part 2 §12.2.3.5: 0 is 65537)."""
        return self.exponent or DEFAULT_EXPONENT

    def marshal(self) -> bytes:
        """Return the wire form."""
        return (
            self.symmetric.marshal()
            + self.scheme.marshal()
            + u16(self.key_bits)
            + u32(self.exponent)
        )


@dataclass(frozen=True, slots=True)
class TPMSECCParms:
    """TPMS_ECC_PARMS; ``curve`` is a ``TPMECCCurve`` value, or the number that was read."""

    symmetric: TPMTSymDefObject
    scheme: TPMTAsymScheme
    curve: int
    kdf: TPMTAsymScheme

    def marshal(self) -> bytes:
        """Return the wire form."""
        return (
            self.symmetric.marshal() + self.scheme.marshal() + u16(self.curve) + self.kdf.marshal()
        )


@dataclass(frozen=True, slots=True)
class TPMSECCPoint:
    """TPMS_ECC_POINT: coordinates, big-endian, as on the wire."""

    x: bytes
    y: bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        return sized(self.x) + sized(self.y)


@quick_init
@dataclass(frozen=True, slots=True)
class TPMTPublic:
    """TPMT_PUBLIC, unverified.

    Attributes:
        name_alg: Hash of the key's name; a ``HashAlg`` value, or the number read.
        object_attributes: What the TPM lets the key do.
        auth_policy: Digest of the policy that authorises its use; may be empty.
        parameters: RSA or ECC parameters; they say the type.
        unique: The modulus, or the point.
        parsed: The bytes that it was parsed from, if it was.
    """

    name_alg: int
    object_attributes: TPMAObject
    auth_policy: bytes
    parameters: TPMSRSAParms | TPMSECCParms
    unique: bytes | TPMSECCPoint
    parsed: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def type(self) -> TPMAlg:
        """RSA or ECC."""
        return TPMAlg.RSA if isinstance(self.parameters, TPMSRSAParms) else TPMAlg.ECC

    def marshal(self) -> bytes:
        """Return TPMT_PUBLIC; for a parsed key, the very bytes that were parsed."""
        if self.parsed is not None:
            return self.parsed
        unique = self.unique
        return (
            _HEAD.pack(self.type, self.name_alg, self.object_attributes)
            + sized(self.auth_policy)
            + self.parameters.marshal()
            + (sized(unique) if isinstance(unique, bytes) else unique.marshal())
        )

    def marshal_2b(self) -> bytes:
        """Return TPM2B_PUBLIC."""
        return sized(self.marshal())

    @property
    def name(self) -> bytes:
        """The name: nameAlg || H(TPMT_PUBLIC), always recomputed, never taken on trust (B4).

        Raises:
            MalformedError: nameAlg is no hash algorithm that is known.
        """
        return u16(self.name_alg) + self._name_hash().digest(self.marshal())

    def qualified_name(self, parent: TPMRH | bytes = TPMRH.ENDORSEMENT) -> bytes:
        """Return nameAlg || H(qualified name of the parent || name) (part 1 §16).

        Args:
            parent: The hierarchy of a primary key, or the parent's qualified name.

        Raises:
            MalformedError: nameAlg is no hash algorithm that is known.
        """
        above = parent if isinstance(parent, bytes) else u32(parent)
        return u16(self.name_alg) + self._name_hash().digest(above + self.name)

    def _name_hash(self) -> HashAlg:
        try:
            return HashAlg(self.name_alg)
        except ValueError as exc:
            raise MalformedError(
                f"nameAlg {algorithm_name(self.name_alg)} is no known hash algorithm"
            ) from exc


def _read_symmetric(reader: Reader) -> TPMTSymDefObject:
    alg = reader.u16()
    if alg == TPMAlg.NULL:
        return TPMTSymDefObject()
    if alg not in _SYMMETRIC:
        raise MalformedError(
            f"symmetric algorithm {algorithm_name(alg)} is not one of an object",
            offset=reader.offset - 2,
        )
    return TPMTSymDefObject(alg, reader.u16(), reader.u16())


def _read_scheme(reader: Reader) -> TPMTAsymScheme:
    alg = reader.u16()
    if alg in _SCHEMES_WITHOUT_HASH:
        return TPMTAsymScheme(alg)
    if alg not in _SCHEMES_WITH_HASH:
        raise MalformedError(
            f"scheme {algorithm_name(alg)} is not one of an asymmetric key",
            offset=reader.offset - 2,
        )
    hash_alg = reader.u16()
    return TPMTAsymScheme(alg, hash_alg, reader.u16() if alg == TPMAlg.ECDAA else None)


def _read_kdf(reader: Reader) -> TPMTAsymScheme:
    alg = reader.u16()
    if alg == TPMAlg.NULL:
        return TPMTAsymScheme(alg)
    if alg not in _KDFS:
        raise MalformedError(
            f"{algorithm_name(alg)} is not a key derivation scheme", offset=reader.offset - 2
        )
    return TPMTAsymScheme(alg, reader.u16())


def parse_public(data: bytes) -> TPMTPublic:
    """Parse TPMT_PUBLIC of an RSA or ECC key.

    Args:
        data: Untrusted bytes, without a TPM2B length.

    Returns:
        The unverified public area.

    Raises:
        MalformedError: The bytes have another form, or more follow.
    """
    return _parse_plain(data) or _parse_any(data)


def _parse_plain(data: bytes) -> TPMTPublic | None:
    """Cut off the point of a key on a curve of 256 bits; ``None`` where that does not succeed.

    A fleet's keys are of a few kinds, which are read once; only the point is another in each.
    """
    start = len(data) - _PLAIN_POINT.size
    if not 0 < start <= _MAX_REMEMBERED:
        return None
    x_size, x, y_size, y = _PLAIN_POINT.unpack_from(data, start)
    kind = _ecc_kind(bytes(data[:start])) if x_size == y_size == _PLAIN_COORDINATE else None
    if kind is None:
        return None
    public = TPMTPublic(*kind, TPMSECCPoint(x, y))
    object.__setattr__(public, "parsed", bytes(data))
    return public


@lru_cache(maxsize=256)
def _ecc_kind(head: bytes) -> tuple[int, TPMAObject, bytes, TPMSECCParms] | None:
    """Read TPMT_PUBLIC of an ECC key up to its point; ``None`` if that is not what it is."""
    try:
        public = _parse_any(head + _NO_POINT)
    except MalformedError:
        return None
    if not isinstance(public.parameters, TPMSECCParms) or public.unique != TPMSECCPoint(b"", b""):
        return None
    return public.name_alg, public.object_attributes, public.auth_policy, public.parameters


def _parse_any(data: bytes) -> TPMTPublic:
    reader = Reader(data)
    kind, name_alg, attributes = reader.unpack(_HEAD)
    # A TPM answers TPM_RC_RESERVED_BITS; and the enum must not grow with every input.
    if attributes & ~_KNOWN_ATTRIBUTES:
        raise MalformedError("objectAttributes has reserved bits set", offset=4)
    policy = reader.sized(MAX_POLICY)
    parameters: TPMSRSAParms | TPMSECCParms
    unique: bytes | TPMSECCPoint
    if kind == TPMAlg.RSA:
        parameters = TPMSRSAParms(
            _read_symmetric(reader), _read_scheme(reader), reader.u16(), reader.u32()
        )
        unique = reader.sized(MAX_RSA_BYTES)
    elif kind == TPMAlg.ECC:
        parameters = TPMSECCParms(
            _read_symmetric(reader), _read_scheme(reader), reader.u16(), _read_kdf(reader)
        )
        unique = TPMSECCPoint(reader.sized(MAX_ECC_BYTES), reader.sized(MAX_ECC_BYTES))
    else:
        raise MalformedError(f"type {algorithm_name(kind)} is neither RSA nor ECC", offset=0)
    reader.finish()
    public = TPMTPublic(name_alg, TPMAObject(attributes), policy, parameters, unique)
    # Its name is over them: marshalling anew could only give the same.
    object.__setattr__(public, "parsed", bytes(data))
    return public


def parse_public_2b(data: bytes) -> TPMTPublic:
    """Parse TPM2B_PUBLIC: a length, then TPMT_PUBLIC.

    Raises:
        MalformedError: The bytes have another form, or more follow.
    """
    reader = Reader(data)
    size = reader.u16()
    if size != len(data) - 2:
        raise MalformedError(f"length {size} does not match the {len(data) - 2} bytes that follow")
    return parse_public(reader.rest())


def parse_public_either(data: bytes) -> TPMTPublic:
    """Parse TPMT_PUBLIC or TPM2B_PUBLIC, whichever the first two bytes announce.

    No key that could be accepted is ambiguous: its TPMT_PUBLIC would have to be 3 or 37
    bytes long for its type to read as a length.

    Raises:
        MalformedError: The bytes have neither form.
    """
    if Reader(data).u16() == len(data) - 2:
        return parse_public_2b(data)
    return parse_public(data)


def ecc_public(
    x: int,
    y: int,
    curve: TPMECCCurve,
    *,
    attributes: TPMAObject,
    scheme: TPMTAsymScheme,
    name_alg: HashAlg = HashAlg.SHA256,
    auth_policy: bytes = b"",
    symmetric: TPMTSymDefObject | None = None,
) -> TPMTPublic:
    """Make the public area of an ECC key that is held in software.

    Args:
        x: Affine x coordinate.
        y: Affine y coordinate.
        curve: A NIST curve.
        attributes: What to say of the key.
        scheme: Its scheme.
        name_alg: Hash of its name.
        auth_policy: Its policy digest.
        symmetric: Protection of children, for a storage key.
    """
    size = CURVE_BYTES[curve]
    return TPMTPublic(
        name_alg,
        attributes,
        auth_policy,
        TPMSECCParms(symmetric or TPMTSymDefObject(), scheme, curve, TPMTAsymScheme()),
        TPMSECCPoint(x.to_bytes(size, "big"), y.to_bytes(size, "big")),
    )


def rsa_public(
    modulus: int,
    *,
    attributes: TPMAObject,
    scheme: TPMTAsymScheme,
    exponent: int = DEFAULT_EXPONENT,
    name_alg: HashAlg = HashAlg.SHA256,
    auth_policy: bytes = b"",
    symmetric: TPMTSymDefObject | None = None,
) -> TPMTPublic:
    """Make the public area of an RSA key that is held in software.

    Args:
        modulus: The modulus.
        attributes: What to say of the key.
        scheme: Its scheme.
        exponent: The exponent; 65537 is written as 0, as TPMs do.
        name_alg: Hash of its name.
        auth_policy: Its policy digest.
        symmetric: Protection of children, for a storage key.
    """
    bits = modulus.bit_length()
    return TPMTPublic(
        name_alg,
        attributes,
        auth_policy,
        TPMSRSAParms(
            symmetric or TPMTSymDefObject(),
            scheme,
            bits,
            0 if exponent == DEFAULT_EXPONENT else exponent,
        ),
        modulus.to_bytes((bits + 7) // 8, "big"),
    )
