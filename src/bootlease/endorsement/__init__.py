"""Who vouches for a TPM: EK certificates, pinned roots, revocation lists, enrolment records."""

from bootlease.endorsement.certificate import (
    EK_CERTIFICATE_EKU,
    Certificate,
    parse_certificate,
)
from bootlease.endorsement.chain import Endorsement, Link, VerifiedEndorsement, verify_ek_chain
from bootlease.endorsement.enrolment import Enrolment
from bootlease.endorsement.make import MakePattern, TPMIdentity, vendor_id, vendor_name
from bootlease.endorsement.revocation import (
    CertificateStatus,
    RevocationList,
    parse_revocation_list,
)
from bootlease.endorsement.roots import TrustedRoots, parse_certificates
from bootlease.endorsement.tolerance import Tolerance

__all__ = [
    "EK_CERTIFICATE_EKU",
    "Certificate",
    "CertificateStatus",
    "Endorsement",
    "Enrolment",
    "Link",
    "MakePattern",
    "RevocationList",
    "TPMIdentity",
    "Tolerance",
    "TrustedRoots",
    "VerifiedEndorsement",
    "parse_certificate",
    "parse_certificates",
    "parse_revocation_list",
    "vendor_id",
    "vendor_name",
    "verify_ek_chain",
]
