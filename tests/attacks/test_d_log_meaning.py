"""Section D: logs that lead to the quoted PCRs, and still mean something else than they seem to."""

from __future__ import annotations

import datetime as dt
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tpm2_pytss import ESYS_TR

from bootlease.bootstate import AttestedLog, read_boot_state, windows
from bootlease.bootstate.sipa import SIPA
from bootlease.bootstate.tri import Tri
from bootlease.eventlog import EventRecord, EventType, encode_event_log, parse_event_log, replay
from bootlease.eventlog.encode import encode_event, encode_spec_id_event
from bootlease.model import HashAlg
from bootlease.policy import parse_policy
from bootlease.reference import ValueReference, learn, parse_reference
from bootlease.reference.bootrules import BootRules, CommandLineRule, KeyRule
from bootlease.testing import efi
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.boot_certificates import boot_certificate
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy
from bootlease.testing.scene import POLICY, REFERENCE, Scene
from bootlease.testing.swtpm import SoftwareTPMState
from bootlease.testing.verifier_process import VerifierProcess
from tests.attacks.boots import (
    BANK,
    GOOD,
    STRICT,
    appended,
    approved,
    as_shown,
    booted,
    edited,
    holds,
    is_separator,
    is_variable,
    measured,
    policy_with,
    prepended,
    the,
    variable,
)
from tests.attacks.machines import machine
from tests.attacks.verdict import MALFORMED, Verdict, attack, benign

SECURE_BOOT: Final = is_variable("SecureBoot")
OFF: Final = booted(enabled=False)
ON_DATA: Final = efi.variable_data(efi.GLOBAL_VARIABLE, "SecureBoot", b"\1")
KERNEL: Final = holds(b"kernel_cmdline: ")
EXIT: Final = b"Exit Boot Services Returned with Success"


def state_of(boot: SimulatedBoot, log: bytes | None = None) -> Any:
    """Return what a log means, every PCR of it attested."""
    replayed = replay(parse_event_log(boot.event_log if log is None else log))
    return read_boot_state(AttestedLog.of(replayed, BANK))


def ids(findings: Any) -> set[str]:
    """Return the ids of findings."""
    return {finding.id for finding in findings}


# -- D1, D2: data and type are not covered


@attack("D1", "boot.event.data-mismatch")
def test_secure_boot_switched_on_in_the_log_alone_is_seen(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """The digest is that of 0, the data says 1: the log still leads to the quoted PCR 7."""
    scene = approved(local_ca, OFF)
    log = edited(SECURE_BOOT, as_shown(the(SECURE_BOOT, OFF), data=ON_DATA), boot=OFF).event_log
    verdict.refused(scene.decide(log=log))
    assert state_of(OFF, log).secure_boot.state is Tri.UNKNOWN


@attack("D1", "boot.grub.altered-string")
def test_a_command_line_that_was_edited_in_the_log_is_seen(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """What GRUB measured is the digest; what the log says beside it is anybody's."""
    bad = simulate_boot(grub_description().with_command_line("root=/dev/vda1 init=/bin/sh"))
    scene = approved(local_ca, bad)
    shown = as_shown(the(KERNEL, bad), data=the(KERNEL).data)
    verdict.refused(scene.decide(log=edited(KERNEL, shown, boot=bad).event_log))


@attack("D1", "boot.event.data-mismatch")
@pytest.mark.parametrize(
    "test",
    [holds(b"EFI PART"), holds(EXIT), is_variable("db"), is_separator(4)],
    ids=["gpt", "action", "db", "separator"],
)
def test_no_event_whose_data_is_measured_may_be_edited(verdict: Verdict, test: Any) -> None:
    """Whoever reads the log is told which event was altered."""
    event = the(test)
    shown = as_shown(event, data=event.data[:-1] + bytes([event.data[-1] ^ 1]))
    findings = state_of(GOOD, edited(test, shown).event_log).findings
    verdict.found(findings)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            EventType.EV_EFI_VARIABLE_BOOT,
            marks=attack("D2", "boot.secure-boot.variable-retyped"),
        ),
        pytest.param(EventType.EV_ACTION, marks=attack("D2", "boot.secure-boot.variable-retyped")),
        pytest.param(
            EventType.EV_EFI_VARIABLE_AUTHORITY,
            marks=attack("D2", "boot.secure-boot.variable-retyped"),
        ),
        pytest.param(EventType.EV_NO_ACTION, marks=attack("D2", "eventlog.pcr7.replay-mismatch")),
    ],
    ids=lambda kind: kind.name,
)
def test_a_secure_boot_variable_keeps_its_type(
    local_ca: LocalCA, verdict: Verdict, kind: EventType
) -> None:
    """Hidden under another type, that Secure Boot is off would go unnoticed."""
    scene = approved(local_ca, OFF)
    shown = as_shown(the(SECURE_BOOT, OFF), type=int(kind))
    verdict.refused(scene.decide(log=edited(SECURE_BOOT, shown, boot=OFF).event_log))


