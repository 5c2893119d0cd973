"""Decisions over verified evidence: pure functions, no I/O, no clock."""

from bootlease.appraisal.bootlog import BootLog, boot_log_of, read_boot_log
from bootlease.appraisal.cache import AppraisalCache
from bootlease.appraisal.decide import appraise, verdict_known
from bootlease.appraisal.enrol import AcceptedEnrolment, accept_enrolment
from bootlease.appraisal.ima import IMAVerdict, appraise_ima, whole_list_wanted
from bootlease.appraisal.issue import (
    CodeIdentity,
    build_claims,
    prior_after,
    record_decision,
)
from bootlease.appraisal.quote import check_clock, check_selection, check_signer
from bootlease.appraisal.result import AttestationResult

__all__ = [
    "AcceptedEnrolment",
    "AppraisalCache",
    "AttestationResult",
    "BootLog",
    "CodeIdentity",
    "IMAVerdict",
    "accept_enrolment",
    "appraise",
    "appraise_ima",
    "boot_log_of",
    "build_claims",
    "check_clock",
    "check_selection",
    "check_signer",
    "prior_after",
    "read_boot_log",
    "record_decision",
    "verdict_known",
    "whole_list_wanted",
]
