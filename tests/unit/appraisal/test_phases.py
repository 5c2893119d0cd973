"""PCRs that firmware's log does not explain: phases in 11, dynamic launch in 17, IMA in 10."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.appraisal import AppraisalCache
from bootlease.appraisal.boot import verdict_key
from bootlease.appraisal.bootlog import check_replay, check_separators
from bootlease.appraisal.phases import check_phases
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg, refusals
from bootlease.reference import ValueReference
from bootlease.testing.boot import boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene

BANK = HashAlg.SHA256
PCRS = "9, 14]"
PATH = "enter-initrd:leave-initrd:sysinit:ready"


def extended(value: bytes, path: str) -> bytes:
    """Return a PCR after the words of a path, by hand."""
    for word in path.split(":"):
        value = BANK.digest(value + BANK.digest(word.encode()))
    return value


def in_phase(ca: LocalCA, path: str, phases: str) -> Scene:
    """Return a UKI machine that has gone a path, under a policy that names phases."""
    text = POLICY.replace(PCRS, "9, 11, 14]").replace("phases = []", f"phases = {phases}")
    boot = simulate_boot(uki_description())
    scene = Scene.create(ca, boot, policy=text)
    (learned,) = scene.references
    value = replay(parse_event_log(boot.event_log)).pcrs[BANK][11]
    pcrs = {**learned.pcrs, 11: ValueReference((value,))}
    scene.references = [dataclasses.replace(learned, pcrs=pcrs)]
    for word in path.split(":") if path else ():
        scene.node.pcr_extend(11, {BANK: BANK.digest(word.encode())})
    return scene


def refused(scene: Scene) -> set[str]:
    """Return the ids of what refuses the node as it is."""
    return {finding.id for finding in refusals(scene.decide().findings)}


def test_phases_that_policy_names_are_accepted(ca: LocalCA) -> None:
    """D18: the reference set has PCR 11 as the log leads to it, the quote has the phases too."""
    assert refused(in_phase(ca, PATH, f'["{PATH}"]')) == set()
    assert refused(in_phase(ca, "enter-initrd", f'["enter-initrd", "{PATH}"]')) == set()


@pytest.mark.parametrize("path", ["", "enter-initrd", f"{PATH}:shutdown"])
def test_another_phase_is_another_state(ca: LocalCA, path: str) -> None:
    """D18: secrets of the initrd are within reach in the initrd only; the finding says where."""
    scene = in_phase(ca, path, f'["{PATH}"]')
    assert refused(scene) == {"eventlog.pcr11.phase-unexpected"}
    (finding,) = refusals(scene.decide().findings)
    assert finding.seen == (path or "no phase")
    assert finding.expected == PATH


def test_phases_that_policy_does_not_name_are_refused(ca: LocalCA) -> None:
    """Without the word of the policy, PCR 11 is what the log leads to."""
    found = refused(in_phase(ca, PATH, "[]"))
    assert "eventlog.pcr11.replay-mismatch" in found
    assert refused(in_phase(ca, "", "[]")) == set()


def test_other_words_are_no_phases(ca: LocalCA) -> None:
    """What nobody names was extended by somebody else."""
    assert "eventlog.pcr11.replay-mismatch" in refused(in_phase(ca, "evil", f'["{PATH}"]'))


def test_words_of_an_operator_may_be_phases(ca: LocalCA) -> None:
    """A path is what the policy writes."""
    assert refused(in_phase(ca, "ready:my-word", '["ready:my-word"]')) == set()


def test_every_bank_must_be_in_the_phase() -> None:
    """A5: a bank that was not extended is in no phase."""
    banks = (HashAlg.SHA256, HashAlg.SHA384)
    log = replay(parse_event_log(simulate_boot(uki_description(), banks).event_log))
    quoted = {bank: dict(log.pcrs[bank]) for bank in banks}
    quoted[BANK][11] = extended(quoted[BANK][11], PATH)
    required = dict.fromkeys(banks, (11,))
    values, found = check_phases(log, quoted, required, (PATH,))
    assert [finding.seen for finding in found] == ["no phase"]
    assert "sha384" in found[0].message
    assert values[BANK][11] == log.pcrs[BANK][11]
    assert check_replay(log, values, required) == ()


def test_a_dynamic_launch_is_judged_by_its_reference_alone(ca: LocalCA) -> None:
    """D20: no log of firmware's has its events; the set must have the PCR, and its very value."""
    text = POLICY.replace(PCRS, "9, 14, 17]")
    scene = Scene.create(ca, policy=text)
    (learned,) = scene.references
    value = scene.node.quote(bytes(32), {BANK: (17,)}).pcrs[BANK][17]
    for reference, expected in (
        (learned, {"reference.pcr.unconstrained"}),
        (ValueReference((value,)), set()),
        (ValueReference((b"\xee" * 32,)), {"reference.pcr17.value-mismatch"}),
    ):
        pcrs = dict(learned.pcrs)
        if isinstance(reference, ValueReference):
            pcrs[17] = reference
        scene.references = [dataclasses.replace(learned, pcrs=pcrs)]
        assert refused(scene) == expected


def test_a_separator_whose_data_was_altered_is_refused() -> None:
    """D4: the digest is a separator's, and the log shows something else."""
    boot = simulate_boot(grub_description())
    events = list(boot.events)
    (at,) = [n for n, each in enumerate(events) if each.pcr == 3 and each.data == bytes(4)]
    events[at] = dataclasses.replace(events[at], data=bytes(5))
    log = replay(parse_event_log(boot_of_events(events, (BANK,)).event_log))
    found = check_separators(log, {BANK: tuple(range(8))})
    assert [finding.id for finding in found] == ["eventlog.pcr3.separator-altered"]


IMA = """[ima]
appraise = "required"
accept = ["files"]
unlisted = "refuse"
violations = "refuse"
signatures = "ignored"
"""


def test_a_verdict_on_a_boot_does_not_depend_on_pcr_10(ca: LocalCA) -> None:
    """It moves with every file: a renewal would never find the verdict of the one before."""
    text = POLICY.replace('[ima]\nappraise = "off"\n', IMA).replace(PCRS, "9, 10, 14]")
    keys = []
    scene = Scene.create(ca, policy=text)
    scene.cache = AppraisalCache()
    for pcr in (10, 9):
        challenge = scene.challenge()
        evidence = scene.verify(scene.attest(challenge), challenge)
        keys.append(verdict_key(evidence, scene.references, scene.policy.policy, scene.now))
        result = scene.appraise(evidence, challenge)
        found = {finding.id for finding in result.findings}
        assert not any(each.startswith(("eventlog.pcr10", "reference.")) for each in found)
        assert len(scene.cache) == 1
        scene.node.pcr_extend(pcr, {BANK: bytes(32)})
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge), challenge)
    keys.append(verdict_key(evidence, scene.references, scene.policy.policy, scene.now))
    assert keys[0] == keys[1] != keys[2]
