"""TPM 2.0 structures and what they prove: bytes to values, nothing else.

Specification: TCG TPM 2.0 Library (parts 1 to 3, version 1.83) and TCG Algorithm
Registry 1.34. ``parse_*`` gives unverified values or raises ``MalformedError``;
``accept_*`` and ``verify_*`` give verified types or raise ``VerificationError``.
"""

from bootlease.tpm.algorithms import (
    TPM_GENERATED,
    TPMRH,
    TPMST,
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
)
from bootlease.tpm.attest import (
    PCRSelection,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSQuoteInfo,
    parse_attest,
    parse_header,
)
from bootlease.tpm.credential import Credential, activate_credential, make_credential
from bootlease.tpm.endorsement_key import EndorsementKey, accept_endorsement_key
from bootlease.tpm.keys import (
    AttestationKey,
    BoundKey,
    UnsafeBareKey,
    accept_attestation_key,
    accept_bound_key,
    unsafe_bare_key,
)
from bootlease.tpm.public import (
    TPMSECCParms,
    TPMSECCPoint,
    TPMSRSAParms,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSymDefObject,
    ecc_public,
    parse_public,
    parse_public_2b,
    parse_public_either,
    rsa_public,
)
from bootlease.tpm.schemes import VerificationKey
from bootlease.tpm.signature import (
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTSignature,
    parse_signature,
)
from bootlease.tpm.verify import (
    VerifiedCertification,
    VerifiedQuote,
    verify_certification,
    verify_quote,
)

__all__ = [
    "TPMRH",
    "TPMST",
    "TPM_GENERATED",
    "AttestationKey",
    "BoundKey",
    "Credential",
    "EndorsementKey",
    "PCRSelection",
    "TPMAObject",
    "TPMAlg",
    "TPMECCCurve",
    "TPMSAttest",
    "TPMSCertifyInfo",
    "TPMSECCParms",
    "TPMSECCPoint",
    "TPMSQuoteInfo",
    "TPMSRSAParms",
    "TPMSSignatureECC",
    "TPMSSignatureRSA",
    "TPMTAsymScheme",
    "TPMTPublic",
    "TPMTSignature",
    "TPMTSymDefObject",
    "UnsafeBareKey",
    "VerificationKey",
    "VerifiedCertification",
    "VerifiedQuote",
    "accept_attestation_key",
    "accept_bound_key",
    "accept_endorsement_key",
    "activate_credential",
    "ecc_public",
    "make_credential",
    "parse_attest",
    "parse_header",
    "parse_public",
    "parse_public_2b",
    "parse_public_either",
    "parse_signature",
    "rsa_public",
    "unsafe_bare_key",
    "verify_certification",
    "verify_quote",
]
