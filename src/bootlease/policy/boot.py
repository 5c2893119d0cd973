"""Policy on what a boot log means and on what the running system measured. Valid by construction.

Facts that these rules need come from PCRs which policy must demand too: a rule over a PCR that
nobody quotes would be a wish (attack A4).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Final

from bootlease.bootstate.pcrs import (
    BOOT_CONFIGURATION_PCR,
    KERNEL_BOOT_PCR,
    OPTION_ROM_PCR,
    SECURE_BOOT_PCR,
    SHIM_PCR,
)
from bootlease.model import Effect
from bootlease.reference import IMASignatures, is_reference_name

MAX_PHASE_PATHS: Final = 64
MAX_IMA_SETS: Final = 4096
# systemd-measure(1): a phase path is words joined by colons.
_PHASE_PATH: Final = re.compile(
    r"[a-z0-9][a-z0-9-]{0,63}(?::[a-z0-9][a-z0-9-]{0,63}){0,31}", re.ASCII
)


class Mode(enum.Enum):
    """What becomes of a decision."""

    ENFORCE = "enforce"
    REPORT_ONLY = "report-only"


@dataclass(frozen=True, slots=True)
class BootPolicy:
    """What the events of a boot must mean, whatever reference set it matches.

    Attributes:
        secure_boot: Secure Boot must be on.
        deployed_mode: The firmware must be in deployed mode.
        exit_boot_services: The firmware must have been left exactly once, and nothing of it may
            have run afterwards.
        option_roms: What drivers from option ROMs do to a decision.
        unsafe_setup_mode: What setup or audit mode does, in which anybody enrols keys.
        unsafe_test_keys: What keys that vendors ship for tests do (PKfail).
        unsafe_debug_mode: What firmware that allows a debugger does.
        unsafe_dma: What firmware that switched DMA protection off does.
        unsafe_shim_validation: What a shim that was told to validate nothing does.
        phases: Paths of words, as of systemd-measure, one of which extends PCR 11 after the log;
            none: the log alone leads to it.
    """

    secure_boot: bool
    deployed_mode: bool
    exit_boot_services: bool
    option_roms: Effect
    unsafe_setup_mode: Effect
    unsafe_test_keys: Effect
    unsafe_debug_mode: Effect
    unsafe_dma: Effect
    unsafe_shim_validation: Effect
    phases: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.phases) > MAX_PHASE_PATHS:
            raise ValueError(f"boot.phases has more than {MAX_PHASE_PATHS} entries")
        if len(set(self.phases)) != len(self.phases):
            raise ValueError("boot.phases lists something twice")
        for path in self.phases:
            if not _PHASE_PATH.fullmatch(path):
                raise ValueError(
                    f"boot.phases: {path!r:.80} is no path of words, as enter-initrd:leave-initrd"
                )
        object.__setattr__(self, "phases", tuple(sorted(self.phases)))

    def demand_pcrs(self, quoted: Collection[int]) -> None:
        """Demand that every PCR which a rule reads is quoted.

        Raises:
            ValueError: One is not; the message names the rule.
        """
        for name, pcrs in _READS.items():
            value = getattr(self, name)
            # Where policy only wants to be told, there is nothing to demand.
            if not value or value is Effect.NOTES:
                continue
            for pcr in pcrs:
                if pcr not in quoted:
                    raise ValueError(f"boot.{name} needs PCR {pcr} in quote.pcrs")

    def wire(self) -> dict[str, Any]:
        """Return the canonical form."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.value if isinstance(value, Effect) else value
            for name, value in values.items()
        } | {"phases": list(self.phases)}


_READS: Final = {
    "secure_boot": (SECURE_BOOT_PCR,),
    "deployed_mode": (SECURE_BOOT_PCR,),
    "exit_boot_services": (BOOT_CONFIGURATION_PCR,),
    "option_roms": (OPTION_ROM_PCR,),
    "unsafe_setup_mode": (SECURE_BOOT_PCR,),
    "unsafe_test_keys": (SECURE_BOOT_PCR,),
    "unsafe_debug_mode": (SECURE_BOOT_PCR,),
    "unsafe_dma": (SECURE_BOOT_PCR,),
    "unsafe_shim_validation": (SECURE_BOOT_PCR, SHIM_PCR),
    "phases": (KERNEL_BOOT_PCR,),
}
"""The PCRs whose events each rule is about."""


@dataclass(frozen=True, slots=True)
class IMAPolicy:
    """What the files that a running system loaded must be.

    Attributes:
        required: IMA is appraised: the list must lead to the quoted PCR 10. If not, everything
            below is empty or refuses, and the list is not asked for.
        accept: Names of the IMA sets that say which files are good.
        unlisted: What a measured file that no accepted set lists does to a decision.
        violations: What an entry that is a violation does.
        signatures: What file signatures count for: nothing; a good one, by a signer of an
            accepted set, stands in for a listed digest; or every file needs one as well.
    """

    required: bool
    accept: tuple[str, ...] = ()
    unlisted: Effect = Effect.REFUSES
    violations: Effect = Effect.REFUSES
    signatures: IMASignatures = IMASignatures.IGNORED

    def __post_init__(self) -> None:
        if not self.required:
            if self.accept:
                raise ValueError("ima.accept has no meaning when IMA is not appraised")
            # Nothing that is not in the digest may tell two policies apart.
            object.__setattr__(self, "unlisted", Effect.REFUSES)
            object.__setattr__(self, "violations", Effect.REFUSES)
            object.__setattr__(self, "signatures", IMASignatures.IGNORED)
            return
        if not 0 < len(self.accept) <= MAX_IMA_SETS:
            raise ValueError(f"ima.accept has 1 to {MAX_IMA_SETS} entries")
        if len(set(self.accept)) != len(self.accept):
            raise ValueError("ima.accept lists something twice")
        for name in self.accept:
            if not is_reference_name(name):
                raise ValueError(f"ima.accept: {name!r:.80} is no reference name")
        object.__setattr__(self, "accept", tuple(sorted(self.accept)))

    def wire(self) -> dict[str, Any] | None:
        """Return the canonical form, ``None`` when IMA is not appraised."""
        if not self.required:
            return None
        return {
            "accept": list(self.accept),
            "unlisted": self.unlisted.value,
            "violations": self.violations.value,
            "signatures": self.signatures.value,
        }


NO_IMA: Final = IMAPolicy(required=False)
"""The policy that does not look at IMA."""