@attack("D2", "boot.secure-boot.variable-retyped", "policy.secure-boot.unknown")
def test_a_forged_variable_beside_a_retyped_one_is_not_believed(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """The true event becomes an action, an unmeasured one says that Secure Boot is on."""
    scene = approved(local_ca, OFF, STRICT)
    spoof = EventRecord(7, EventType.EV_NO_ACTION, {BANK: BANK.digest(ON_DATA)}, ON_DATA)
    shown = as_shown(the(SECURE_BOOT, OFF), type=int(EventType.EV_ACTION))
    log = edited(SECURE_BOOT, spoof, shown, boot=OFF).event_log
    verdict.refused(scene.decide(log=log))
    assert state_of(OFF, log).secure_boot.state is Tri.UNKNOWN


# -- D3, D4: where firmware ends


@attack("D3", "boot.secure-boot.variable-after-separator")
def test_what_the_system_appends_does_not_read_as_firmwares(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Secure Boot was off; the operating system extends PCR 7 with a rightly hashed "on"."""
    forged = appended(variable("SecureBoot", b"\1"), boot=OFF)
    scene = approved(local_ca, forged, STRICT)
    verdict.refused(scene.decide(), "boot.secure-boot.variable-after-separator")
    assert state_of(forged).secure_boot.state is not Tri.ON


@attack("D3", "eventlog.pcr7.separator-retyped", "eventlog.pcr7.separator-repeated")
def test_a_separator_that_is_hidden_is_still_one(local_ca: LocalCA, verdict: Verdict) -> None:
    """The true one is called an action, and a second one ends what the system appended."""
    separator = the(is_separator(7), OFF)
    forged = appended(variable("SecureBoot", b"\1"), separator, boot=OFF)
    scene = approved(local_ca, forged, STRICT)
    shown = as_shown(separator, type=int(EventType.EV_ACTION))
    log = edited(is_separator(7), shown, boot=forged, first=True).event_log
    verdict.refused(scene.decide(log=log))
    assert state_of(forged, log).secure_boot.state is not Tri.ON


@attack("D3", "eventlog.pcr7.separator-repeated")
def test_a_second_separator_is_refused(local_ca: LocalCA, verdict: Verdict) -> None:
    """Where firmware ends must not be a choice."""
    verdict.refused(approved(local_ca, appended(the(is_separator(7)))).decide())


@pytest.mark.parametrize(
    "pcr",
    [
        pytest.param(pcr, marks=attack("D4", f"eventlog.pcr{pcr}.separator-missing"))
        for pcr in (0, 1, 4, 5, 7)
    ],
)
def test_every_pcr_of_firmware_needs_its_separator(
    local_ca: LocalCA, verdict: Verdict, pcr: int
) -> None:
    """Without it, the system's events read as firmware's."""
    verdict.refused(approved(local_ca, edited(is_separator(pcr))).decide())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 4, marks=attack("D4", "eventlog.pcr5.separator-invalid")),
        pytest.param(b"\1\0\0\0", marks=attack("D4", "eventlog.pcr5.separator-invalid")),
        pytest.param(bytes(5), marks=attack("D4", "eventlog.pcr5.separator-invalid")),
        pytest.param(b"", marks=attack("D4", "eventlog.pcr5.separator-invalid")),
    ],
    ids=["error", "one", "five-bytes", "empty"],
)
def test_a_separator_says_that_there_was_no_error(
    local_ca: LocalCA, verdict: Verdict, data: bytes
) -> None:
    """Four zero bytes, measured as such."""
    odd = measured(5, EventType.EV_SEPARATOR, data)
    verdict.refused(approved(local_ca, edited(is_separator(5), odd)).decide())


@attack("D4", "eventlog.pcr5.separator-altered")
def test_a_separator_of_another_length_in_the_log_alone_is_seen(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """The digest is the right one, the data is not what it is over."""
    shown = as_shown(the(is_separator(5)), data=bytes(5))
    verdict.refused(approved(local_ca, GOOD).decide(log=edited(is_separator(5), shown).event_log))


# -- D5 to D10: Secure Boot


@attack("D5", "policy.secure-boot.unknown", "reference.boot.secure-boot")
def test_nothing_said_of_secure_boot_is_not_off(local_ca: LocalCA, verdict: Verdict) -> None:
    """A third state: a rule that wants it off refuses it as well as one that wants it on."""
    silent = boot_of_events([each for each in GOOD.events if each.pcr != 7], (BANK,))
    scene = approved(local_ca, silent, policy_with(secure_boot='"required"'))
    verdict.refused(scene.decide(), "policy.secure-boot.unknown")
    assert state_of(silent).secure_boot.state is Tri.UNKNOWN
    scene.use_policy(POLICY)
    for state in (True, False):
        scene.references = [replace(scene.references[0], boot=BootRules(secure_boot=state))]
        verdict.refused(scene.decide(), "reference.boot.secure-boot")


@benign("D6")
@attack("D6", "policy.secure-boot.off")
def test_a_variable_without_a_value_means_off(local_ca: LocalCA, verdict: Verdict) -> None:
    """As machines measure it that have no Secure Boot; accepted where policy does not ask."""
    empty = edited(SECURE_BOOT, variable("SecureBoot", b""))
    assert state_of(empty).secure_boot.state is Tri.OFF
    scene = approved(local_ca, empty)
    verdict.accepted(scene.decide())
    scene.use_policy(policy_with(secure_boot='"required"'))
    verdict.refused(scene.decide())


TEST_KEY: Final = "DO NOT TRUST - Test PK"


@pytest.mark.parametrize(
    ("boot", "rule"),
    [
        pytest.param(
            edited(is_variable("PK"), variable("PK", b""), boot=OFF),
            "unsafe_setup_mode",
            marks=attack("D7", "policy.setup-mode.on"),
        ),
        pytest.param(
            edited(is_variable("PK")),
            "unsafe_setup_mode",
            marks=attack("D7", "policy.setup-mode.unknown"),
        ),
        pytest.param(
            prepended(
                variable("AuditMode", b"\1"),
                boot=edited(is_variable("PK"), variable("PK", b""), boot=OFF),
            ),
            "unsafe_setup_mode",
            marks=attack("D7", "policy.audit-mode.on"),
        ),
        pytest.param(
            booted(pk=TEST_KEY),
            "unsafe_test_keys",
            marks=attack("D7", "policy.test-key.present"),
        ),
        pytest.param(
            booted(kek=(TEST_KEY,)),
            "unsafe_test_keys",
            marks=attack("D7", "policy.test-key.present"),
        ),
        pytest.param(
            appended(
                measured(
                    7,
                    EventType.EV_EFI_VARIABLE_AUTHORITY,
                    efi.variable_data(efi.SHIM_LOCK, "MokSBState", b"\1"),
                )
            ),
            "unsafe_shim_validation",
            marks=attack("D7", "policy.shim-validation.off"),
        ),
    ],
    ids=["setup", "no-pk", "audit", "test-pk", "test-kek", "shim"],
)
def test_a_secure_boot_that_verifies_nothing_is_not_one(
    local_ca: LocalCA, verdict: Verdict, boot: SimulatedBoot, rule: str
) -> None:
    """Modes, keys and switches with which anything starts; policy says whether it refuses."""
    scene = approved(local_ca, boot)
    noted = {each.id for each in scene.decide().findings}
    scene.use_policy(policy_with(**{rule: '"refuse"'}))
    verdict.refused(scene.decide())
    assert noted <= verdict.refused_by


@attack("D7", "policy.deployed-mode.unknown", "policy.deployed-mode.off")
def test_deployed_mode_is_proven_or_refused(local_ca: LocalCA, verdict: Verdict) -> None:
    """Where policy requires it: a firmware that says nothing of it, and one that says no."""
    required = policy_with(deployed_mode='"required"')
    verdict.refused(approved(local_ca, GOOD, required).decide())
    undeployed = prepended(variable("DeployedMode", b"\0"))
    verdict.refused(approved(local_ca, undeployed, required).decide())


def authority(name: str) -> EventRecord:
    """Return the event of an image that started on the word of a certificate of db."""
    content = efi.signature_data(boot_certificate(name))
    data = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", content)
    return measured(7, EventType.EV_EFI_VARIABLE_AUTHORITY, data)


@attack("D8", "boot.authority.not-in-db")
def test_an_authority_that_no_database_holds_is_refused(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """An image cannot have been started by a key that was not there."""
    verdict.refused(approved(local_ca, appended(authority("Somebody Else"))).decide())


@attack("D8", "eventlog.pcr7.unknown-secure-boot-authority")
def test_an_authority_consulted_before_the_boot_is_not_approved_with_it(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """An option ROM was started by a key of db: the same event, in a place of its own."""
    vendor = "Simulated Windows Production CA"
    early = edited(is_separator(7), authority(vendor), the(is_separator(7)))
    assert len(state_of(early).secure_boot.authorities_before) == 1
    scene = approved(local_ca, GOOD, match_events=[7])
    scene.node.boot(early)
    verdict.refused(scene.decide())


@attack("D9", "reference.boot.dbx-old")
def test_revocations_that_are_too_old_are_refused(local_ca: LocalCA, verdict: Verdict) -> None:
    """Secure Boot is on, and the revoked boot loader starts under it."""
    scene = approved(local_ca, GOOD)
    known = {BANK.digest(text.encode()) for text in grub_description().secure_boot.dbx}
    wanted = BootRules(dbx=frozenset({*known, BANK.digest(b"a boot kit of last week")}))
    scene.references = [replace(scene.references[0], boot=wanted)]
    verdict.refused(scene.decide())
    scene.references = [replace(scene.references[0], boot=BootRules(dbx=frozenset(known)))]
    assert scene.decide().leases


@attack("D9", "reference.boot.sbat-old")
def test_a_shim_that_accepts_revoked_generations_is_refused(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Boot loaders are revoked by generation, which shim's own list names."""
    scene = approved(local_ca, GOOD)
    scene.references = [replace(scene.references[0], boot=BootRules(sbat={"shim": 4, "grub": 6}))]
    verdict.refused(scene.decide())
    scene.references = [replace(scene.references[0], boot=BootRules(sbat={"shim": 4, "grub": 5}))]
    assert scene.decide().leases


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(
            b"UEFI Debug Mode", "unsafe_debug_mode", marks=attack("D10", "policy.debug-mode.on")
        ),
        pytest.param(
            b"DMA Protection Disabled",
            "unsafe_dma",
            marks=attack("D10", "policy.dma-protection.on"),
        ),
    ],
)
def test_firmware_that_lets_others_in_is_refused(
    local_ca: LocalCA, verdict: Verdict, text: bytes, rule: str
) -> None:
    """Recognised by what was measured, under whatever type it is shown."""
    open_to_all = prepended(measured(7, EventType.EV_EFI_ACTION, text))
    scene = approved(local_ca, open_to_all, policy_with(**{rule: '"refuse"'}))
    verdict.refused(scene.decide())
    shown = as_shown(the(holds(text), open_to_all), type=int(EventType.EV_IPL), data=b"harmless")
    verdict.refused(scene.decide(log=edited(holds(text), shown, boot=open_to_all).event_log))


