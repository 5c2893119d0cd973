"""Who vouches for a TPM: EK certificates, pinned roots, enrolment records."""

from bootlease.endorsement.certificate import (
    EK_CERTIFICATE_EKU,
    Certificate,
    TPMIdentity,
    parse_certificate,
)
from bootlease.endorsement.chain import Endorsement, VerifiedEndorsement, verify_ek_chain
from bootlease.endorsement.enrolment import Enrolment
from bootlease.endorsement.roots import TrustedRoots, parse_certificates

__all__ = [
    "EK_CERTIFICATE_EKU",
    "Certificate",
    "Endorsement",
    "Enrolment",
    "TPMIdentity",
    "TrustedRoots",
    "VerifiedEndorsement",
    "parse_certificate",
    "parse_certificates",
    "verify_ek_chain",
]
