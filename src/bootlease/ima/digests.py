"""Digests of measured files, which are of a type and an algorithm (attack E11).

Specification: Linux ``security/integrity/ima/ima_template_lib.c``
(``ima_eventdigest_init_common``), ``crypto/hash_info.c`` (names and sizes)::

    d          digest[20]
    d-ng       algorithm ":" NUL digest
    d-ngv2     ("ima" | "verity") ":" algorithm ":" NUL digest

Not handled: ``d`` fields of MD5.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.model import HashAlg

_SHA1_SIZE: Final = HashAlg.SHA1.size

DIGEST_SIZES: Final = {
    b"md4": 16,
    b"md5": 16,
    b"sha1": 20,
    b"rmd128": 16,
    b"rmd160": 20,
    b"rmd256": 32,
    b"rmd320": 40,
    b"sha224": 28,
    b"sha256": 32,
    b"sha384": 48,
    b"sha512": 64,
    b"wp256": 32,
    b"wp384": 48,
    b"wp512": 64,
    b"tgr128": 16,
    b"tgr160": 20,
    b"tgr192": 24,
    b"sm3": 32,
    b"sm3-256": 32,
    b"sm3_256": 32,
    b"streebog256": 32,
    b"streebog512": 64,
    b"sha3-256": 32,
    b"sha3-384": 48,
    b"sha3-512": 64,
}
"""Digest sizes by the kernel's ``hash_algo_name``, in the spellings of its versions."""

_LABELS: Final = {name: name.decode().replace("-", "_") for name in DIGEST_SIZES} | {
    b"sm3": "sm3_256"
}


class DigestType(enum.Enum):
    """What a digest is over: a file's bytes, or its fs-verity Merkle tree."""

    IMA = "ima"
    VERITY = "verity"


class IMADigest(NamedTuple):
    """A file's digest; two compare equal only with the same type and algorithm.

    Attributes:
        type: What it is over.
        alg: Algorithm, spelled as :attr:`HashAlg.label` does (``sha256``, ``sha3_256``); also
            ``md5`` and others that no PCR bank uses.
        value: The digest.
    """

    type: DigestType
    alg: str
    value: bytes

    def __str__(self) -> str:
        """Return ``sha256:<hex>``, or ``verity:sha256:<hex>``."""
        prefix = "verity:" if self.type is DigestType.VERITY else ""
        return f"{prefix}{self.alg}:{self.value.hex()}"


class Prefix(NamedTuple):
    """What stands before a digest: its type and algorithm, and whether ``d-ngv2`` writes it."""

    type: DigestType
    label: str
    size: int
    v2: bool


PREFIXES: Final = {
    b"".join((spelling, name, b":\0")): Prefix(kind, _LABELS[name], size, bool(spelling))
    for spelling, kind in (
        (b"", DigestType.IMA),
        *((f"{t.value}:".encode(), t) for t in DigestType),
    )
    for name, size in DIGEST_SIZES.items()
}
"""What ``d-ng`` and ``d-ngv2`` may start with."""


def parse_sha1(value: bytes) -> IMADigest:
    """Read a field ``d``.

    Raises:
        MalformedError: It is not as long as a SHA-1.
    """
    if len(value) != _SHA1_SIZE:
        raise MalformedError(f"a digest of {len(value)} bytes in a field for SHA-1")
    return IMADigest(DigestType.IMA, "sha1", value)


def parse_digest(value: bytes, *, v2: bool, violation: bool) -> IMADigest:
    """Read a field ``d-ng`` or ``d-ngv2``.

    Args:
        value: The field.
        v2: It is ``d-ngv2``.
        violation: The digest means nothing; kernels before 5.19 write 20 zeros, whatever the
            algorithm.

    Raises:
        MalformedError: It is none, or of a type or algorithm that Linux does not name.
    """
    start = value.find(0) + 1
    prefix = PREFIXES.get(value[:start])
    if prefix is None or prefix.v2 != v2:
        raise MalformedError("a digest of a type or algorithm that Linux does not name")
    digest = value[start:]
    if len(digest) != prefix.size and not (violation and len(digest) == _SHA1_SIZE):
        raise MalformedError(f"a {prefix.label} digest of {len(digest)} bytes")
    return IMADigest(prefix.type, prefix.label, digest)
