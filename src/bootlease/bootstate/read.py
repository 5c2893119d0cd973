"""All that a boot log says, for people who read logs and for explanations.

An appraisal asks only for the aspects that its rules name; see the functions that this composes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from bootlease.bootstate.apps import boot_applications, option_roms
from bootlease.bootstate.consistency import altered_events
from bootlease.bootstate.firmware import firmware
from bootlease.bootstate.gpt import partitions
from bootlease.bootstate.grub import GRUBCommands, grub_commands
from bootlease.bootstate.initrd import Initrd, initrds
from bootlease.bootstate.kernel import KernelCommandLines, kernel_command_lines
from bootlease.bootstate.keyfacts import SecureBoot, ShimState
from bootlease.bootstate.options import boot_options
from bootlease.bootstate.quirks import quirks
from bootlease.bootstate.secureboot import secure_boot
from bootlease.bootstate.separators import exit_boot_services, separators
from bootlease.bootstate.shim import shim_state
from bootlease.bootstate.stub import UnifiedKernel, unified_kernel
from bootlease.bootstate.values import (
    BootApplications,
    BootOptions,
    ExitBootServices,
    Firmware,
    OpaqueEvents,
    OptionROMs,
    Partitions,
    Quirk,
    Separator,
)
from bootlease.bootstate.view import AttestedLog
from bootlease.bootstate.windows import WindowsBoot, windows
from bootlease.eventlog import EventType
from bootlease.frozen import quick_init
from bootlease.model import Finding, refusals

_KNOWN_TYPES: Final = frozenset(map(int, EventType))


@quick_init
@dataclass(frozen=True, slots=True)
class BootState:
    """Every aspect of a boot, as far as its PCRs are attested.

    Attributes:
        firmware: The platform's firmware (PCR 0, 1).
        option_roms: Code from add-in hardware (PCR 2).
        secure_boot: Secure Boot (PCR 7).
        separators: What ends firmware's measurements, by PCR.
        boot_options: Boot order and options (PCR 1).
        partitions: Partition tables (PCR 5).
        boot_applications: What was started (PCR 4).
        exit_boot_services: The hand-over to the operating system (PCR 5).
        shim: shim's own measurements (PCR 7, 14).
        grub: Commands and files of GRUB (PCR 8, 9).
        unified_kernel: Sections, profiles, credentials and add-ons of systemd's stub (PCR 11-13).
        kernel_command_lines: Command lines (PCR 8, 9, 11, 12).
        initrds: Initial ramdisks (PCR 9).
        windows: What Windows' boot manager and loader measured (PCR 11-13).
        opaque: Events of types that no specification names.
        quirks: Oddities that are understood.
        findings: All that contradicts itself, or could not be read, in the order of the log.
    """

    firmware: Firmware
    option_roms: OptionROMs
    secure_boot: SecureBoot
    separators: tuple[Separator, ...]
    boot_options: BootOptions
    partitions: Partitions
    boot_applications: BootApplications
    exit_boot_services: ExitBootServices
    shim: ShimState
    grub: GRUBCommands
    unified_kernel: UnifiedKernel
    kernel_command_lines: KernelCommandLines
    initrds: tuple[Initrd, ...]
    windows: WindowsBoot
    opaque: tuple[OpaqueEvents, ...]
    quirks: tuple[Quirk, ...]
    findings: tuple[Finding, ...]


def read_boot_state(view: AttestedLog) -> BootState:
    """Return every aspect of an attested log; never raises, whatever the events hold."""
    state = BootState(
        firmware=firmware(view),
        option_roms=option_roms(view),
        secure_boot=secure_boot(view),
        separators=separators(view),
        boot_options=boot_options(view),
        partitions=partitions(view),
        boot_applications=boot_applications(view),
        exit_boot_services=exit_boot_services(view),
        shim=shim_state(view),
        grub=grub_commands(view),
        unified_kernel=unified_kernel(view),
        kernel_command_lines=kernel_command_lines(view),
        initrds=initrds(view),
        windows=windows(view),
        opaque=opaque_events(view),
        quirks=quirks(view),
        findings=(),
    )
    return replace(state, findings=_findings(state, altered_events(view)))


def _findings(state: BootState, altered: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return every finding once, in the order of the log."""
    aspects = (
        state.option_roms.findings,
        state.secure_boot.findings,
        state.boot_options.findings,
        state.partitions.findings,
        state.boot_applications.findings,
        state.shim.findings,
        state.grub.findings,
        state.windows.findings,
    )
    found = dict.fromkeys(finding for findings in aspects for finding in findings)
    told = {finding.event for finding in refusals(tuple(found))}
    # An aspect says more of an altered event than that it was altered.
    found |= dict.fromkeys(each for each in altered if each.event not in told)
    return tuple(sorted(found, key=lambda each: (each.event is None, each.event or 0)))


def opaque_events(view: AttestedLog) -> tuple[OpaqueEvents, ...]:
    """Count attested events of types that no specification names, by PCR and type."""
    counts = Counter(
        (event.pcr, event.type)
        for events in view.registers.values()
        for event in events
        if event.type not in _KNOWN_TYPES
    )
    return tuple(OpaqueEvents(*key, count) for key, count in sorted(counts.items()))
