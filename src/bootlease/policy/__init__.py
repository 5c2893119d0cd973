"""Policy: what a node must prove and what it may be granted; TOML in, frozen values out."""

from bootlease.policy.authorization import Authorization, ScopeVerdict
from bootlease.policy.boot import (
    NO_IMA,
    BootPolicy,
    IMAPolicy,
    Mode,
)
from bootlease.policy.cedarschema import CEDAR_SCHEMA
from bootlease.policy.check import check_policy
from bootlease.policy.enrolment import Admission, CRLRule, EKAlgorithm, EnrolmentPolicy
from bootlease.policy.facts import Facts
from bootlease.policy.file import parse_policy, with_cedar
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
    "CEDAR_SCHEMA",
    "MAX_LIFE",
    "NO_IMA",
    "Admission",
    "Authorization",
    "BootPolicy",
    "CRLRule",
    "EKAlgorithm",
    "EnrolmentPolicy",
    "Facts",
    "IMAPolicy",
    "IMASignatures",
    "LeasePolicy",
    "Mode",
    "Policy",
    "PolicyEpoch",
    "QuotePolicy",
    "ScopeVerdict",
    "check_policy",
    "parse_policy",
    "policy_schema",
    "with_cedar",
]
