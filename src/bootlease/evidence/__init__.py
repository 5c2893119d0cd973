"""What a node and a verifier send each other, as bytes and as values.

``docs/protocol.md`` is the specification of these messages, byte by byte.
"""

from bootlease.evidence.binding import TCG_LOG, Binding, log_digest
from bootlease.evidence.challenge import Challenge, IssuedLease, LeaseAnswer
from bootlease.evidence.denied import DeniedLease
from bootlease.evidence.document import Evidence, parse_evidence
from bootlease.evidence.enrolment import (
    Activation,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
)
from bootlease.evidence.expiring import ExpiringKey, KeyPermit, PermitRequest
from bootlease.evidence.request import (
    CertifiedKey,
    ConfirmationRequest,
    LeaseRequest,
    PlainKey,
    TokenEncoding,
    confirmation_digest,
    scope_digest,
)
from bootlease.evidence.segment import IMA_LIST, IMASegment
from bootlease.evidence.verify import VerifiedEvidence, verify_evidence

__all__ = [
    "IMA_LIST",
    "TCG_LOG",
    "Activation",
    "Binding",
    "CertifiedKey",
    "Challenge",
    "ConfirmationRequest",
    "CredentialChallenge",
    "DeniedLease",
    "EnrolmentReceipt",
    "EnrolmentRequest",
    "Evidence",
    "ExpiringKey",
    "IMASegment",
    "IssuedLease",
    "KeyPermit",
    "LeaseAnswer",
    "LeaseRequest",
    "PermitRequest",
    "PlainKey",
    "TokenEncoding",
    "VerifiedEvidence",
    "confirmation_digest",
    "log_digest",
    "parse_evidence",
    "scope_digest",
    "verify_evidence",
]
