"""Boot phases in PCR 11: what systemd extends after the firmware's log has ended (attack D18).

Specification: systemd-pcrphase.service(8) and systemd-measure(1), "phase path": words joined by
colons, each of which extends PCR 11 by its own digest.

Without a policy's word, PCR 11 must be what the log leads to. With phase paths, it must be what
one of them leads to from there, in full: a quote from an earlier phase, in which other secrets
are within reach, is another state of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bootlease.bootstate.pcrs import KERNEL_BOOT_PCR
from bootlease.bootstate.phases import find_phases
from bootlease.eventlog import ReplayedLog
from bootlease.model import Finding, HashAlg, PCRValues
from bootlease.reference import expected_value


def check_phases(
    replayed: ReplayedLog,
    quoted: PCRValues,
    required: Mapping[HashAlg, Sequence[int]],
    paths: Sequence[str],
) -> tuple[PCRValues, tuple[Finding, ...]]:
    """Take the phases off PCR 11.

    Args:
        replayed: The log.
        quoted: Values of a verified quote.
        required: PCRs that policy demands, by bank.
        paths: Phase paths, of which one must have been gone to its end.

    Returns:
        The values with PCR 11 as it was when the log ended, where it is known; and what is wrong
        with the phases. What no phases explain is left as it is, for the replay to refuse.
    """
    if not paths:
        return quoted, ()
    values = {bank: dict(pcrs) for bank, pcrs in quoted.items()}
    findings: list[Finding] = []
    for bank, pcrs in required.items():
        value = values.get(bank, {}).get(KERNEL_BOOT_PCR)
        if KERNEL_BOOT_PCR not in pcrs or value is None or bank not in replayed.pcrs:
            continue
        logged = expected_value(replayed, bank, KERNEL_BOOT_PCR)
        if any(_extended(bank, logged, path) == value for path in paths):
            values[bank][KERNEL_BOOT_PCR] = logged
            continue
        reached = find_phases(logged, value, bank)
        if reached is not None:
            values[bank][KERNEL_BOOT_PCR] = logged
            findings.append(_elsewhere(bank, reached, paths))
    return values, tuple(findings)


def _extended(bank: HashAlg, value: bytes, path: str) -> bytes:
    for word in path.split(":"):
        value = bank.digest(value + bank.digest(word.encode()))
    return value


def _elsewhere(bank: HashAlg, reached: Sequence[str], paths: Sequence[str]) -> Finding:
    seen = ":".join(reached) or "no phase"
    return Finding(
        f"eventlog.pcr{KERNEL_BOOT_PCR}.phase-unexpected",
        f"PCR {KERNEL_BOOT_PCR}, bank {bank.label}: the system is not in a boot phase that "
        f"boot.phases names, but in {seen}.",
        pcr=KERNEL_BOOT_PCR,
        expected=" or ".join(paths),
        seen=seen,
    )
