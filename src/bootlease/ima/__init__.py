"""What a running Linux kernel measured (IMA): parsing, replay to a quoted PCR 10, signatures.

``attest_list`` finds the entries of an unverified list that quoted values of PCR 10 attest, and
the :class:`IMAState` that a later list goes on from. ``IMAEntry.measurement`` reads an entry.
"""

from bootlease.ima.aggregate import boot_aggregate_findings, expected_boot_aggregates
from bootlease.ima.asciilist import looks_like_text, parse_ascii_list
from bootlease.ima.attest import AttestedList, attest_list, replay_list
from bootlease.ima.entry import (
    DigestType,
    IMADigest,
    IMAEntry,
    Kind,
    Measurement,
    display_name,
    measured_name,
)
from bootlease.ima.framing import DEFAULT_LIMITS, IMALimits, parse_list
from bootlease.ima.keyrings import MeasuredKey, measured_key
from bootlease.ima.signature import (
    FileSignature,
    FileSigner,
    FileSigners,
    VerifiedSignature,
    parse_file_signature,
    verify_signature,
)
from bootlease.ima.state import IMA_PCR, IMAState, TemplateHash
from bootlease.ima.templates import UnknownTemplateError

__all__ = [
    "DEFAULT_LIMITS",
    "IMA_PCR",
    "AttestedList",
    "DigestType",
    "FileSignature",
    "FileSigner",
    "FileSigners",
    "IMADigest",
    "IMAEntry",
    "IMALimits",
    "IMAState",
    "Kind",
    "MeasuredKey",
    "Measurement",
    "TemplateHash",
    "UnknownTemplateError",
    "VerifiedSignature",
    "attest_list",
    "boot_aggregate_findings",
    "display_name",
    "expected_boot_aggregates",
    "looks_like_text",
    "measured_key",
    "measured_name",
    "parse_ascii_list",
    "parse_file_signature",
    "parse_list",
    "replay_list",
    "verify_signature",
]
