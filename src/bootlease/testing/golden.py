"""The reference set that the policies of ``policies`` accept, learned from one good boot."""

from __future__ import annotations

from collections.abc import Collection

from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.reference import DEFAULT_PCRS, ReferenceSet, learn
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.policies import REFERENCE


def golden_reference(
    boot: SimulatedBoot,
    *,
    pcrs: Collection[int] = DEFAULT_PCRS,
    match_events: Collection[int] = (),
    boot_rules: bool = True,
) -> ReferenceSet:
    """Return what a boot measured as what boots shall measure.

    Args:
        boot: The boot.
        pcrs: The PCRs that are constrained.
        match_events: Those that are constrained by their events and not by their value.
        boot_rules: Learn what the boot must mean, too.
    """
    return learn(
        replay(parse_event_log(boot.event_log)),
        None,
        name=REFERENCE,
        version="1",
        bank=HashAlg.SHA256,
        pcrs=pcrs,
        match_events=match_events,
        boot_rules=boot_rules,
    )
