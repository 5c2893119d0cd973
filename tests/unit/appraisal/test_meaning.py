"""Step 5: what a boot means, by the rules of a policy; a fact that is not proven refuses."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.appraisal import AttestationResult
from bootlease.eventlog import EventRecord, EventType
from bootlease.model import Effect, HashAlg, refusals
from bootlease.testing import efi
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import grub_description
from bootlease.testing.golden import golden_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene

BANK = HashAlg.SHA256


def policy(**changes: str) -> str:
    """Return the scene's policy with keys of [boot] changed."""
    lines = POLICY.splitlines()
    for key, value in changes.items():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[at] = f"{key} = {value}"
    return "\n".join(lines)


def decided(ca: LocalCA, boot: SimulatedBoot, text: str) -> AttestationResult:
    """Appraise a boot that its reference set describes, event by event and without boot rules."""
    scene = Scene.create(ca, policy=text)
    scene.node.boot(boot)
    described = golden_reference(boot, boot_rules=False)
    scene.references = [described]
    return scene.decide()


def refused(ca: LocalCA, boot: SimulatedBoot, text: str) -> set[str]:
    """Return the ids of what refuses ``boot``, which its reference set describes."""
    return {finding.id for finding in refusals(decided(ca, boot, text).findings)}


def noted(ca: LocalCA, boot: SimulatedBoot, text: str) -> set[str]:
    """Return the ids of the notes of a boot that is accepted."""
    result = decided(ca, boot, text)
    assert result.accepted
    return {finding.id for finding in result.findings if finding.effect is Effect.NOTES}


def described(**secure_boot: object) -> SimulatedBoot:
    """Return the GRUB machine with its Secure Boot changed."""
    description: BootDescription = grub_description()
    changed = dataclasses.replace(description.secure_boot, **secure_boot)  # type: ignore[arg-type]
    return simulate_boot(dataclasses.replace(description, secure_boot=changed))


def with_event(
    pcr: int, kind: EventType, data: bytes, *, first: bool = False, measured: bytes | None = None
) -> SimulatedBoot:
    """Return the GRUB machine that measures one event more, at the beginning or the end."""
    events = list(simulate_boot(grub_description()).events)
    digests = {BANK: BANK.digest(data if measured is None else measured)}
    events.insert(0 if first else len(events), EventRecord(pcr, kind, digests, data))
    return boot_of_events(events, (BANK,))


def without(*texts: bytes) -> SimulatedBoot:
    """Return the GRUB machine that does not measure events whose data holds one of ``texts``."""
    events = simulate_boot(grub_description()).events
    kept = [event for event in events if not any(text in event.data for text in texts)]
    return boot_of_events(kept, (BANK,))


def without_variable(name: str) -> SimulatedBoot:
    """Return the GRUB machine that does not measure one Secure Boot variable."""
    kept = [
        event
        for event in simulate_boot(grub_description()).events
        if event.type != EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
        or name.encode("utf-16-le") != event.data[32 : 32 + 2 * len(name)]
    ]
    return boot_of_events(kept, (BANK,))


STRICT = policy(
    secure_boot='"required"',
    exit_boot_services='"required"',
    option_roms='"refuse"',
    unsafe_setup_mode='"refuse"',
    unsafe_test_keys='"refuse"',
    unsafe_debug_mode='"refuse"',
    unsafe_dma='"refuse"',
    unsafe_shim_validation='"refuse"',
)


def test_a_good_boot_keeps_every_rule(ca: LocalCA) -> None:
    """A machine with Secure Boot in order is accepted by the strictest policy, without a word."""
    result = decided(ca, simulate_boot(grub_description()), STRICT)
    assert result.accepted
    assert result.findings == ()


def test_secure_boot_off_is_told_from_unknown(ca: LocalCA) -> None:
    """D5: a machine that says off and one that says nothing are refused for different reasons."""
    required = policy(secure_boot='"required"')
    assert refused(ca, described(enabled=False), required) == {"policy.secure-boot.off"}
    assert refused(ca, without_variable("SecureBoot"), required) == {"policy.secure-boot.unknown"}


def test_secure_boot_is_only_required_where_policy_says_so(ca: LocalCA) -> None:
    """Without the rule, a machine without Secure Boot is what its reference set says."""
    assert noted(ca, described(enabled=False), POLICY) == set()


