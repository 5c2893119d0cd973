"""``appraise_ima``: what a running system loaded, judged entry by entry and never twice."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import pytest

from bootlease.appraisal import AppraisalCache, AttestationResult, appraise_ima, whole_list_wanted
from bootlease.evidence import Challenge, Evidence, IMASegment, VerifiedEvidence, log_digest
from bootlease.ima import IMA_PCR
from bootlease.lineage import IMAProgress, Prior
from bootlease.model import Effect, HashAlg, refusals
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.ima_list import SimulatedIMA, file_fields, list_entry
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import IMA_POLICY, Scene, files_reference

BASH, CAT = "/usr/bin/bash", "/usr/bin/cat"
FILES: Mapping[str, bytes] = {BASH: b"bash", CAT: b"cat", "/usr/bin/id": b"id"}


@pytest.fixture
def running(ca: LocalCA) -> Scene:
    """A node whose kernel has measured one good file since its boot."""
    scene = Scene.create(ca, policy=IMA_POLICY)
    scene.ima_references = (files_reference(FILES),)
    scene.node.start_ima().measure(BASH, b"bash")
    return scene


def refused(result: AttestationResult) -> set[str]:
    """Return the ids of what refuses."""
    assert bool(result.leases) == result.accepted
    return {finding.id for finding in refusals(result.findings)}


def keep(scene: Scene, result: AttestationResult) -> Prior:
    """Continue from a grant."""
    assert result.accepted, result.findings
    scene.prior = Prior(
        result.lineage.root,
        hashlib.sha256(b"head").digest(),
        result.lineage.sequence,
        result.clock_info,
        result.expires_at,
        {"tcg": log_digest(scene.node.event_log)},
        result.policy.epoch,
        result.lineage.began_at,
        ima=result.ima,
    )
    return scene.prior


def present(
    scene: Scene, *, first: int | None = None, challenge: Challenge | None = None
) -> tuple[Challenge, Evidence]:
    """Return a challenge and the evidence for it, which continues a lineage if there is one."""
    challenge = challenge or scene.challenge()
    previous = None if scene.prior is None else scene.prior.head
    return challenge, scene.attest(challenge, previous=previous, first=first)


def decide(scene: Scene, *, first: int | None = None) -> AttestationResult:
    """Let the node attest, and appraise what it says."""
    challenge, evidence = present(scene, first=first)
    return scene.appraise(scene.verify(evidence, challenge), challenge)


def wanted(scene: Scene, *, first: int | None = None) -> tuple[str, ...]:
    """Return the ids of what the verifier asks for before it judges."""
    challenge, evidence = present(scene, first=first)
    verified = scene.verify(evidence, challenge)
    found = whole_list_wanted(
        verified, scene.prior, scene.ima_references, scene.policy.policy, now=scene.now
    )
    return tuple(finding.id for finding in found)


def test_a_list_of_good_files_is_accepted(running: Scene) -> None:
    """The lineage has accepted two entries, and no more is claimed than of a boot."""
    result = decide(running)
    assert result.accepted
    assert result.ima is not None
    assert result.ima.state.entries == 2
    assert result.vector.executables == 3
    assert result.considered == (running.references[0].digest, running.ima_references[0].digest)


def test_a_renewal_is_judged_by_its_new_entries(running: Scene) -> None:
    """Only these are sent, only these are replayed, and the count goes on."""
    before = keep(running, decide(running)).ima
    running.node.ima.measure(CAT, b"cat")  # type: ignore[union-attr]  # started above
    challenge, evidence = present(running)
    assert challenge.ima == 2
    assert evidence.ima is not None
    assert (evidence.ima.first, len(evidence.logs["ima"])) == (2, len(running.node.ima.since(2)))  # type: ignore[union-attr]
    result = running.appraise(running.verify(evidence, challenge), challenge)
    assert result.accepted
    assert result.ima is not None
    assert before is not None
    assert (result.ima.state.entries, result.ima.rules) == (3, before.rules)


def test_a_renewal_without_new_entries_brings_no_list(running: Scene) -> None:
    """An empty part is named by the digest of nothing, and accepted."""
    keep(running, decide(running))
    challenge, evidence = present(running)
    assert evidence.logs.keys() == {"tcg"}
    assert evidence.ima is not None
    assert evidence.ima.empty
    assert running.appraise(running.verify(evidence, challenge), challenge).accepted


def test_policies_that_do_not_look_at_ima_ask_for_nothing(scene: Scene) -> None:
    """Neither challenge nor evidence nor state speak of it."""
    scene.node.start_ima()
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    assert (challenge.ima, evidence.ima) == (None, None)
    result = scene.appraise(scene.verify(evidence, challenge), challenge)
    assert result.accepted
    assert result.ima is None


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("/opt/miner", b"miner", "ima.file.unlisted"),
        (BASH, b"another shell", "ima.file.digest-mismatch"),
    ],
)
def test_a_file_that_is_not_listed_is_refused_by_name(
    running: Scene, path: str, content: bytes, expected: str
) -> None:
    """The finding names the file and its entry, in a renewal too."""
    keep(running, decide(running))
    running.node.ima.measure(path, content)  # type: ignore[union-attr]
    result = decide(running)
    assert refused(result) == {expected}
    (finding,) = refusals(result.findings)
    assert path in finding.message
    assert finding.event == 2
    assert result.vector.executables == 33


def test_a_violation_is_refused(running: Scene) -> None:
    """What was written while it was in use is unknown (E2)."""
    running.node.ima.violate(BASH)  # type: ignore[union-attr]
    assert refused(decide(running)) == {"ima.violation"}


def test_a_list_may_run_ahead_of_the_quote(running: Scene) -> None:
    """Entries that no quote covers yet count for nothing, good or bad, and come again (E5)."""
    ima = running.node.ima
    assert ima is not None
    ima.add("ima-ng", file_fields("/opt/late", bytes(32)), extend=False)
    result = decide(running)
    prior = keep(running, result)
    assert prior.ima is not None
    assert prior.ima.state.entries == 2
    ima.catch_up()
    assert refused(decide(running)) == {"ima.file.unlisted"}


def test_a_list_behind_the_quote_is_refused(running: Scene) -> None:
    """A tail that is withheld hides what was loaded (E5)."""
    ima = running.node.ima
    assert ima is not None
    ima.measure("/opt/miner", b"miner")
    challenge = running.challenge()
    evidence = running.attest(challenge)
    shorter = ima.data[: -len(ima.since(2))]
    result = running.appraise(running.verify(carrying(evidence, 0, shorter), challenge), challenge)
    assert refused(result) == {"ima.replay-mismatch"}
    assert result.vector.executables == 99
    assert result.ima is None


def carrying(evidence: Evidence, first: int, data: bytes) -> Evidence:
    """Return evidence with another part of a list behind the same quote."""
    return dataclasses.replace(
        evidence, ima=IMASegment.of(first, data), logs={**evidence.logs, "ima": data}
    )


def test_a_renewal_that_leaves_out_an_entry_is_refused(running: Scene) -> None:
    """New entries must follow the accepted ones without a gap (E5)."""
    keep(running, decide(running))
    ima = running.node.ima
    assert ima is not None
    ima.measure("/opt/miner", b"miner")
    ima.measure(CAT, b"cat")
    challenge, evidence = present(running)
    without = carrying(evidence, 2, ima.since(3))
    result = running.appraise(running.verify(without, challenge), challenge)
    assert refused(result) == {"ima.replay-mismatch"}


def begun_otherwise(ca: LocalCA) -> tuple[Scene, SimulatedIMA]:
    """Return a node whose kernel has not measured the boot yet."""
    scene = Scene.create(ca, policy=IMA_POLICY)
    scene.ima_references = (files_reference(FILES),)
    scene.node.ima = SimulatedIMA(scene.node, (HashAlg.SHA256,))
    return scene, scene.node.ima


def test_a_list_without_boot_aggregate_is_refused(ca: LocalCA) -> None:
    """Nothing ties such a list to the boot that was quoted (E4)."""
    scene, ima = begun_otherwise(ca)
    ima.measure(BASH, b"bash")
    assert refused(decide(scene)) == {"ima.boot-aggregate.missing"}


def test_an_empty_list_is_refused(ca: LocalCA) -> None:
    """A kernel that measured nothing has not even measured the boot (E4)."""
    scene, _ = begun_otherwise(ca)
    assert refused(decide(scene)) == {"ima.nothing-measured"}


def test_a_violation_in_place_of_the_boot_aggregate_is_refused(ca: LocalCA) -> None:
    """Of a violation not even the name is attested (E2, E4)."""
    scene, ima = begun_otherwise(ca)
    ima.violate("boot_aggregate")
    assert refused(decide(scene)) == {"ima.boot-aggregate.missing", "ima.violation"}


def test_the_boot_aggregate_of_another_boot_is_refused(ca: LocalCA) -> None:
    """A list belongs to the PCRs that are quoted with it (E4)."""
    scene, ima = begun_otherwise(ca)
    ima.start(dict.fromkeys(range(10), bytes(32)))
    assert "ima.boot-aggregate.mismatch" in refused(decide(scene))


def test_a_boot_aggregate_over_pcrs_that_are_not_quoted_is_refused(ca: LocalCA) -> None:
    """What cannot be compared proves nothing (E4)."""
    policy = IMA_POLICY.replace("pcrs = [0, 1, 2,", "pcrs = [0, 2,")
    scene = Scene.create(ca, policy=policy)
    scene.ima_references = (files_reference(FILES),)
    scene.node.start_ima()
    assert "ima.boot-aggregate.unquoted" in refused(decide(scene))


def test_a_later_boot_aggregate_of_another_boot_is_refused(running: Scene) -> None:
    """What a kexec appends must be of this boot as well (E4)."""
    ima = running.node.ima
    assert ima is not None
    ima.start(dict.fromkeys(range(10), bytes(32)))
    assert "ima.boot-aggregate.mismatch" in refused(decide(running))


def test_after_a_reset_under_its_kernel_a_node_is_refused(running: Scene) -> None:
    """PCR 10 begins again while the list goes on: neither part of it leads there (E12)."""
    keep(running, decide(running))
    node, ima = running.node, running.node.ima
    assert ima is not None
    node.boot(running_boot(running))
    node.ima = ima
    ima.measure(CAT, b"cat")
    assert {"lineage.boot-changed", "ima.replay-mismatch"} <= refused(decide(running))
    running.prior = None
    assert refused(decide(running)) == {"ima.replay-mismatch"}


def running_boot(scene: Scene) -> SimulatedBoot:
    """Return the boot that a scene's node has booted."""
    boot = simulate_boot(grub_description())
    assert boot.event_log == scene.node.event_log
    return boot


