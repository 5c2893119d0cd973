"""Certificate revocation lists, as an operator supplies them.

Specifications: RFC 5280 §5 (profile), §6.3 (validation). A list is taken for one CA and all of its
certificates, and only with that CA's signature: ``TrustedRoots`` verifies it under a CA that the
operator pinned.

Not handled on purpose: lists for a part of a CA's certificates or of the reasons (issuing
distribution point), indirect lists and delta lists: each has a critical extension, and a list with
one is malformed here rather than half understood. Nothing is fetched.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from dataclasses import dataclass, field
from typing import Final

from bootlease.endorsement import der
from bootlease.endorsement.certificate import Certificate
from bootlease.endorsement.der import Element, Reader
from bootlease.endorsement.extensions import CRL_NUMBER, KeyUsage, raw_extensions
from bootlease.endorsement.names import name_key, shown
from bootlease.endorsement.publickey import SignatureScheme, parse_scheme
from bootlease.errors import MalformedError

MAX_CRL: Final = 2 * 1024 * 1024
MAX_REVOKED: Final = 65_536
_V2: Final = 1
_TIMES: Final = (der.UTC_TIME, der.GENERALIZED_TIME)


class CertificateStatus(enum.Enum):
    """What the revocation lists at hand say of one certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    OUTDATED = "outdated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A revocation list as presented: well formed, unverified.

    Attributes:
        fingerprint: SHA-256 of its DER.
        issuer: The CA's Name, DER.
        issuer_name: The same as ``name_key`` has it.
        this_update: When it was made.
        next_update: When the next will have been.
        number: Its number, 0 where none is stated.
        revoked: Serial numbers, their bytes.
    """

    fingerprint: bytes
    issuer: bytes
    issuer_name: bytes
    this_update: int
    next_update: int
    number: int
    revoked: frozenset[bytes] = field(repr=False)
    _signed: bytes = field(repr=False)
    _scheme: SignatureScheme | None = field(repr=False)
    _signature: bytes = field(repr=False)

    @property
    def issuer_text(self) -> str:
        """The CA, for people."""
        return shown(self.issuer)

    def signed_by(self, ca: Certificate) -> bool:
        """Tell whether this CA made it: name, right to sign lists, and signature over SHA-2."""
        return (
            ca.subject_name == self.issuer_name
            and ca.is_ca
            and ca.may(KeyUsage.CRL_SIGN)
            and self._scheme is not None
            and not self._scheme.is_sha1
            and self._scheme.signed_by(ca.public_key, self._signature, self._signed)
        )


# A store's lists are read again whenever the operator's decisions are.
@functools.lru_cache(maxsize=64)
def parse_revocation_list(data: bytes) -> RevocationList:
    """Parse an X.509 v2 revocation list, DER.

    Args:
        data: Unverified bytes.

    Raises:
        MalformedError: The bytes are no revocation list that this program can read.
    """
    if len(data) > MAX_CRL:
        raise MalformedError(f"a revocation list of {len(data)} bytes, more than {MAX_CRL}")
    what = "the revocation list"
    outer = der.parse_one(data, der.SEQUENCE, what).inside()
    signed = outer.take(der.SEQUENCE, what)
    algorithm = outer.take(der.SEQUENCE, what)
    signature = outer.take(der.BIT_STRING, "the signature")
    outer.finish(what)
    content = signed.inside()
    if der.integer(content.take(der.INTEGER, "the version"), "the version") != _V2:
        raise MalformedError("a revocation list is not of version 2")
    if content.take(der.SEQUENCE, what).encoded != algorithm.encoded:
        raise MalformedError("a revocation list names two signature algorithms")
    issuer = content.take(der.SEQUENCE, "the issuer")
    this_update = der.time(content.any("thisUpdate"), "thisUpdate")
    # RFC 5280 §5.1.2.5: without it nobody could tell an old list from the latest.
    if content.next_tag() not in _TIMES:
        raise MalformedError("a revocation list does not say when the next one comes")
    next_update = der.time(content.any("nextUpdate"), "nextUpdate")
    revoked = _revoked(content.optional(der.SEQUENCE, "the revoked certificates"))
    return RevocationList(
        fingerprint=hashlib.sha256(data).digest(),
        issuer=issuer.encoded,
        issuer_name=name_key(issuer, set(), "the issuer"),
        this_update=this_update,
        next_update=next_update,
        number=_number(content),
        revoked=revoked,
        _signed=signed.encoded,
        _scheme=parse_scheme(algorithm, set(), "the signature algorithm"),
        _signature=der.whole_bytes(signature, "the signature"),
    )


def _revoked(listed: Element | None) -> frozenset[bytes]:
    if listed is None:
        return frozenset()
    what = "a revoked certificate"
    serials: set[bytes] = set()
    for count, each in enumerate(listed.inside().rest(what)):
        if each.tag != der.SEQUENCE or count >= MAX_REVOKED:
            raise MalformedError(f"the revoked certificates are more than {MAX_REVOKED}, or none")
        entry = each.inside()
        serial = entry.take(der.INTEGER, what)
        der.integer(serial, what)
        serials.add(serial.value)
        der.time(entry.any(what), what)
        extensions = entry.optional(der.SEQUENCE, what)
        entry.finish(what)
        # §5.3.3: a certificateIssuer would make it another CA's certificate.
        if extensions is not None:
            _none_critical(extensions.inside(), what)
    return frozenset(serials)


def _number(content: Reader) -> int:
    what = "the extensions of the revocation list"
    stated = content.optional(0xA0, what)
    content.finish("the revocation list")
    if stated is None:
        return 0
    inner = stated.inside()
    extensions = raw_extensions(inner.take(der.SEQUENCE, what).inside(), what)
    inner.finish(what)
    if critical := [oid for oid, (is_critical, _) in extensions.items() if is_critical]:
        raise MalformedError(
            f"a revocation list has the critical extension {critical[0]}: partial, indirect and"
            " delta lists are not taken"
        )
    if CRL_NUMBER not in extensions:
        return 0
    number = der.parse_one(extensions[CRL_NUMBER][1], der.INTEGER, "the CRL number")
    return der.integer(number, "the CRL number")


def _none_critical(reader: Reader, what: str) -> None:
    for oid, (critical, _) in raw_extensions(reader, what).items():
        if critical:
            raise MalformedError(f"{what} has the critical extension {oid}")