def test_a_retyped_variable_refuses_under_any_policy(ca: LocalCA) -> None:
    """D2: a log that contradicts itself was written by somebody."""
    data = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\x01")
    boot = with_event(7, EventType.EV_EFI_VARIABLE_BOOT, data, first=True)
    assert "boot.secure-boot.variable-retyped" in refused(ca, boot, POLICY)


def test_a_machine_without_a_platform_key_is_in_setup_mode(ca: LocalCA) -> None:
    """D7: anybody enrols keys there, whatever Secure Boot says."""
    events = list(described(enabled=False).events)
    (at,) = [
        number
        for number, event in enumerate(events)
        if event.data[32:36] == "PK".encode("utf-16-le") and event.pcr == 7
    ]
    data = efi.variable_data(efi.GLOBAL_VARIABLE, "PK", b"")
    events[at] = EventRecord(7, events[at].type, {BANK: BANK.digest(data)}, data)
    boot = boot_of_events(events, (BANK,))
    assert refused(ca, boot, policy(unsafe_setup_mode='"refuse"')) == {"policy.setup-mode.on"}
    assert noted(ca, boot, POLICY) == {"policy.setup-mode.on"}


def test_setup_mode_that_nothing_proves_refuses(ca: LocalCA) -> None:
    """D5: a platform key that was not measured is no platform key."""
    boot = without_variable("PK")
    assert refused(ca, boot, policy(unsafe_setup_mode='"refuse"')) == {"policy.setup-mode.unknown"}
    assert noted(ca, boot, POLICY) == set()


@pytest.mark.parametrize("holder", ["pk", "kek", "db"])
def test_keys_for_tests_are_found_wherever_they_are(ca: LocalCA, holder: str) -> None:
    """D7: the secret of such a key is public (PKfail)."""
    key = "DO NOT TRUST - Test PK"
    before = getattr(grub_description().secure_boot, holder)
    boot = described(**{holder: key if isinstance(before, str) else (*before, key)})
    found = refused(ca, boot, policy(unsafe_test_keys='"refuse"'))
    assert found == {"policy.test-key.present"}
    assert noted(ca, boot, POLICY) == {"policy.test-key.present"}


def test_a_database_that_nobody_saw_may_hold_keys_for_tests(ca: LocalCA) -> None:
    """Unknown is not empty."""
    found = refused(ca, without_variable("KEK"), policy(unsafe_test_keys='"refuse"'))
    assert found == {"policy.test-key.unknown"}


@pytest.mark.parametrize(
    ("text", "key", "finding"),
    [
        (b"UEFI Debug Mode", "unsafe_debug_mode", "policy.debug-mode.on"),
        (b"DMA Protection Disabled", "unsafe_dma", "policy.dma-protection.on"),
    ],
)
def test_firmware_that_lets_others_in_is_refused_or_noted(
    ca: LocalCA, text: bytes, key: str, finding: str
) -> None:
    """D10: a debugger, or a device with DMA, does what it likes before anything is measured."""
    boot = with_event(7, EventType.EV_EFI_ACTION, text, first=True)
    assert refused(ca, boot, policy(**{key: '"refuse"'})) == {finding}
    assert noted(ca, boot, POLICY) == {finding}


def test_an_unknown_action_in_pcr_7_is_benign(ca: LocalCA) -> None:
    """D10: machines of HP measure words of their own."""
    boot = with_event(7, EventType.EV_EFI_ACTION, b"HP Sure Start", first=True)
    assert noted(ca, boot, STRICT) == set()


@pytest.mark.parametrize("value", [b"\x01", b"\x00"])
def test_shim_that_was_told_to_verify_nothing(ca: LocalCA, value: bytes) -> None:
    """D7: MokSBState 1 leaves Secure Boot on and lets everything through."""
    state = efi.variable_data(efi.SHIM_LOCK, "MokSBState", value)
    boot = with_event(7, EventType.EV_EFI_VARIABLE_AUTHORITY, state)
    strict = policy(unsafe_shim_validation='"refuse"')
    off = value == b"\x01"
    assert refused(ca, boot, strict) == ({"policy.shim-validation.off"} if off else set())
    assert noted(ca, boot, POLICY) == ({"policy.shim-validation.off"} if off else set())


def test_option_roms_are_refused_or_noted(ca: LocalCA) -> None:
    """D13: a driver from a card runs before the operating system."""
    data = efi.image_load_event(16, efi.file_path("\\rom.efi"))
    boot = with_event(
        2, EventType.EV_EFI_BOOT_SERVICES_DRIVER, data, first=True, measured=b"the driver"
    )
    strict = policy(option_roms='"refuse"')
    assert refused(ca, boot, strict) == {"policy.option-rom.present"}
    result = decided(ca, boot, POLICY)
    assert result.accepted
    (finding,) = result.findings
    assert finding.pcr == 2
    assert BANK.digest(b"the driver").hex()[:16] in finding.message


