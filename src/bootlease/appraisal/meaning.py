"""What the events of a boot mean, by the rules of a policy (appraisal step 5).

Contradictions in what is read here (Secure Boot, shim, strings of GRUB, option ROMs) refuse
whatever the policy says: they are the marks of a log that somebody wrote. Of events that nothing is
read from, altered data changes nothing and is told by ``eventlog show`` alone. The rest is for
``policy.boot`` to weigh. A fact that a rule demands and that no attested event proves refuses
(attack D5); where policy only wants to be told, what is not proven is not told.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Final

from bootlease.bootstate.apps import IMAGE_TYPES, option_roms
from bootlease.bootstate.grub import grub_commands, grub_label, grub_text
from bootlease.bootstate.keyfacts import AuthorityKind, SecureBoot
from bootlease.bootstate.pcrs import (
    BOOT_CONFIGURATION_PCR,
    GRUB_STRING_PCR,
    OPTION_ROM_PCR,
    SECURE_BOOT_PCR,
    SHIM_PCR,
)
from bootlease.bootstate.separators import exit_boot_services
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import Event, EventType
from bootlease.model import Effect, Finding, HashAlg, legible, refusals
from bootlease.policy import BootPolicy, Policy
from bootlease.reference.bootfacts import BootFacts, FactsByBank

MAX_FINDINGS: Final = 32
"""Findings of one aspect; an untrusted log decides how many there could be."""

_MOK_SB_STATE: Final = b"MokSBState"
_EV_IPL: Final = int(EventType.EV_IPL)
_MAX_NAMED: Final = 4
_MAX_TOLD: Final = 256
_MAX_REMEMBERED: Final = 64 * 1024


def check_meaning(facts: FactsByBank, policy: Policy) -> tuple[Finding, ...]:
    """Judge what each demanded bank proves.

    Args:
        facts: What attested events mean.
        policy: The policy.

    Returns:
        Contradictions of the log, and where the boot breaks a rule or is worth a note.
    """
    found: list[Finding] = []
    for bank, pcrs in policy.boot_selection.items():
        proven = facts.of(bank)
        if proven is not None:
            _judge_bank(proven, pcrs, policy.boot, found)
    return tuple(dict.fromkeys(found)) if found else ()


def _judge_bank(
    facts: BootFacts, pcrs: tuple[int, ...], rules: BootPolicy, found: list[Finding]
) -> None:
    view = facts.view
    if SECURE_BOOT_PCR in pcrs:
        secure_boot = facts.secure_boot
        if secure_boot.findings:
            found += _bounded(secure_boot.findings)
        if not _nothing_to_say(secure_boot, rules):
            found += _secure_boot(secure_boot, rules)
    if SHIM_PCR in pcrs and (
        SECURE_BOOT_PCR not in view.attested or _speaks_of_mok_sb_state(facts)
    ):
        found += _shim(facts, rules)
    if GRUB_STRING_PCR in pcrs and _has_altered_string(view):
        found += _bounded(grub_commands(view).findings)
    if OPTION_ROM_PCR in pcrs and not _without_option_roms(view):
        found += _option_roms(facts, rules)
    if rules.exit_boot_services:
        found += _exit_boot_services(facts)


def _has_altered_string(view: AttestedLog) -> bool:
    events = view.events(GRUB_STRING_PCR)
    if not events:
        return False
    short = sum([len(event[5]) for event in events]) <= _MAX_REMEMBERED
    return (_known_altered if short else _altered)(view.bank, view.column, events)


def _altered(bank: HashAlg, column: int, events: tuple[Event, ...]) -> bool:
    for _, _, event_type, _, digests, body in events:
        labelled = event_type == _EV_IPL and grub_label(body) is not None
        if labelled and grub_text(bank, digests[column], body) is None:
            return True
    return False


_known_altered: Final = functools.lru_cache(maxsize=256)(_altered)
"""Machines with one configuration of GRUB measure the very same strings, digests and all."""


def _bounded(findings: tuple[Finding, ...]) -> Iterable[Finding]:
    if len(findings) <= MAX_FINDINGS:
        return findings
    # What refuses is named first, so that no flood of notes hides it.
    refusing = refusals(findings)
    notes = tuple(finding for finding in findings if finding.effect is Effect.NOTES)
    more = Finding(
        "boot.findings.more",
        f"The log gives rise to {len(findings) - MAX_FINDINGS} more findings of the same aspect.",
        effect=Effect.REFUSES if len(refusing) > MAX_FINDINGS else Effect.NOTES,
    )
    return (*(refusing + notes)[:MAX_FINDINGS], more)


def _nothing_to_say(facts: SecureBoot, rules: BootPolicy) -> bool:
    """Tell whether a boot is what every rule on Secure Boot wants, as nearly every one is."""
    off = Tri.OFF
    return (
        facts.state is Tri.ON
        and facts.setup_mode is off
        and facts.audit_mode is off
        and facts.debug_mode is off
        and facts.dma_protection_disabled is off
        and not facts.test_keys
        and facts.pk is not None
        and facts.kek is not None
        and facts.db is not None
        and not (rules.deployed_mode and facts.deployed_mode is not Tri.ON)
    )


def _secure_boot(facts: SecureBoot, rules: BootPolicy) -> Iterator[Finding]:
    if rules.secure_boot:
        yield from _demanded(facts.state, "secure-boot", "Secure Boot", facts, "SecureBoot")
    if rules.deployed_mode:
        deployed = facts.deployed_mode
        yield from _demanded(deployed, "deployed-mode", "Deployed mode", facts, "DeployedMode")
    yield from _setup_mode(facts, rules.unsafe_setup_mode)
    yield from _test_keys(facts, rules.unsafe_test_keys)
    yield from _refused_state(
        facts.debug_mode,
        "debug-mode",
        "The firmware lets a debugger attach (UEFI Debug Mode)",
        rules.unsafe_debug_mode,
    )
    yield from _refused_state(
        facts.dma_protection_disabled,
        "dma-protection",
        "The firmware switched its protection against DMA off",
        rules.unsafe_dma,
    )


def _demanded(
    state: Tri, slug: str, name: str, facts: SecureBoot, variable: str
) -> Iterator[Finding]:
    if state is Tri.ON:
        return
    words = "is off" if state is Tri.OFF else "is not proven to be on"
    yield Finding(
        f"policy.{slug}.{state.value}",
        f"{name} {words}; the policy requires it.",
        pcr=SECURE_BOOT_PCR,
        event=dict(facts.variables).get(variable),
        expected=Tri.ON.value,
        seen=state.value,
    )


def _refused_state(state: Tri, slug: str, sentence: str, effect: Effect) -> Iterator[Finding]:
    if state is Tri.ON:
        yield Finding(
            f"policy.{slug}.on", f"{sentence}.", effect=effect, pcr=SECURE_BOOT_PCR, seen="on"
        )
    elif state is Tri.UNKNOWN and effect is Effect.REFUSES:
        yield Finding(
            f"policy.{slug}.unknown",
            f"It is not proven that this is not so: {sentence[0].lower()}{sentence[1:]}.",
            pcr=SECURE_BOOT_PCR,
            expected=Tri.OFF.value,
            seen=Tri.UNKNOWN.value,
        )


def _setup_mode(facts: SecureBoot, effect: Effect) -> Iterator[Finding]:
    yield from _refused_state(
        facts.setup_mode,
        "setup-mode",
        "The firmware is in setup mode, without a platform key: anybody may enrol keys",
        effect,
    )
    # Few firmwares measure audit mode; with a platform key, UEFI 2.11 §32.3 leaves no choice.
    if facts.audit_mode is Tri.ON:
        yield from _refused_state(
            facts.audit_mode,
            "audit-mode",
            "The firmware is in audit mode: it starts images whatever their signature",
            effect,
        )


def _test_keys(facts: SecureBoot, effect: Effect) -> Iterator[Finding]:
    for key in facts.test_keys[:_MAX_NAMED]:
        shown = legible(key.certificate.subject or "", at_most=_MAX_TOLD)
        yield Finding(
            "policy.test-key.present",
            f"{key.variable} holds a key that is for tests, and whose secret is public: {shown}.",
            effect=effect,
            pcr=SECURE_BOOT_PCR,
            event=dict(facts.variables).get(key.variable),
            seen=key.certificate.sha256.hex(),
        )
    if effect is not Effect.REFUSES:
        return
    for variable, database in (("PK", facts.pk), ("KEK", facts.kek), ("db", facts.db)):
        if database is None:
            yield Finding(
                "policy.test-key.unknown",
                f"No attested event shows {variable}, so it may hold keys that are for tests.",
                pcr=SECURE_BOOT_PCR,
                expected=f"{variable} measured before the separator of PCR {SECURE_BOOT_PCR}",
            )


def _shim(facts: BootFacts, rules: BootPolicy) -> Iterator[Finding]:
    effect = rules.unsafe_shim_validation
    shim = facts.shim
    yield from _bounded(shim.findings)
    if shim.validation_disabled is Tri.ON:
        yield Finding(
            "policy.shim-validation.off",
            "shim was told to verify no signatures (MokSBState).",
            effect=effect,
            pcr=SHIM_PCR,
            event=next((each.event for each in shim.variables if each.name == "MokSBState"), None),
        )
    elif (
        shim.validation_disabled is Tri.UNKNOWN
        and shim.present is not Tri.OFF
        and effect is Effect.REFUSES
    ):
        yield Finding(
            "policy.shim-validation.unknown",
            "It is not proven that shim verified signatures.",
            pcr=SHIM_PCR,
        )


def _speaks_of_mok_sb_state(facts: BootFacts) -> bool:
    """Tell whether shim's switch may be in the log at all: most machines do not have it."""
    if SECURE_BOOT_PCR not in facts.view.attested:
        return True
    for event in facts.view.events(SHIM_PCR):
        if event[5].startswith(_MOK_SB_STATE):
            return True
    secure_boot = facts.secure_boot
    for authority in (*secure_boot.authorities_before, *secure_boot.authorities_after):
        if authority.kind is AuthorityKind.SHIM_VARIABLE:
            return True
    return False


