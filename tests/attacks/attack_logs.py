"""Logs that were made hostile from those of real machines, and what each must come to.

Each is judged twice: with a quote of the machine that its base was recorded on, and, where its
events can be extended at all, with a quote of a TPM that really was extended by them. Both times
by an operator who approved of everything (``boots.approved``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootlease.appraisal import AttestationResult
from bootlease.testing.boot import recorded_boot
from bootlease.testing.local_ca import LocalCA
from tests.attacks.boots import approved
from tests.attacks.verdict import attack, benign

RHEL: Final = "gtt_rhel8-uefi.bin"
UBUNTU: Final = "gtt_ubuntu-2104-no-secure-boot.bin"


@dataclass(frozen=True, slots=True)
class HostileLog:
    """One log.

    Attributes:
        name: File name without its ending.
        row: The row that it is about.
        shown: What refuses it behind a quote of its base's PCRs; empty where it is accepted.
        extended: What refuses it behind a quote of its own PCRs; empty where it is accepted, and
            ``None`` where it leads to none.
        base: The log that it was made from.
    """

    name: str
    row: str
    shown: str
    extended: str | None = None
    base: str = RHEL


def _both(name: str, row: str, finding: str, base: str = RHEL) -> HostileLog:
    return HostileLog(name, row, finding, finding, base)


_MALFORMED: Final = "eventlog.malformed"

LOGS: Final = (
    *(HostileLog(f"trunc_{size}", "C1", _MALFORMED) for size in (72, 78, 95)),
    HostileLog("empty", "C1", _MALFORMED),
    HostileLog("eventsize_ffffffff", "C2", _MALFORMED),
    HostileLog("eventsize_plus1", "C2", _MALFORMED),
    HostileLog("digestcount_0", "C3", _MALFORMED),
    HostileLog("digest_order_reversed", "C3", "", ""),
    HostileLog("specid_0_algs", "C5", _MALFORMED),
    HostileLog("specid_vendorinfo_overflow", "C5", _MALFORMED),
    HostileLog("specid_twice", "C5", "", ""),
    HostileLog("pcr_24", "C8", _MALFORMED),
    HostileLog("pcr_ffffffff_extended", "C8", _MALFORMED),
    HostileLog("startuplocality_7", "C10", _MALFORMED),
    HostileLog("startuplocality_short", "C10", _MALFORMED),
    HostileLog("startuplocality_late", "C10", "", ""),
    HostileLog("startuplocality_first_3", "C10", "eventlog.pcr0.replay-mismatch", ""),
    HostileLog("trailing_zero", "C12", "", ""),
    HostileLog("trailing_garbage", "C12", _MALFORMED),
    HostileLog("trailing_ff", "C12", _MALFORMED),
    _both("sb_data_flip", "D1", "boot.event.data-mismatch", UBUNTU),
    _both("grub_cmdline_suffix", "D1", "boot.grub.altered-string"),
    _both("sb_type_spoof", "D2", "boot.secure-boot.variable-retyped", UBUNTU),
    _both("sb_retyped_variable_boot", "D2", "boot.secure-boot.variable-retyped", UBUNTU),
    HostileLog(
        "sb_on_after_separator",
        "D3",
        "eventlog.pcr7.replay-mismatch",
        "boot.secure-boot.variable-after-separator",
        UBUNTU,
    ),
    _both("sb_separator_retyped", "D3", "eventlog.pcr7.separator-retyped", UBUNTU),
    _both("separator_dup_pcr7", "D3", "eventlog.pcr7.separator-repeated"),
    _both("separator_missing_pcr4", "D4", "eventlog.pcr4.separator-missing"),
    _both("separator_error", "D4", "eventlog.pcr5.separator-invalid"),
    _both("separator_len5", "D4", "eventlog.pcr4.separator-altered"),
    HostileLog("ebs_missing", "D11", "eventlog.pcr5.replay-mismatch", ""),
    HostileLog("reorder_across_pcrs", "D14", "", ""),
    HostileLog("reorder_within_pcr4", "D14", "eventlog.pcr4.replay-mismatch", ""),
    *(
        HostileLog(name, "D23", f"eventlog.pcr{pcr}.replay-mismatch", "")
        for name, pcr in (
            ("devpath_len0", 4),
            ("devpath_len_huge", 4),
            ("gpt_numparts_huge", 5),
            ("handoff_count_huge", 1),
            ("siglist_sigsize_zero", 7),
            ("var_datalen_huge", 7),
            ("var_name_odd_surrogate", 7),
            ("var_namelen_huge", 7),
        )
    ),
)
"""Every hostile log of the corpus. Where one is accepted behind its own PCRs, its boot is another
than the good one and no more: an operator who looked at it would not have approved of it."""


def cases(section: str) -> pytest.MarkDecorator:
    """Return a parametrisation over the logs of one section, each marked by its row."""
    marked = []
    for log in LOGS:
        if not log.row.startswith(section):
            continue
        findings = dict.fromkeys(filter(None, (log.shown, log.extended)))
        marks = [attack(log.row, *findings)] if findings else []
        if "" in (log.shown, log.extended):
            marks.append(benign(log.row))
        marked.append(pytest.param(log, marks=marks, id=log.name))
    return pytest.mark.parametrize("log", marked)


def as_shown(corpus: Path, ca: LocalCA, log: HostileLog) -> AttestationResult:
    """Judge a log behind a quote of the machine that its base was recorded on."""
    base = recorded_boot((corpus / "eventlogs" / log.base).read_bytes())
    return approved(ca, base).decide(log=(corpus / "attack-logs" / f"{log.name}.bin").read_bytes())


def as_extended(corpus: Path, ca: LocalCA, log: HostileLog) -> AttestationResult:
    """Judge a log behind a quote of a TPM that was extended by all of it."""
    data = (corpus / "attack-logs" / f"{log.name}.bin").read_bytes()
    return approved(ca, recorded_boot(data)).decide()