def test_the_accepted_entries_never_become_fewer(running: Scene) -> None:
    """A whole list that is shorter than what was accepted is a PCR that went back (E5, E12)."""
    ima = running.node.ima
    assert ima is not None
    ima.measure(CAT, b"cat")
    prior = keep(running, decide(running))
    # A TPM whose PCRs were reset, and measured again, without its counters telling.
    clock = running.node.clock_info
    running.node.boot(running_boot(running))
    running.node.clock_info = dataclasses.replace(clock, clock=clock.clock + 10_000)
    running.node.start_ima().measure(BASH, b"bash")
    assert prior.ima is not None
    assert prior.ima.state.entries == 3
    assert refused(decide(running, first=0)) == {"ima.list.shrunk"}


def test_a_whole_list_is_accepted_in_a_renewal(running: Scene) -> None:
    """Entry 0 is always a right place to begin, and the lineage goes on."""
    keep(running, decide(running))
    running.node.ima.measure(CAT, b"cat")  # type: ignore[union-attr]
    assert wanted(running, first=0) == ()
    result = decide(running, first=0)
    assert result.accepted
    assert result.ima is not None
    assert (result.lineage.sequence, result.ima.state.entries) == (1, 3)


def test_evidence_without_a_list_is_refused(running: Scene) -> None:
    """A node whose kernel keeps none is told so; that is no question of where it begins."""
    running.node.ima = None
    assert wanted(running) == ()
    assert refused(decide(running)) == {"ima.list.missing"}