def test_the_firmware_must_be_left_once(ca: LocalCA) -> None:
    """D11: without its end, boot services may still have run; what is missing is never added."""
    required = policy(exit_boot_services='"required"')
    end = b"Exit Boot Services Returned with Success"
    start = b"Exit Boot Services Invocation"
    again = with_event(5, EventType.EV_EFI_ACTION, end)
    later = with_event(5, EventType.EV_EFI_ACTION, b"something")
    assert refused(ca, without(end, start), required) == {"policy.exit-boot-services.missing"}
    assert refused(ca, without(end), required) == {"policy.exit-boot-services.missing"}
    assert refused(ca, again, required) == {"policy.exit-boot-services.repeated"}
    assert refused(ca, later, required) == {"policy.exit-boot-services.followed"}
    assert noted(ca, without(end, start), POLICY) == set()


def test_a_failed_attempt_to_leave_the_firmware_is_benign(ca: LocalCA) -> None:
    """D11: a loader may have to ask twice; what counts is the one success at the end."""
    events = list(simulate_boot(grub_description()).events)
    failed = [
        b"Exit Boot Services Invocation",
        b"Exit Boot Services Returned with Failure",
    ]
    events[-2:-2] = [
        EventRecord(5, EventType.EV_EFI_ACTION, {BANK: BANK.digest(text)}, text) for text in failed
    ]
    boot = boot_of_events(events, (BANK,))
    assert refused(ca, boot, policy(exit_boot_services='"required"')) == set()


def test_deployed_mode_must_be_proven(ca: LocalCA) -> None:
    """Most firmware measures nothing of it: then it is unknown, and the rule refuses."""
    required = policy(deployed_mode='"required"')
    boot = simulate_boot(grub_description())
    assert refused(ca, boot, required) == {"policy.deployed-mode.unknown"}
    for value, expected in ((b"\x01", set()), (b"\x00", {"policy.deployed-mode.off"})):
        data = efi.variable_data(efi.GLOBAL_VARIABLE, "DeployedMode", value)
        said = with_event(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, data, first=True)
        assert refused(ca, said, required) == expected


def test_a_string_of_grub_that_was_not_measured_refuses(ca: LocalCA) -> None:
    """D1, D16: the digest is kept, so the log replays, but its text is a lie."""
    scene = Scene.create(ca)
    events = list(simulate_boot(grub_description()).events)
    (at,) = [n for n, event in enumerate(events) if event.data.startswith(b"kernel_cmdline")]
    events[at] = dataclasses.replace(events[at], data=b"kernel_cmdline: /vmlinuz harmless\0")
    log = boot_of_events(events, (BANK,)).event_log
    result = scene.decide(log=log)
    assert "boot.grub.altered-string" in {each.id for each in refusals(result.findings)}
    assert result.vector.to_jwt()["executables"] == 33


def test_a_pcr_that_the_log_does_not_explain_proves_nothing(ca: LocalCA) -> None:
    """A log with another PCR 7 than the quote says nothing of Secure Boot."""
    scene = Scene.create(ca, policy=policy(secure_boot='"required"'))
    log = described(db=("another key",)).event_log
    found = {each.id for each in refusals(scene.decide(log=log).findings)}
    assert {"eventlog.pcr7.replay-mismatch", "policy.secure-boot.unknown"} <= found


def test_every_demanded_bank_is_judged(ca: LocalCA) -> None:
    """A5: a variable that was measured into one bank only is not proven in the other."""
    banks = (HashAlg.SHA256, HashAlg.SHA384)
    events = list(simulate_boot(grub_description(), banks).events)
    (at,) = [
        number
        for number, event in enumerate(events)
        if event.pcr == 7 and "SecureBoot".encode("utf-16-le") in event.data
    ]
    digests = {**events[at].digests, HashAlg.SHA384: HashAlg.SHA384.digest(b"something else")}
    events[at] = dataclasses.replace(events[at], digests=digests)
    boot = boot_of_events(events, banks)
    both = policy(secure_boot='"required"').replace('["sha256"]', '["sha256", "sha384"]')
    scene = Scene.create(ca, boot, policy=both)
    assert {each.id for each in refusals(scene.decide().findings)} >= {"policy.secure-boot.unknown"}