@benign("D10")
def test_actions_that_nobody_knows_are_approved_like_other_events(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Firmware of some vendors measures words of its own into PCR 7."""
    odd = prepended(measured(7, EventType.EV_EFI_ACTION, b"Vendor Start"))
    verdict.accepted(approved(local_ca, odd, STRICT).decide())


# -- D11 to D16: what was started


EXIT_AGAIN: Final = measured(5, EventType.EV_EFI_ACTION, EXIT)


@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(edited(holds(EXIT)), marks=attack("D11", "policy.exit-boot-services.missing")),
        pytest.param(
            appended(EXIT_AGAIN), marks=attack("D11", "policy.exit-boot-services.repeated")
        ),
        pytest.param(
            appended(measured(5, EventType.EV_EFI_ACTION, b"boot services go on")),
            marks=attack("D11", "policy.exit-boot-services.followed"),
        ),
    ],
    ids=["missing", "twice", "followed"],
)
def test_the_firmware_is_left_once_and_for_good(
    local_ca: LocalCA, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Nothing is added to a log that lacks its end."""
    scene = approved(local_ca, boot, policy_with(exit_boot_services='"required"'))
    verdict.refused(scene.decide())


CALLING: Final = b"Calling EFI Application from Boot Option"
RETURNING: Final = b"Returning from EFI Application from Boot Option"


@benign("D12")
def test_a_boot_option_that_failed_before_is_no_other_boot(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """The same option is tried twice; a set matched by events knows each of them."""
    calling, returning = (
        measured(4, EventType.EV_EFI_ACTION, text) for text in (CALLING, RETURNING)
    )
    once = edited(holds(CALLING), calling, returning, calling)
    assert state_of(once).boot_applications.attempts == 2
    scene = approved(local_ca, once, match_events=[4])
    scene.node.boot(edited(holds(CALLING), calling, returning, calling, returning, calling))
    verdict.accepted(scene.decide())


def application(content: bytes, path: str = "\\EFI\\x.efi") -> EventRecord:
    """Return the event of an application of PCR 4."""
    event = efi.image_load_event(len(content), efi.disk_path(path))
    return measured(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, event, content)


@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(
            edited(holds(CALLING), application(b"early"), the(holds(CALLING))),
            marks=attack("D12", "eventlog.pcr4.unknown-boot-application"),
        ),
        pytest.param(
            edited(is_separator(4), application(b"earlier"), the(is_separator(4))),
            marks=attack("D12", "eventlog.pcr4.unknown-boot-application"),
        ),
    ],
    ids=["before-calling", "before-the-separator"],
)
def test_an_application_outside_any_boot_attempt_is_not_approved(
    local_ca: LocalCA, verdict: Verdict, boot: SimulatedBoot
) -> None:
    """Wherever it stands, it was started and is not known."""
    scene = approved(local_ca, GOOD, match_events=[4])
    scene.node.boot(boot)
    verdict.refused(scene.decide())