def test_pcr_10_of_one_bank_says_nothing_of_another(ca: LocalCA) -> None:
    """Where policy demands two banks, a list that leads to one of them is not enough (A7)."""
    policy = IMA_POLICY.replace('banks = ["sha256"]', 'banks = ["sha256", "sha384"]')
    boot = simulate_boot(grub_description(), banks=(HashAlg.SHA256, HashAlg.SHA384))
    scene = Scene.create(ca, boot, policy=policy)
    scene.ima_references = (files_reference(FILES),)
    scene.node.start_ima()
    challenge = scene.challenge()
    fewer = tuple(pcr for pcr in challenge.pcrs[HashAlg.SHA384] if pcr != IMA_PCR)
    narrow = dataclasses.replace(challenge, pcrs={**challenge.pcrs, HashAlg.SHA384: fewer})
    evidence = scene.attest(narrow)
    assert "ima.pcr.unquoted" in refused(scene.appraise(scene.verify(evidence, narrow), narrow))


def test_bytes_that_are_no_list_are_refused(running: Scene) -> None:
    """What does not parse is a refusal of its own."""
    challenge = running.challenge()
    evidence = carrying(running.attest(challenge), 0, b"noise" * 20)
    result = running.appraise(running.verify(evidence, challenge), challenge)
    assert refused(result) == {"ima.malformed"}


