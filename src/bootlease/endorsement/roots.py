"""The CAs an operator trusts to vouch for TPMs, and their revocation lists: one named set.

Specifications: RFC 5280 §6.1.1 (d) (trust anchors), §6.3 (revocation lists).

An anchor is any CA certificate that the operator pins, self-signed or not. A revocation list counts
only if a pinned CA signed it; that is verified when the set is made. Both are named by one digest,
which every decision records: what was trusted, and what was known to be revoked, when it was made.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bootlease import cbor
from bootlease.endorsement.certificate import (
    Certificate,
    is_pem,
    parse_certificate,
    pem_blocks,
)
from bootlease.endorsement.revocation import (
    CertificateStatus,
    RevocationList,
    parse_revocation_list,
)
from bootlease.errors import MalformedError

MAX_ROOTS: Final = 4096
"""All TPM vendors together have some 1,600 published CA certificates, TrustedTpm.cab has them."""


@dataclass(frozen=True, slots=True)
class TrustedRoots:
    """Trust anchors for EK certificates and their revocation lists; an empty set trusts nobody.

    Attributes:
        members: DER by SHA-256 of it, CA certificates and revocation lists.
        digest: SHA-256 over the fingerprints in order: names the set.
        anchors: The CAs by fingerprint.
        by_subject: The CAs by their ``subject_name``.
        lists: The revocation lists by their CA's ``issuer_id``, the latest first.
    """

    members: Mapping[bytes, bytes]
    digest: bytes = field(init=False)
    anchors: Mapping[bytes, Certificate] = field(init=False, repr=False, compare=False)
    by_subject: Mapping[bytes, tuple[Certificate, ...]] = field(
        init=False, repr=False, compare=False
    )
    lists: Mapping[bytes, tuple[RevocationList, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        anchors: dict[bytes, Certificate] = {}
        subjects: dict[bytes, tuple[Certificate, ...]] = {}
        lists = []
        for fingerprint, member in sorted(self.members.items()):
            if is_revocation_list(member):
                parsed: Certificate | RevocationList = parse_revocation_list(member)
            else:
                parsed = _known_certificate(member)
            if parsed.fingerprint != fingerprint:
                raise ValueError("a root is not filed under its fingerprint")
            if isinstance(parsed, RevocationList):
                lists.append(parsed)
                continue
            # A pinned EK certificate would be a chain of its own (attack B14).
            if not parsed.is_ca:
                raise MalformedError(
                    f"a certificate that is no CA cannot be a root: {parsed.subject_text}"
                )
            anchors[fingerprint] = parsed
            name = parsed.subject_name
            subjects[name] = (*subjects.get(name, ()), parsed)
        object.__setattr__(
            self, "digest", hashlib.sha256(cbor.encode(sorted(self.members))).digest()
        )
        object.__setattr__(self, "anchors", anchors)
        object.__setattr__(self, "by_subject", subjects)
        object.__setattr__(self, "lists", _filed(lists, subjects))

    @classmethod
    def of(cls, ders: Iterable[bytes]) -> TrustedRoots:
        """Make a set of DER certificates and revocation lists.

        Raises:
            MalformedError: One of them is no readable CA certificate, a revocation list is not one
                that a CA of the set made, or there are too many.
        """
        members = {hashlib.sha256(der).digest(): der for der in ders}
        if len(members) > MAX_ROOTS:
            raise MalformedError(f"more than {MAX_ROOTS} roots")
        return cls(members)

    def status(self, issuer_id: bytes, serial: bytes, *, now: int) -> CertificateStatus:
        """Tell what the latest list of a CA says of one of its certificates.

        Args:
            issuer_id: The CA's ``issuer_id``.
            serial: The certificate's serial number.
            now: Seconds since the epoch.
        """
        for each in self.lists.get(issuer_id, ()):
            if each.this_update <= now:
                if serial in each.revoked:
                    return CertificateStatus.REVOKED
                fresh = now <= each.next_update
                return CertificateStatus.GOOD if fresh else CertificateStatus.OUTDATED
        return CertificateStatus.UNKNOWN

    def anchor_revoked(self, fingerprint: bytes, *, now: int) -> bool:
        """Tell whether another pinned CA, which issued this one, has revoked it."""
        anchor = self.anchors.get(fingerprint)
        if anchor is None:
            return False
        return any(
            self.status(ca.issuer_id, anchor.serial, now=now) is CertificateStatus.REVOKED
            for ca in self.by_subject.get(anchor.issuer_name, ())
        )

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self.anchors

    def __len__(self) -> int:
        return len(self.anchors)


# Sets are made again whenever the operator's decisions are read, mostly of the same CAs.
_known_certificate = functools.lru_cache(maxsize=MAX_ROOTS)(parse_certificate)


def _filed(
    lists: Iterable[RevocationList], subjects: Mapping[bytes, tuple[Certificate, ...]]
) -> dict[bytes, tuple[RevocationList, ...]]:
    filed: dict[bytes, list[RevocationList]] = {}
    for each in lists:
        signers = {ca.issuer_id for ca in subjects.get(each.issuer_name, ()) if each.signed_by(ca)}
        if not signers:
            raise MalformedError(
                f"the revocation list of {each.issuer_text} is not signed, over SHA-2, by a trusted"
                " CA of that name that may sign lists: trust that CA's certificate first"
            )
        for signer in signers:
            filed.setdefault(signer, []).append(each)
    # Which of two is the later must not depend on the order in which they were added.
    return {
        signer: tuple(
            sorted(
                each,
                key=lambda one: (one.this_update, one.number, one.fingerprint),
                reverse=True,
            )
        )
        for signer, each in filed.items()
    }


def is_revocation_list(data: bytes) -> bool:
    """Tell whether DER is shaped as a revocation list rather than a certificate of version 3."""
    # Both are SEQUENCE { SEQUENCE { ...: a certificate's begins with [0], a list's with INTEGER.
    place = 0
    for _ in range(2):
        if data[place : place + 1] != b"\x30" or len(data) < place + 2:
            return False
        length = data[place + 1]
        place += 2 + (length & 0x7F if length & 0x80 else 0)
    return data[place : place + 1] == b"\x02"


def parse_certificates(data: bytes) -> tuple[bytes, ...]:
    """Split a PEM bundle, or take a single file of DER, into certificates and revocation lists.

    Returns:
        DER, without frames and padding: the certificates first, so that a list's CA is there
        before it.

    Raises:
        MalformedError: The bytes are neither, hold no certificate or list, or one does not parse.
    """
    if not is_pem(data):
        try:
            return (_member(data),)
        except MalformedError as exc:
            raise MalformedError(f"neither a PEM nor a DER certificate: {exc}") from exc
    found: dict[str, list[bytes]] = {"CERTIFICATE": [], "X509 CRL": []}
    for number, (label, block) in enumerate(pem_blocks(data), 1):
        try:
            found[label].append(_member(block))
        except MalformedError as exc:
            raise MalformedError(f"block {number} of the PEM bundle: {exc}") from exc
    return tuple(dict.fromkeys([*found["CERTIFICATE"], *found["X509 CRL"]]))


def _member(data: bytes) -> bytes:
    if is_revocation_list(data):
        parse_revocation_list(data)
        return data
    return parse_certificate(data).der