DRIVER: Final = measured(
    2,
    EventType.EV_EFI_BOOT_SERVICES_DRIVER,
    efi.image_load_event(16, efi.file_path("\\rom.efi")),
    b"the driver of a card",
)


@attack("D13", "policy.option-rom.present")
def test_a_driver_of_a_card_is_refused_where_policy_says_so(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Approved by a careless reference, and refused all the same."""
    scene = approved(local_ca, prepended(DRIVER), policy_with(option_roms='"refuse"'))
    verdict.refused(scene.decide())


@attack("D13", "eventlog.pcr2.unknown-boot-driver")
def test_a_new_driver_is_another_boot(local_ca: LocalCA, verdict: Verdict) -> None:
    """Whatever the policy says of option ROMs."""
    scene = approved(local_ca, GOOD)
    scene.node.boot(prepended(DRIVER))
    verdict.refused(scene.decide())


@benign("D14")
def test_order_across_pcrs_is_nobodys_word(local_ca: LocalCA, verdict: Verdict) -> None:
    """A log sorted by PCR leads to the same values, means the same and is accepted as well."""
    in_order = sorted(GOOD.events, key=lambda event: event.pcr)
    log = encode_event_log(in_order, (BANK,))
    assert log != GOOD.event_log
    verdict.accepted(approved(local_ca, GOOD, STRICT, match_events=[4, 5, 8]).decide(log=log))


@attack("D14", "eventlog.pcr4.replay-mismatch")
def test_order_within_a_pcr_is(local_ca: LocalCA, verdict: Verdict) -> None:
    """Two boot applications exchanged in the log."""
    apps = [each for each in GOOD.events if each.pcr == 4][-2:]
    swapped = [
        apps[1] if each is apps[0] else apps[0] if each is apps[1] else each for each in GOOD.events
    ]
    verdict.refused(approved(local_ca, GOOD).decide(log=encode_event_log(swapped, (BANK,))))


def is_application(event: EventRecord) -> bool:
    """Tell whether an event is that of a boot application."""
    return event.type == EventType.EV_EFI_BOOT_SERVICES_APPLICATION


@attack("D15", "eventlog.pcr4.unknown-boot-application")
def test_the_hash_of_a_file_is_not_the_digest_of_an_image(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Firmware measures an image without its signature: the file's hash approves of nothing."""
    image, signature = b"shim 15.8", b"a signature appended to it"
    scene = approved(local_ca, GOOD, match_events=[4])
    flat = edited(is_application, application(image + signature), first=True)
    scene.references = approved(local_ca, flat, match_events=[4]).references
    verdict.refused(scene.decide())


@attack("D15", "eventlog.pcr8.replay-mismatch")
def test_no_reference_is_learned_from_a_log_that_the_pcrs_contradict(verdict: Verdict) -> None:
    """The log that is judged would say what is good."""
    bad = simulate_boot(grub_description().with_command_line("init=/bin/sh"))
    with verdict.refuses():
        learn(
            replay(parse_event_log(GOOD.event_log)),
            bad.pcrs(),
            name=REFERENCE,
            version="1",
            bank=BANK,
        )


INIT_FORBIDDEN: Final = BootRules(command_line=CommandLineRule(forbidden=("init",)))
WITH_PCR_12: Final = policy_with(pcrs="[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14]")


def ruled(ca: LocalCA, boot: SimulatedBoot, rules: BootRules) -> Scene:
    """Return a scene whose reference approved of the boot, with rules that say more."""
    scene = approved(ca, boot, WITH_PCR_12, pcrs=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14])
    scene.references = [replace(scene.references[0], boot=rules)]
    return scene