def test_an_unquoted_pcr_10_vouches_for_nothing(running: Scene) -> None:
    """Only what is in the signed selection counts (A4)."""
    challenge = running.challenge()
    pcrs = {bank: tuple(p for p in each if p != IMA_PCR) for bank, each in challenge.pcrs.items()}
    narrow = dataclasses.replace(challenge, pcrs=pcrs)
    evidence = running.attest(narrow)
    result = running.appraise(running.verify(evidence, narrow), narrow)
    assert refused(result) == {"quote.pcr.missing", "ima.pcr.unquoted"}


@pytest.mark.parametrize("change", ["policy", "set", "more sets", "validity"])
def test_other_rules_ask_for_the_whole_list(running: Scene, change: str) -> None:
    """What was accepted under other rules is judged again before anything is granted."""
    keep(running, decide(running))
    if change == "policy":
        running.use_policy(IMA_POLICY.replace('violations = "refuse"', 'violations = "note"'))
    elif change == "set":
        running.ima_references = (files_reference({CAT: b"cat"}, version="2"),)
    elif change == "more sets":
        running.ima_references = (*running.ima_references, files_reference(FILES, version="2"))
    else:
        running.ima_references = (files_reference(FILES, not_after=running.now + 10),)
        running.prior = None
        keep(running, decide(running))
        running.now += 20
    assert wanted(running) == ("ima.list.wanted",)
    assert wanted(running, first=0) == ()
    assert refused(decide(running)) == {"ima.list.wanted"}


def test_a_file_that_is_listed_no_more_is_refused_when_the_list_comes_whole(
    running: Scene,
) -> None:
    """A narrower set takes effect at the next renewal, for files that run already."""
    keep(running, decide(running))
    running.ima_references = (files_reference({CAT: b"cat"}, version="2"),)
    assert refused(decide(running, first=0)) == {"ima.file.unlisted"}


def test_sets_that_no_policy_accepts_change_no_rules(running: Scene) -> None:
    """A set registered for others costs nobody a whole list."""
    keep(running, decide(running))
    other = files_reference(FILES)
    others = dataclasses.replace(other, name="others")
    running.ima_references = (*running.ima_references, others)
    assert wanted(running) == ()
    assert decide(running).accepted


