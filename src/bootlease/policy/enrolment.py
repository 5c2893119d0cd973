"""Policy on who may enrol, and on what kind of TPM. Valid by construction.

These rules are judged when a node enrols and again at every decision: what lets a node in must let
it in still.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from bootlease.endorsement import MakePattern, TPMIdentity, vendor_id
from bootlease.endorsement.make import ANY_VENDOR

MAX_PATTERNS: Final = 1024
_DIGEST_SIZE: Final = 32


class Admission(enum.Enum):
    """Who may enrol."""

    ALLOWLIST = "allowlist"
    JOIN_TOKEN = "join-token"  # noqa: S105 - a word of the policy file, no secret
    ANY_ENDORSED = "any-endorsed"


class EKAlgorithm(enum.Enum):
    """The one EK algorithm of a policy, so that one TPM has one node id."""

    RSA_2048 = "rsa-2048"
    ECC_P256 = "ecc-p256"
    ECC_P384 = "ecc-p384"


class CRLRule(enum.Enum):
    """What revocation lists are needed."""

    REQUIRED = "required"
    """A current list for every CA of the path; without it the node is refused."""
    WHEN_GIVEN = "when-given"
    """Those that the operator has supplied; where there is none, nothing is revoked."""


@dataclass(frozen=True, slots=True)
class EnrolmentPolicy:
    """Who may enrol.

    Attributes:
        admit: How a node is let in.
        ek_algorithm: The EK it enrols with.
        allow_ek: SHA-256 of the DER SubjectPublicKeyInfo of EKs that may enrol, for an allowlist.
        vendors: Vendor ids whose TPMs may enrol; ``any`` alone for all of them.
        refuse_firmware: Makes that may not, for their weaknesses.
        crl: What revocation lists are needed.
        unsafe_unendorsed_ek: EKs that need no certificate: an operator vouches for them alone.
        unsafe_software_tpm: Software TPMs that may enrol, though whoever runs one can copy it.
        unsafe_sha1_signatures: Certificates below a root may be signed over SHA-1.
    """

    admit: Admission
    ek_algorithm: EKAlgorithm
    allow_ek: frozenset[bytes]
    vendors: frozenset[str]
    refuse_firmware: frozenset[MakePattern]
    crl: CRLRule
    unsafe_unendorsed_ek: frozenset[bytes]
    unsafe_software_tpm: frozenset[MakePattern]
    unsafe_sha1_signatures: bool

    def __post_init__(self) -> None:
        for name, digests in (
            ("allow_ek", self.allow_ek),
            ("unsafe_unendorsed_ek", self.unsafe_unendorsed_ek),
        ):
            if any(len(digest) != _DIGEST_SIZE for digest in digests):
                raise ValueError(f"enrolment.{name} holds SHA-256 digests in hex")
        if self.admit is Admission.ALLOWLIST:
            if not self.allow_ek | self.unsafe_unendorsed_ek:
                raise ValueError("enrolment.allow_ek must not be empty for an allowlist")
        elif self.allow_ek:
            raise ValueError(f"enrolment.allow_ek has no meaning with admit = {self.admit.value!r}")
        if not self.vendors:
            raise ValueError('enrolment.vendors must not be empty; ["any"] is every vendor')
        if ANY_VENDOR in self.vendors and len(self.vendors) > 1:
            raise ValueError('enrolment.vendors: "any" stands alone')
        for name, patterns in (
            ("refuse_firmware", self.refuse_firmware),
            ("unsafe_software_tpm", self.unsafe_software_tpm),
        ):
            if len(patterns) > MAX_PATTERNS:
                raise ValueError(f"enrolment.{name} has more than {MAX_PATTERNS} entries")

    def allows_vendor(self, make: TPMIdentity) -> bool:
        """Tell whether TPMs of this vendor may enrol."""
        return ANY_VENDOR in self.vendors or make.vendor in self.vendors

    def names_software(self, make: TPMIdentity) -> bool:
        """Tell whether the policy names this software TPM."""
        return any(pattern.matches(make) for pattern in self.unsafe_software_tpm)

    def refuses_firmware(self, make: TPMIdentity) -> bool:
        """Tell whether the policy lists this make as weak."""
        return any(pattern.matches(make) for pattern in self.refuse_firmware)

    def wire(self) -> dict[str, object]:
        """Return the members of the canonical form, unordered lists sorted."""
        return {
            "admit": self.admit.value,
            "ek_algorithm": self.ek_algorithm.value,
            "allow_ek": sorted(self.allow_ek),
            "vendors": sorted(self.vendors),
            "refuse_firmware": sorted(map(str, self.refuse_firmware)),
            "crl": self.crl.value,
            "unsafe_unendorsed_ek": sorted(self.unsafe_unendorsed_ek),
            "unsafe_software_tpm": sorted(map(str, self.unsafe_software_tpm)),
            "unsafe_sha1_signatures": self.unsafe_sha1_signatures,
        }


def vendor_ids(names: tuple[str, ...]) -> frozenset[str]:
    """Return the ids of vendors as an operator names them.

    Raises:
        ValueError: One of them is unknown, or two are one.
    """
    try:
        ids = [name if name == ANY_VENDOR else vendor_id(name) for name in names]
    except ValueError as exc:
        raise ValueError(f"enrolment.vendors: {exc}") from exc
    if len(set(ids)) != len(ids):
        raise ValueError("enrolment.vendors lists a vendor twice")
    return frozenset(ids)


def make_patterns(texts: tuple[str, ...], key: str) -> frozenset[MakePattern]:
    """Return the patterns of one key.

    Raises:
        ValueError: One of them is no pattern, or two are one.
    """
    try:
        patterns = frozenset(map(MakePattern.parse, texts))
    except ValueError as exc:
        raise ValueError(f"enrolment.{key}: {exc}") from exc
    if len(patterns) != len(texts):
        raise ValueError(f"enrolment.{key} lists something twice")
    return patterns
