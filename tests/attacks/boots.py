"""Boots that are almost the good one, and a scene whose operator approved of too much.

To show that the *meaning* of a log refuses, a reference must not: here it is learned from the very
boot that is attacked with, value by value, as by an operator who looked at nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.policy import parse_policy
from bootlease.reference import DEFAULT_PCRS, learn
from bootlease.testing import efi
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, Scene

BANK: Final = HashAlg.SHA256
GOOD: Final = simulate_boot(grub_description())

_STRICT: Final = {
    "secure_boot": '"required"',
    "exit_boot_services": '"required"',
    "option_roms": '"refuse"',
    "unsafe_setup_mode": '"refuse"',
    "unsafe_test_keys": '"refuse"',
    "unsafe_debug_mode": '"refuse"',
    "unsafe_dma": '"refuse"',
    "unsafe_shim_validation": '"refuse"',
}


def policy_with(text: str = POLICY, **changes: str) -> str:
    """Return the scene's policy with some of its keys changed."""
    lines = text.splitlines()
    for key, value in changes.items():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[at] = f"{key} = {value}"
    return "\n".join(lines)


STRICT: Final = policy_with(**_STRICT)


def approved(ca: LocalCA, boot: SimulatedBoot, text: str = POLICY, **options: Any) -> Scene:
    """Return a scene whose node booted ``boot`` and whose reference was learned from it.

    Args:
        ca: Certifies the node.
        boot: What it booted.
        text: The policy.
        options: How the reference is learned.
    """
    scene = Scene.create(ca, policy=text)
    scene.node.boot(boot)
    demanded = parse_policy(text).quote.pcrs
    learned = learn(
        replay(parse_event_log(boot.event_log)),
        None,
        name=REFERENCE,
        version="1",
        bank=BANK,
        pcrs=options.pop("pcrs", sorted({*DEFAULT_PCRS} & {*demanded})),
        boot_rules=options.pop("boot_rules", False),
        **options,
    )
    scene.references = [learned]
    return scene


def measured(pcr: int, kind: int, data: bytes, over: bytes | None = None) -> EventRecord:
    """Return an event whose digest is that of its data, or over something else."""
    return EventRecord(pcr, kind, {BANK: BANK.digest(data if over is None else over)}, data)


def variable(name: str, value: bytes, *, guid: Any = efi.GLOBAL_VARIABLE) -> EventRecord:
    """Return a Secure Boot variable as firmware measures it."""
    data = efi.variable_data(guid, name, value)
    return measured(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, data)


def is_variable(name: str) -> Callable[[EventRecord], bool]:
    """Return a test for the event of a Secure Boot variable."""
    encoded = name.encode("utf-16-le")
    header = 32

    def test(event: EventRecord) -> bool:
        return (
            event.type == EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
            and int.from_bytes(event.data[16:24], "little") == len(name)
            and event.data[header : header + len(encoded)] == encoded
        )

    return test


def is_separator(pcr: int) -> Callable[[EventRecord], bool]:
    """Return a test for the separator of a PCR."""
    return lambda event: event.pcr == pcr and event.type == EventType.EV_SEPARATOR


def holds(text: bytes) -> Callable[[EventRecord], bool]:
    """Return a test for events whose data holds ``text``."""
    return lambda event: text in event.data


def edited(
    test: Callable[[EventRecord], bool],
    *events: EventRecord,
    boot: SimulatedBoot = GOOD,
    first: bool = False,
) -> SimulatedBoot:
    """Return a boot in which the one event, or the first, that ``test`` finds became ``events``."""
    found = [number for number, event in enumerate(boot.events) if test(event)]
    assert len(found) == 1 or (found and first), found
    changed = list(boot.events)
    changed[found[0] : found[0] + 1] = events
    return boot_of_events(changed, boot.banks)


def appended(*events: EventRecord, boot: SimulatedBoot = GOOD) -> SimulatedBoot:
    """Return a boot with more events at its end, where the operating system extends."""
    return boot_of_events([*boot.events, *events], boot.banks)


def prepended(*events: EventRecord, boot: SimulatedBoot = GOOD) -> SimulatedBoot:
    """Return a boot with more events at its beginning, where only firmware measures."""
    return boot_of_events([*events, *boot.events], boot.banks)


def the(test: Callable[[EventRecord], bool], boot: SimulatedBoot = GOOD) -> EventRecord:
    """Return the first event that ``test`` finds."""
    return next(event for event in boot.events if test(event))


def as_shown(event: EventRecord, **changes: Any) -> EventRecord:
    """Return an event as a forger shows it: other data, type or PCR under its old digest."""
    return dataclasses.replace(event, **changes)


def booted(**secure_boot: Any) -> SimulatedBoot:
    """Return the good boot with other Secure Boot variables."""
    description = grub_description()
    changed = dataclasses.replace(description.secure_boot, **secure_boot)
    return simulate_boot(dataclasses.replace(description, secure_boot=changed))
