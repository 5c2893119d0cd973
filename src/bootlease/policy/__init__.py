"""Policy: what a node must prove and what it may be granted; TOML in, frozen values out."""

from bootlease.policy.file import parse_policy
from bootlease.policy.values import (
    MAX_LIFE,
    Admission,
    EKAlgorithm,
    EnrolmentPolicy,
    LeasePolicy,
    Policy,
    PolicyEpoch,
    QuotePolicy,
)

__all__ = [
    "MAX_LIFE",
    "Admission",
    "EKAlgorithm",
    "EnrolmentPolicy",
    "LeasePolicy",
    "Policy",
    "PolicyEpoch",
    "QuotePolicy",
    "parse_policy",
]
