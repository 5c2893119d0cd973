"""The certificates an operator trusts to vouch for TPMs, as one content-addressed set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Store

from bootlease import cbor
from bootlease.endorsement.certificate import parse_certificate
from bootlease.errors import MalformedError

MAX_ROOTS: Final = 1024
"""All TPM vendors together have some 200 published CA certificates."""

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class TrustedRoots:
    """Trust anchors for EK certificates; an empty set trusts nobody.

    An anchor is any CA certificate that the operator pins, self-signed or not.

    Attributes:
        certificates: DER by SHA-256 of it.
        digest: SHA-256 over the fingerprints in order: names the set.
    """

    certificates: Mapping[bytes, bytes]
    digest: bytes = field(init=False)
    _store: Store | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parsed = []
        for fingerprint, der in self.certificates.items():
            certificate = parse_certificate(der)
            if certificate.fingerprint != fingerprint:
                raise ValueError("a root is not filed under its fingerprint")
            # A pinned EK certificate would be a chain of its own (attack B14).
            if not certificate.is_ca:
                raise MalformedError("a certificate that is no CA cannot be a root")
            parsed.append(certificate.parsed)
        names = hashlib.sha256(cbor.encode(sorted(self.certificates))).digest()
        object.__setattr__(self, "digest", names)
        object.__setattr__(self, "_store", Store(parsed) if parsed else None)

    @classmethod
    def of(cls, ders: Iterable[bytes]) -> TrustedRoots:
        """Make a set of DER certificates.

        Raises:
            MalformedError: One of them is no readable CA certificate, or there are too many.
        """
        certificates = {hashlib.sha256(der).digest(): der for der in ders}
        if len(certificates) > MAX_ROOTS:
            raise MalformedError(f"more than {MAX_ROOTS} roots")
        return cls(certificates)

    @property
    def store(self) -> Store | None:
        """The anchors as ``cryptography`` takes them; ``None`` for an empty set."""
        return self._store

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self.certificates

    def __len__(self) -> int:
        return len(self.certificates)


def parse_certificates(data: bytes) -> tuple[bytes, ...]:
    """Split a PEM bundle, or take a single DER certificate, into DER certificates.

    Raises:
        MalformedError: The bytes are neither, or hold no certificate.
    """
    if _BEGIN not in data:
        try:
            parse_certificate(data)
        except MalformedError as exc:
            raise MalformedError(f"neither a PEM nor a DER certificate: {exc}") from exc
        return (data,)
    try:
        loaded = x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        raise MalformedError(f"a PEM bundle does not parse: {exc}") from exc
    ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in loaded)
    for der in ders:
        parse_certificate(der)
    return ders