@pytest.mark.parametrize("first", [1, 3, 5_000])
def test_another_place_than_where_the_lineage_stands_asks_for_the_whole_list(
    running: Scene, first: int
) -> None:
    """Neither a gap nor a step back is judged (E5)."""
    keep(running, decide(running))
    assert wanted(running, first=first) == ("ima.list.wanted",)
    assert "ima.list.wanted" in refused(decide(running, first=first))


def test_a_new_lineage_begins_with_the_whole_list(running: Scene) -> None:
    """What an ended lineage had accepted is no beginning for another."""
    prior = keep(running, decide(running))
    challenge = running.challenge()
    evidence = running.attest(challenge, previous=None, first=2)
    verified = running.verify(evidence, challenge)
    found = whole_list_wanted(
        verified, prior, running.ima_references, running.policy.policy, now=running.now
    )
    assert [finding.id for finding in found] == ["ima.list.wanted"]


def test_entries_that_are_named_and_not_brought_are_asked_for(running: Scene) -> None:
    """The digest of a list is no list."""
    challenge = running.challenge()
    evidence = running.attest(challenge)
    bare = dataclasses.replace(evidence, logs={"tcg": evidence.logs["tcg"]})
    verified = running.verify(bare, challenge)
    found = whole_list_wanted(
        verified, None, running.ima_references, running.policy.policy, now=running.now
    )
    assert [finding.id for finding in found] == ["ima.list.wanted"]
    assert refused(running.appraise(verified, challenge)) == {"ima.list.missing"}


def test_a_set_that_is_not_registered_is_noted(running: Scene) -> None:
    """A name without a set lists nothing, and the policy's author hears of it."""
    running.ima_references = ()
    result = decide(running)
    assert "ima.reference.none" in refused(result)
    (noted,) = [finding for finding in result.findings if finding.id == "ima.reference.unknown"]
    assert noted.effect is Effect.NOTES


def test_pcr_10_is_in_no_verdict_that_is_remembered(running: Scene) -> None:
    """New files find the verdict on the boot, and a bad one among them is refused."""
    running.cache = AppraisalCache()
    keep(running, decide(running))
    running.node.ima.measure(CAT, b"cat")  # type: ignore[union-attr]
    challenge = running.challenge()
    assert running.prior is not None
    evidence = running.attest(challenge, previous=running.prior.head, full=False)
    assert running.appraise(running.verify(evidence, challenge), challenge).accepted
    assert len(running.cache) == 1
    running.node.ima.measure("/opt/miner", b"miner")  # type: ignore[union-attr]
    assert refused(decide(running)) == {"ima.file.unlisted"}
    assert len(running.cache) == 1


def test_an_event_log_says_nothing_of_pcr_10(running: Scene) -> None:
    """The boot's own log has no event there, and is not asked to explain it."""
    result = decide(running)
    assert not [finding for finding in result.findings if finding.pcr == IMA_PCR]


def test_the_cost_of_a_renewal_does_not_grow_with_the_list(running: Scene) -> None:
    """The entries judged are those that came: the ones before are not even there."""
    ima = running.node.ima
    assert ima is not None
    for _ in range(200):
        ima.measure(CAT, b"cat")
    keep(running, decide(running))
    ima.measure(BASH, b"bash")
    challenge, evidence = present(running)
    assert len(evidence.logs["ima"]) == len(list_entry("ima-ng", file_fields(BASH, bytes(32))))
    verdict = judged(running, running.verify(evidence, challenge))
    assert verdict is not None
    assert verdict.state.entries == 203


def judged(scene: Scene, verified: VerifiedEvidence) -> IMAProgress | None:
    """Return how far the list was appraised."""
    return appraise_ima(
        verified, scene.prior, scene.ima_references, scene.policy.policy, now=scene.now
    ).progress