def _without_option_roms(view: AttestedLog) -> bool:
    return (
        not view.is_ccel
        and OPTION_ROM_PCR in view.attested
        and IMAGE_TYPES.isdisjoint([event[2] for event in view.events(OPTION_ROM_PCR)])
    )


def _option_roms(facts: BootFacts, rules: BootPolicy) -> Iterator[Finding]:
    roms = option_roms(facts.view)
    yield from _bounded(roms.findings)
    if roms.images:
        shown = ", ".join(f"{image.digest.hex()[:16]}…" for image in roms.images[:_MAX_NAMED])
        yield Finding(
            "policy.option-rom.present",
            f"{len(roms.images)} drivers of add-in hardware ran before the operating system: "
            f"{shown}.",
            effect=rules.option_roms,
            pcr=OPTION_ROM_PCR,
            event=roms.images[0].event,
        )
    if not roms.known and rules.option_roms is Effect.REFUSES:
        yield Finding(
            "policy.option-rom.unknown",
            "It is not proven that no driver of add-in hardware ran.",
            pcr=OPTION_ROM_PCR,
        )


def _exit_boot_services(facts: BootFacts) -> Iterator[Finding]:
    ended = exit_boot_services(facts.view)
    what, words = "", ""
    if ended.state is not Tri.ON:
        what, words = "missing", "No attested event shows that the firmware was left for good"
    elif len(ended.successes) != 1:
        what, words = "repeated", f"The firmware was left {len(ended.successes)} times"
    elif ended.events_after:
        what = "followed"
        words = f"PCR 5 has {ended.events_after} events from after the firmware was left"
    if what:
        yield Finding(
            f"policy.exit-boot-services.{what}",
            f"{words} (ExitBootServices); the policy requires one end.",
            pcr=BOOT_CONFIGURATION_PCR,
            event=next(iter(ended.successes or ended.invocations), None),
            expected="invoked, returned with success once, and nothing afterwards",
        )