@attack("D16", "reference.boot.command-line-forbidden")
@pytest.mark.parametrize("prefix", [b"grub_cmd: ", b"kernel_cmdline: "])
def test_a_prefix_hides_no_command_line(local_ca: LocalCA, verdict: Verdict, prefix: bytes) -> None:
    """The digest is over the text alone: "kernel_cmdline:" may be shown as "grub_cmd:"."""
    bad = simulate_boot(grub_description().with_command_line("root=/dev/vda1 init=/bin/sh"))
    event = the(KERNEL, bad)
    shown = as_shown(event, data=prefix + event.data.removeprefix(b"kernel_cmdline: "))
    log = edited(KERNEL, shown, boot=bad).event_log
    verdict.refused(ruled(local_ca, bad, INIT_FORBIDDEN).decide(log=log))


@attack("D16", "boot.grub.altered-string")
def test_a_prefix_that_was_measured_is_not_one(local_ca: LocalCA, verdict: Verdict) -> None:
    """A digest over prefix and text is not what GRUB measures."""
    text = b"kernel_cmdline: /vmlinuz ro\0"
    odd = edited(KERNEL, measured(8, EventType.EV_IPL, text, text.rstrip(b"\0")))
    verdict.refused(approved(local_ca, odd).decide())


# -- D17, D18: the kernel and what comes with it


FORBIDDEN: Final = BootRules(
    command_line=CommandLineRule(
        required=("lockdown=integrity",),
        forbidden=("init", "rdinit", "rd.break", "module.sig_enforce=0", "ima=off"),
    )
)
GOOD_LINE: Final = grub_description().command_line


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=attack("D17", f"reference.boot.command-line-{what}"))
        for line, what in (
            (f"{GOOD_LINE} init=/bin/sh", "forbidden"),
            (f'{GOOD_LINE} "init=/bin/sh"', "forbidden"),
            (f'{GOOD_LINE} init="/bin/sh -x"', "forbidden"),
            (f"{GOOD_LINE} rd.break", "forbidden"),
            (f"{GOOD_LINE} module.sig-enforce=0", "forbidden"),
            (f"{GOOD_LINE} ima=off", "forbidden"),
            (f"{GOOD_LINE} lockdown=none", "contradicts"),
            ("root=/dev/vda1 ro", "lacks"),
            ('root=/dev/vda1 x="lockdown=integrity"', "lacks"),
            ("root=/dev/vda1 -- lockdown=integrity", "lacks"),
        )
    ],
)
def test_kernel_parameters_are_read_as_the_kernel_reads_them(
    local_ca: LocalCA, verdict: Verdict, line: str
) -> None:
    """A careless reference approved of the whole line; the rules look at its words."""
    boot = simulate_boot(grub_description().with_command_line(line))
    verdict.refused(ruled(local_ca, boot, FORBIDDEN).decide())


@attack("D17", "eventlog.pcr9.unknown-boot-loader-measurement")
def test_another_initrd_is_another_boot(local_ca: LocalCA, verdict: Verdict) -> None:
    """GRUB measures what it loads, under the name of the file."""
    description = grub_description()
    assert description.grub is not None
    swapped = replace(description, grub=replace(description.grub, initrd="initrd with a shell"))
    scene = approved(local_ca, GOOD, match_events=[9])
    scene.node.boot(simulate_boot(swapped))
    verdict.refused(scene.decide())


@attack("D17", "reference.pcr12.value-mismatch")
@pytest.mark.parametrize("what", ["add-on", "credential"])
def test_what_is_slipped_beside_a_unified_kernel_is_another_boot(
    local_ca: LocalCA, verdict: Verdict, what: str
) -> None:
    """Systemd's stub measures add-ons and credentials into PCR 12."""
    unified = simulate_boot(uki_description())
    pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    text = policy_with(pcrs=str(pcrs))
    scene = approved(local_ca, unified, text, pcrs=pcrs)
    verdict_before = scene.decide()
    assert verdict_before.leases, verdict_before.findings
    line = efi.utf16(f"{what} init=/bin/sh")
    scene.node.boot(appended(measured(12, EventType.EV_IPL, line, line), boot=unified))
    verdict.refused(scene.decide())


