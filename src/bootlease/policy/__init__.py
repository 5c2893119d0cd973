"""Policy: what a node must prove and what it may be granted; TOML in, frozen values out."""

from bootlease.policy.boot import (
    NO_IMA,
    BootPolicy,
    IMAPolicy,
    Mode,
)
from bootlease.policy.check import check_policy
from bootlease.policy.enrolment import Admission, CRLRule, EKAlgorithm, EnrolmentPolicy
from bootlease.policy.file import parse_policy
from bootlease.policy.schema import policy_schema
from bootlease.policy.values import (
    MAX_LIFE,
    LeasePolicy,
    Policy,
    PolicyEpoch,
    QuotePolicy,
)
from bootlease.reference import IMASignatures

__all__ = [
    "MAX_LIFE",
    "NO_IMA",
    "Admission",
    "BootPolicy",
    "CRLRule",
    "EKAlgorithm",
    "EnrolmentPolicy",
    "IMAPolicy",
    "IMASignatures",
    "LeasePolicy",
    "Mode",
    "Policy",
    "PolicyEpoch",
    "QuotePolicy",
    "check_policy",
    "parse_policy",
    "policy_schema",
]
