"""What a boot log says of keys: Secure Boot with its databases and authorities, and shim.

Specifications: UEFI 2.11 §32.3 (Secure Boot modes), §32.4.1 (signature databases); shim's SBAT.md.
What holds for all facts is said in ``values``.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass

from bootlease.bootstate.tri import Tri
from bootlease.frozen import quick_init
from bootlease.model import Finding


@dataclass(frozen=True, slots=True)
class MeasuredCertificate:
    """A certificate of a signature database or authority, as its raw bytes.

    Attributes:
        der: The bytes that were measured; nothing is re-encoded (attack D24).
        sha256: SHA-256 of ``der``.
        subject: Subject in RFC 4514 form, ``None`` for bytes that are no readable certificate.
        issuer: Issuer in RFC 4514 form, likewise.
    """

    der: bytes
    sha256: bytes
    subject: str | None
    issuer: str | None


@quick_init
@dataclass(frozen=True, slots=True)
class SignatureDatabase:
    """The content of PK, KEK, db, dbx, dbt or dbr.

    Attributes:
        digest: SHA-256 of the variable's value.
        certificates: X.509 certificates, in order, each once.
        hashes: SHA-256 digests of images.
        certificate_hashes: SHA-256 digests of the to-be-signed part of revoked certificates.
        others: How many signatures have another type, by that type's GUID.
        signatures: Every signature without its owner, to look an authority up.
        test_certificates: Those of ``certificates`` whose names say that they are for tests.
        listed: What it lists, by SHA-256: certificates, images and revoked certificates.
    """

    digest: bytes
    certificates: tuple[MeasuredCertificate, ...]
    hashes: frozenset[bytes]
    certificate_hashes: frozenset[bytes]
    others: tuple[tuple[uuid.UUID, int], ...]
    signatures: frozenset[bytes]
    test_certificates: tuple[MeasuredCertificate, ...]
    listed: frozenset[bytes]

    @property
    def empty(self) -> bool:
        """Whether the variable holds no signature."""
        return not self.signatures


class AuthorityKind(enum.Enum):
    """What an EV_EFI_VARIABLE_AUTHORITY event holds."""

    CERTIFICATE = "certificate"
    HASH = "hash"
    SBAT_LEVEL = "sbat-level"
    SHIM_VARIABLE = "shim-variable"
    OPAQUE = "opaque"


@quick_init
@dataclass(frozen=True, slots=True)
class Authority:
    """What vouched for an image that was started, or what shim recorded in its place.

    Events after the separator may come from anybody who runs later. A rule must therefore demand
    that *every* authority is allowed, never that some authority is there.

    Attributes:
        event: Number of the event.
        variable: Name of the variable the authority was found in.
        namespace: GUID of that name.
        kind: What ``data`` is.
        owner: Signature owner, ``None`` where the event has none (shim leaves it out).
        data: The certificate, digest or value.
        certificate: The certificate, where ``kind`` says so.
        listed: Whether the measured db (for a name of firmware's) holds it; unknown for shim's
            own lists, which no event shows.
    """

    event: int
    variable: str
    namespace: uuid.UUID
    kind: AuthorityKind
    owner: uuid.UUID | None
    data: bytes
    certificate: MeasuredCertificate | None
    listed: Tri


@dataclass(frozen=True, slots=True)
class KnownTestKey:
    """A key that is public or must not be used in production (PKfail, CVE-2024-8105).

    Attributes:
        variable: The database that holds it.
        certificate: The certificate.
    """

    variable: str
    certificate: MeasuredCertificate


@quick_init
@dataclass(frozen=True, slots=True)
class SecureBoot:
    """Secure Boot as PCR 7 proves it.

    Attributes:
        state: Whether the firmware verified signatures.
        setup_mode: No platform key is enrolled: anybody may write the databases.
        audit_mode: Images are started whatever their signature.
        deployed_mode: The most restricted mode of UEFI 2.5 and later.
        debug_mode: A firmware debugger could attach.
        dma_protection_disabled: The firmware said that it does not protect against DMA.
        pk: Platform key, ``None`` where it was not measured or is not verified. So are the others.
        kek: Key exchange keys.
        db: What may be started.
        dbx: What may not.
        dbt: Keys of timestamping authorities.
        dbr: Recovery keys.
        authorities_before: Authorities before the separator: option ROMs and drivers.
        authorities_after: Authorities after it: boot loaders, and whatever ran later.
        test_keys: Keys of PK, KEK and db that are known to be public.
        actions: Texts of firmware actions that are neither debug mode nor DMA protection.
        variables: Event number by variable name, in order.
        findings: Contradictions.
    """

    state: Tri
    setup_mode: Tri
    audit_mode: Tri
    deployed_mode: Tri
    debug_mode: Tri
    dma_protection_disabled: Tri
    pk: SignatureDatabase | None
    kek: SignatureDatabase | None
    db: SignatureDatabase | None
    dbx: SignatureDatabase | None
    dbt: SignatureDatabase | None
    dbr: SignatureDatabase | None
    authorities_before: tuple[Authority, ...]
    authorities_after: tuple[Authority, ...]
    test_keys: tuple[KnownTestKey, ...]
    actions: tuple[str, ...]
    variables: tuple[tuple[str, int], ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class SBATLevel:
    """Least generations that shim starts, by component (shim's SBAT.md).

    Attributes:
        date: Datestamp of the revocation list, for example ``2022052400``; empty where it has none.
        generations: Component and least generation, in order.
    """

    date: str
    generations: tuple[tuple[str, int], ...]

    def generation(self, component: str) -> int | None:
        """Return the least generation of ``component``, ``None`` where the list has none."""
        return dict(self.generations).get(component)


@quick_init
@dataclass(frozen=True, slots=True)
class ShimVariable:
    """A variable that shim measured.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        name: Its name. In PCR 14 the digest is over the value alone, so the name is unverified.
        digest: The event's digest.
        value: The value, where the event holds it or it is one of the few it can be.
    """

    event: int
    pcr: int
    name: str
    digest: bytes
    value: bytes | None


@quick_init
@dataclass(frozen=True, slots=True)
class ShimState:
    """What shim measured of itself into PCR 7 and 14.

    Attributes:
        present: shim measured something; never off, since old versions had nothing to measure.
        sbat_level: The revocation list that shim enforced.
        mok_list: Digest of the machine owner's keys, as measured in the log's bank.
        mok_list_x: Digest of what the machine owner forbids, likewise.
        mok_list_trusted: The kernel is to trust the machine owner's keys.
        validation_disabled: shim does not verify signatures (MokSBState is 1).
        variables: All that shim measured, in order within each PCR.
        findings: Contradictions.
    """

    present: Tri
    sbat_level: SBATLevel | None
    mok_list: bytes | None
    mok_list_x: bytes | None
    mok_list_trusted: Tri
    validation_disabled: Tri
    variables: tuple[ShimVariable, ...]
    findings: tuple[Finding, ...]