@attack("D17", "reference.boot.command-line-unattested")
def test_a_rule_on_parameters_wants_every_pcr_that_could_hold_some(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """PCR 12 is not quoted: an add-on could bring parameters unseen."""
    scene = approved(local_ca, GOOD)
    scene.references = [replace(scene.references[0], boot=INIT_FORBIDDEN)]
    verdict.refused(scene.decide())


PHASES: Final = ("enter-initrd", "leave-initrd", "sysinit", "ready")


def extend_phases(scene: Scene, *words: str) -> None:
    """Let the system go through phases."""
    for word in words:
        scene.node.pcr_extend(11, {BANK: BANK.digest(word.encode())})


@attack("D18", "eventlog.pcr11.phase-unexpected")
@benign("D18")
def test_a_quote_of_another_phase_is_refused(local_ca: LocalCA, verdict: Verdict) -> None:
    """Too early, when other secrets are within reach; and too late."""
    unified = simulate_boot(uki_description())
    pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    text = policy_with(pcrs=str(pcrs), phases=f'["{":".join(PHASES)}"]')
    scene = approved(local_ca, unified, text, pcrs=pcrs)
    verdict.refused(scene.decide(), "eventlog.pcr11.phase-unexpected")
    extend_phases(scene, *PHASES[:2])
    verdict.refused(scene.decide(), "eventlog.pcr11.phase-unexpected")
    extend_phases(scene, *PHASES[2:])
    verdict.accepted(scene.decide())
    extend_phases(scene, "shutdown")
    verdict.refused(scene.decide(), "eventlog.pcr11.phase-unexpected")


@attack("D18", "eventlog.pcr11.replay-mismatch")
def test_a_phase_that_does_not_exist_explains_nothing(local_ca: LocalCA, verdict: Verdict) -> None:
    """Only words that systemd measures are phases."""
    unified = simulate_boot(uki_description())
    pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    text = policy_with(pcrs=str(pcrs), phases='["enter-initrd"]')
    scene = approved(local_ca, unified, text, pcrs=pcrs)
    extend_phases(scene, "enter-initrd", "anything")
    verdict.refused(scene.decide())


# -- D19 to D22: what a policy may rest on


@attack("D19", MALFORMED)
@pytest.mark.parametrize("pcr", [16, 23])
def test_no_policy_rests_on_a_pcr_that_anybody_resets(verdict: Verdict, pcr: int) -> None:
    """It would be a wish: whoever runs code on the machine sets it as he likes."""
    with verdict.refuses():
        parse_policy(policy_with(pcrs=f"[0, 4, 7, {pcr}]"))


@benign("D19")
@pytest.mark.swtpm
def test_a_pcr_that_was_reset_and_extended_again_changes_nothing(
    software_tpm_state: SoftwareTPMState, tmp_path: Path, verdict: Verdict
) -> None:
    """A real TPM lets anybody do so in locality 0; no decision looks there."""
    with machine(software_tpm_state.clone(tmp_path / "state")) as tpm:
        fresh = tpm.read_pcrs({BANK: [23]})
        tpm.pcr_extend(23, {BANK: b"\1" * 32})
        spoilt = tpm.read_pcrs({BANK: [23]})
        with tpm.command("TPM2_PCR_Reset"):
            tpm.esapi.pcr_reset(ESYS_TR.PCR23)
        assert tpm.read_pcrs({BANK: [23]}) == fresh != spoilt
        assert tpm.read_pcrs({BANK: [17]}) == {BANK: {17: b"\xff" * 32}}
    verdict.noticed(())


@attack("D19", "reference.pcr17.value-mismatch")
def test_a_dynamic_launch_cannot_be_made_up_by_extending(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """PCR 17 to 22 start as ones without a launch, and as zeros with one."""
    pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 17]
    scene = approved(local_ca, GOOD, policy_with(pcrs=str(pcrs)))
    launched = ValueReference((BANK.digest(bytes(32) + b"\7" * 32),))
    golden = scene.references[0]
    scene.references = [replace(golden, pcrs={**golden.pcrs, 17: launched})]
    scene.node.pcr_extend(17, {BANK: b"\7" * 32})
    verdict.refused(scene.decide())


@attack("D20", "reference.pcr.unconstrained")
def test_a_dynamic_launch_needs_a_reference_of_its_own(local_ca: LocalCA, verdict: Verdict) -> None:
    """No log of firmware explains PCR 17: a policy that demands it wants values for it."""
    pcrs = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 17]
    verdict.refused(approved(local_ca, GOOD, policy_with(pcrs=str(pcrs))).decide())


