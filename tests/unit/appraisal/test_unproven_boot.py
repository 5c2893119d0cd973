"""Rules on a boot of which nothing is proven, and how much is said of a log that is all wrong."""

from __future__ import annotations

import pytest

from bootlease.appraisal.meaning import MAX_FINDINGS
from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.model import HashAlg, refusals
from bootlease.reference import DEFAULT_PCRS, learn
from bootlease.testing.boot import boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, Scene

BANK = HashAlg.SHA256


def strict(key: str, value: str) -> str:
    """Return the scene's policy with one key of [boot] changed."""
    lines = POLICY.splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
    lines[at] = f'{key} = "{value}"'
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("pcr", "key", "value", "finding"),
    [
        (7, "secure_boot", "required", "policy.secure-boot.unknown"),
        (7, "deployed_mode", "required", "policy.deployed-mode.unknown"),
        (7, "unsafe_setup_mode", "refuse", "policy.setup-mode.unknown"),
        (7, "unsafe_test_keys", "refuse", "policy.test-key.unknown"),
        (7, "unsafe_debug_mode", "refuse", "policy.debug-mode.unknown"),
        (7, "unsafe_dma", "refuse", "policy.dma-protection.unknown"),
        (7, "unsafe_shim_validation", "refuse", "policy.shim-validation.unknown"),
        (2, "option_roms", "refuse", "policy.option-rom.unknown"),
        (5, "exit_boot_services", "required", "policy.exit-boot-services.missing"),
    ],
)
def test_a_rule_on_a_pcr_that_the_log_does_not_explain_refuses(
    ca: LocalCA, pcr: int, key: str, value: str, finding: str
) -> None:
    """What the log says of a PCR that the quote contradicts is no answer to the rule."""
    scene = Scene.create(ca, policy=strict(key, value))
    events = list(simulate_boot(grub_description()).events)
    events.append(EventRecord(pcr, EventType.EV_IPL, {BANK: BANK.digest(b"more")}, b"more"))
    log = boot_of_events(events, (BANK,)).event_log
    found = [each.id for each in refusals(scene.decide(log=log).findings)]
    assert f"eventlog.pcr{pcr}.replay-mismatch" in found
    assert finding in found
    # The rule alone says it: without it, nothing does.
    lenient = Scene.create(ca).decide(log=log)
    assert finding not in [each.id for each in refusals(lenient.findings)]


def test_a_flood_of_findings_is_counted(ca: LocalCA) -> None:
    """A log that contradicts itself a thousand times is refused for the first few."""
    scene = Scene.create(ca)
    events = list(simulate_boot(grub_description()).events)
    kind, data = EventType.EV_EFI_VARIABLE_AUTHORITY, bytes(32)
    events += [
        EventRecord(7, kind, {BANK: BANK.digest(bytes([number]))}, data)
        for number in range(MAX_FINDINGS + 5)
    ]
    boot = boot_of_events(events, (BANK,))
    scene.node.boot(boot)
    log = replay(parse_event_log(boot.event_log))
    scene.references = [
        learn(
            log,
            None,
            name=REFERENCE,
            version="1",
            bank=BANK,
            pcrs=DEFAULT_PCRS,
            boot_rules=False,
        )
    ]
    found = refusals(scene.decide().findings)
    assert [each.id for each in found].count("boot.event.data-mismatch") == MAX_FINDINGS
    (more,) = [each for each in found if each.id == "boot.findings.more"]
    assert "5 more" in more.message