@attack("D21", MALFORMED)
@pytest.mark.parametrize(
    "change",
    [
        {"references__accept": "[]"},
        {"quote__pcrs": "[]"},
        {"quote__banks": "[]"},
        {"lease__audiences": "[]"},
        {"authorization__cedar": "''"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_policy_is_empty(verdict: Verdict, change: dict[str, str]) -> None:
    """One that demands nothing would accept everything."""
    with verdict.refuses():
        parse_policy(make_policy(**change))


@attack("D21", "reference.name.unknown", "reference.none")
def test_without_a_reference_nothing_is_good(scene: Scene, verdict: Verdict) -> None:
    """Nothing is learned from whoever comes first."""
    scene.references = []
    verdict.refused(scene.decide())


@attack("D21", "problem:unauthorized")
def test_a_node_registers_no_reference(
    running: VerifierProcess, http: httpx2.Client, reference_file: bytes, verdict: Verdict
) -> None:
    """That takes the operator's credential."""
    del running
    verdict.refused(http.post("/v1/admin/references", content=reference_file))


@attack("D22", MALFORMED)
@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text[2:],
        lambda text: text.lstrip("0"),
        lambda text: "0x" + text,
        lambda text: text.upper(),
        lambda text: f" {text}",
        lambda text: f"00{text}",
    ],
    ids=["byte-less", "zeros-stripped", "0x", "upper-case", "blank", "byte-more"],
)
def test_a_digest_has_one_spelling(reference_file: bytes, verdict: Verdict, respell: Any) -> None:
    """Whole bytes in lower case: 00ab… is not ab…."""
    digest = "00ab" + "cd" * 30
    text = reference_file.decode()
    first = min(part for part in text.split('"') if len(part) == len(digest))
    parse_reference(text.replace(first, digest).encode())
    with verdict.refuses():
        parse_reference(text.replace(first, respell(digest)).encode())


@attack("D22", "reference.pcr4.value-mismatch")
def test_values_are_compared_as_bytes(local_ca: LocalCA, verdict: Verdict) -> None:
    """A value that differs in its zeros is another value."""
    scene = approved(local_ca, GOOD)
    golden = scene.references[0]
    known = golden.pcrs[4]
    assert isinstance(known, ValueReference)
    shifted = ValueReference((known.values[0][1:] + b"\0",))
    scene.references = [replace(golden, pcrs={**golden.pcrs, 4: shifted})]
    verdict.refused(scene.decide())


# -- D23 to D26: bodies, and other machines' logs


HUGE: Final = 2**62


def bomb(size: int, *, name: int = 10, data: int = 1) -> bytes:
    """Return a variable whose lengths are lies."""
    head = efi.GLOBAL_VARIABLE.bytes_le + struct.pack("<QQ", name, data)
    return head + "SecureBoot".encode("utf-16-le") + b"\1" * size


SIGNATURE_LIST: Final = efi.x509_signature_list(b"x" * 40)
BOMBS: Final = {
    "name-2^62": (7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, bomb(1, name=HUGE)),
    "data-2^64": (7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, bomb(1, data=2**64 - 1)),
    "surrogate": (
        7,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        efi.GLOBAL_VARIABLE.bytes_le + struct.pack("<QQ", 1, 1) + b"\0\xd8\1",
    ),
    "list-size-0": (
        7,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        efi.variable_data(
            efi.IMAGE_SECURITY_DATABASE,
            "dbt",
            SIGNATURE_LIST[:24] + bytes(4) + SIGNATURE_LIST[28:],
        ),
    ),
    "path-0": (
        4,
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        efi.image_load_event(1, b"\4\4\0\0" * 8),
    ),
    "path-2^63": (
        4,
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        struct.pack("<QQQQ", 0, 1, 0, 2**63) + b"\x7f\xff\4\0",
    ),
    "gpt-2^60": (
        5,
        EventType.EV_EFI_GPT_EVENT,
        efi.gpt_data("x")[:92] + struct.pack("<Q", 2**60) + bytes(128),
    ),
    "handoff-2^61": (1, EventType.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 2**61) + bytes(24)),
    "tag-size": (9, EventType.EV_EVENT_TAG, struct.pack("<II", 0x8F3B22EC, 0xFFFFFFFF) + b"x"),
    "nested-tags": (12, EventType.EV_EVENT_TAG, struct.pack("<II", 0x40010001, 8) * 50_000),
}


@benign("D23")
@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_body_that_lies_is_a_digest_and_no_more(
    local_ca: LocalCA, verdict: Verdict, name: str
) -> None:
    """It neither crashes nor costs, says nothing, and is approved or not by its digest."""
    pcr, kind, data = BOMBS[name]
    boot = prepended(measured(pcr, kind, data))
    started = time.perf_counter()
    state = state_of(boot)
    assert state.secure_boot.state is Tri.ON
    verdict.accepted(approved(local_ca, boot, STRICT).decide())
    assert time.perf_counter() - started < 2


@attack("D23", "eventlog.pcr7.unknown-secure-boot-variable", "policy.secure-boot.unknown")
@pytest.mark.parametrize("name", ["name-2^62", "data-2^64"])
def test_a_body_that_lies_proves_nothing(local_ca: LocalCA, verdict: Verdict, name: str) -> None:
    """In place of the variable that says whether Secure Boot is on."""
    pcr, kind, data = BOMBS[name]
    boot = edited(SECURE_BOOT, measured(pcr, kind, data))
    scene = approved(local_ca, GOOD, STRICT, match_events=[7])
    scene.node.boot(boot)
    verdict.refused(scene.decide())


def certificate_with_an_extension_twice() -> bytes:
    """Return a certificate that a strict parser refuses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An Odd Vendor CA")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    comments = [x509.ObjectIdentifier(f"2.16.840.1.113730.1.{number}") for number in (13, 14)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=3650))
    )
    for oid in comments:
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\4\1x"), critical=False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    tail = bytes.fromhex("6086480186f842010d"), bytes.fromhex("6086480186f842010e")
    assert made.count(tail[1]) == 1
    return made.replace(tail[1], tail[0])


@benign("D24")
@attack("D24", "reference.boot.db-not-allowed")
def test_a_certificate_that_does_not_parse_is_its_bytes(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """It is known by its digest, so that a rule can name it, and cannot be slipped in."""
    odd = certificate_with_an_extension_twice()
    listed = efi.x509_signature_list(odd)
    vendor = boot_certificate("Simulated Third Party UEFI CA")
    both = variable(
        "db", listed + efi.x509_signature_list(vendor), guid=efi.IMAGE_SECURITY_DATABASE
    )
    boot = edited(is_variable("db"), both)
    (held,) = [
        each
        for each in state_of(boot).secure_boot.db.certificates
        if each.sha256 == HashAlg.SHA256.digest(odd)
    ]
    assert held.der == odd
    scene = approved(local_ca, boot, STRICT)
    names = {HashAlg.SHA256.digest(each) for each in (odd, vendor)}
    known = KeyRule(allowed=frozenset(names))
    scene.references = [replace(scene.references[0], boot=BootRules(db=known))]
    verdict.accepted(scene.decide())
    less = KeyRule(allowed=frozenset({HashAlg.SHA256.digest(vendor)}))
    scene.references = [replace(scene.references[0], boot=BootRules(db=less))]
    verdict.refused(scene.decide())


def sipa(tag: int, value: bytes) -> bytes:
    """Return an event of Windows' boot manager, in the container that its log has."""
    inner = struct.pack("<II", tag, len(value)) + value
    return struct.pack("<II", 0x40010001, len(inner)) + inner


@attack("D25", "eventlog.pcr12.replay-mismatch")
def test_a_windows_flag_cannot_be_taken_back_in_the_log(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """Another event in the log leads to another PCR 12."""
    truth = measured(12, EventType.EV_EVENT_TAG, sipa(SIPA.TEST_SIGNING, b"\1"))
    lie = measured(12, EventType.EV_EVENT_TAG, sipa(SIPA.TEST_SIGNING, b"\0"))
    text = policy_with(pcrs="[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14]")
    scene = approved(local_ca, appended(truth), text, pcrs=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14])
    verdict.refused(scene.decide(log=appended(lie).event_log))


@benign("D25", "boot.event.malformed-body")
@pytest.mark.parametrize(
    "kind", [SIPA.TEST_SIGNING, SIPA.BOOT_DEBUGGING], ids=lambda kind: kind.name
)
def test_a_windows_flag_edited_under_its_digest_says_nothing(verdict: Verdict, kind: SIPA) -> None:
    """It was measured as on and is shown as off: neither is believed."""
    truth = sipa(kind, b"\1")
    on = appended(measured(12, EventType.EV_EVENT_TAG, truth))
    assert windows_of(on.event_log)[kind] is Tri.ON
    shown = as_shown(the(holds(truth), on), data=sipa(kind, b"\0"))
    log = edited(holds(truth), shown, boot=on).event_log
    assert windows_of(log)[kind] is Tri.UNKNOWN
    verdict.noticed(state_of(on, log).findings)


def windows_of(log: bytes) -> dict[SIPA, Tri]:
    """Return two flags of Windows that a log proves."""
    facts = windows(AttestedLog.of(replay(parse_event_log(log)), BANK))
    return {SIPA.TEST_SIGNING: facts.test_signing, SIPA.BOOT_DEBUGGING: facts.boot_debugging}


@benign("D25")
def test_a_quote_inside_the_log_is_nobodys_proof(local_ca: LocalCA, verdict: Verdict) -> None:
    """Windows' TrustPoint answers no challenge of ours; it is an event that is not measured."""
    trust_point = sipa(0x80000001, b"\xffTCG\x80\x18" + bytes(200))
    odd = encode_event(0xFFFFFFFF, EventType.EV_NO_ACTION, {BANK: bytes(32)}, trust_point)
    verdict.accepted(approved(local_ca, GOOD, STRICT).decide(log=GOOD.event_log + odd))


def as_ccel(log: bytes) -> bytes:
    """Return a log whose header says that its indices are measurement registers."""
    header = encode_spec_id_event([BANK])
    assert log.startswith(header)
    return encode_spec_id_event([BANK], pcr=1) + log[len(header) :]


@attack("D26", "eventlog.registers")
def test_a_log_of_registers_explains_no_pcrs(local_ca: LocalCA, verdict: Verdict) -> None:
    """One byte of the header, which nothing signs, would have PCR 1 read as Secure Boot's."""
    scene = approved(local_ca, GOOD)
    verdict.refused(scene.decide(log=as_ccel(GOOD.event_log)))


@attack("D26", "eventlog.registers")
def test_secure_boot_is_not_read_from_pcr_1(local_ca: LocalCA, verdict: Verdict) -> None:
    """Secure Boot is off; the system extends PCR 1 with what register 1 would have to hold."""
    firmware = [each for each in OFF.events if each.pcr != 1]
    forged = boot_of_events(
        [
            replace(variable("SecureBoot", b"\1"), pcr=1),
            *[replace(each, pcr=1) for each in GOOD.events if each.pcr == 7][1:],
            *firmware,
        ],
        (BANK,),
    )
    scene = approved(local_ca, forged, policy_with(secure_boot='"required"'))
    verdict.refused(scene.decide(), "policy.secure-boot.off")
    verdict.refused(scene.decide(log=as_ccel(forged.event_log)))


@benign("D26")
def test_the_registers_of_a_confidential_machine_are_mapped(verdict: Verdict) -> None:
    """Read for people: register 1 holds Secure Boot, and there its separator ends it."""
    events = [
        replace(each, pcr={1: 1, 7: 1, 4: 2, 5: 2, 8: 3}[each.pcr])
        for each in GOOD.events
        if each.pcr in {1, 7, 4, 5, 8}
    ]
    log = as_ccel(boot_of_events(events, (BANK,)).event_log)
    state = read_boot_state(AttestedLog.of(replay(parse_event_log(log)), BANK))
    assert state.secure_boot.state is Tri.ON
    assert {each.pcr for each in state.boot_applications.images} == {2}
    verdict.noticed(state.findings)
