"""``appraise``: each step refuses alone, all findings are collected, nothing more is claimed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from bootlease.appraisal import AttestationResult, appraise, boot_log_of, read_boot_log
from bootlease.endorsement import TrustedRoots
from bootlease.eventlog import EventRecord, EventType
from bootlease.evidence import LeaseRequest
from bootlease.lineage import HighWaterMark
from bootlease.model import ClockInfo, Effect, HashAlg, refusals
from bootlease.policy.authorization import Authorization, Known, ScopeVerdict
from bootlease.reference import EventsReference, ReferenceSet
from bootlease.testing.boot import SimulatedBoot, boot_of_events, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import AUDIENCE, POLICY, Scene, default_lease
from bootlease.token import KeyProtection, Tier

BANK = HashAlg.SHA256


def refused(result: AttestationResult) -> set[str]:
    """Return the ids of what refuses, after checking that a refusal grants nothing."""
    ids = {finding.id for finding in refusals(result.findings)}
    assert result.accepted == (not ids)
    assert bool(result.leases) == result.accepted
    return ids


def test_a_golden_boot_is_accepted(scene: Scene) -> None:
    """The result names all that the decision rests on, and claims what was proven."""
    result = scene.decide()
    assert result.accepted
    assert result.findings == ()
    assert len(result.leases) == 1
    assert result.node == scene.enrolment.node
    assert result.reference is not None
    assert result.reference.digest == scene.references[0].digest
    assert result.considered == (scene.references[0].digest,)
    assert result.policy.digest == scene.policy.policy.digest
    assert result.policy.epoch == 1
    assert result.expires_at == scene.now + 120
    assert result.boot.reset_count == scene.node.clock_info.reset_count
    assert result.vector.to_jwt() == {"instance-identity": 2, "executables": 3}
    assert result.tier is Tier.AFFIRMING


def test_a_renewal_continues_the_lineage(scene: Scene) -> None:
    """Root and sequence go on from the state kept."""
    scene.begin()
    assert scene.prior is not None
    result = scene.decide(previous=scene.prior.head)
    assert result.accepted
    assert result.lineage.root == scene.prior.root
    assert result.lineage.sequence == 1


def test_1_another_signer_is_refused(scene: Scene) -> None:
    """The AK elsewhere in the TPM's hierarchies is another identity (A24)."""
    scene.node.lie(qualified_signer=b"\0\x0b" + bytes(32))
    result = scene.decide()
    assert refused(result) == {"quote.signer.mismatch"}
    assert result.vector.instance_identity == 96
    assert result.tier is Tier.CONTRAINDICATED


def test_2_a_reset_count_below_the_mark_is_refused(scene: Scene) -> None:
    """A TPM whose state was rolled back is refused even in a new lineage (A23)."""
    scene.high_water = HighWaterMark(scene.node.clock_info.reset_count + 1, 0, 0)
    assert refused(scene.decide()) == {"clock.reset-count.rollback"}


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (ClockInfo(99, 5, 2, safe=True), {"clock.backwards"}),
        (ClockInfo(200, 5, 1, safe=True), {"clock.restart-count.rollback"}),
        (ClockInfo(0, 0, 0, safe=True), {"clock.reset-count.rollback"}),
        (ClockInfo(100, 5, 2, safe=True), set[str]()),
        (ClockInfo(101, 5, 2, safe=True), set[str]()),
        (ClockInfo(0, 5, 3, safe=True), set[str]()),
        (ClockInfo(101, 6, 0, safe=True), set[str]()),
    ],
    ids=["clock", "restart", "TPM2_Clear", "same", "later", "resumed", "rebooted"],
)
def test_2_the_mark_holds_without_a_lineage(
    scene: Scene, clock: ClockInfo, expected: set[str]
) -> None:
    """What a refusal saw still binds the next lineage; an honest reboot goes on (A22, A23)."""
    scene.high_water = HighWaterMark(5, 2, 100)
    scene.node.lie(clock_info=clock)
    assert refused(scene.decide()) == expected


def test_2_a_clock_that_went_back_is_refused(scene: Scene) -> None:
    """Within one boot, time goes on."""
    scene.begin()
    assert scene.prior is not None
    clock = dataclasses.replace(scene.prior.clock_info, clock=1 << 40)
    scene.prior = dataclasses.replace(scene.prior, clock_info=clock)
    assert refused(scene.decide(previous=scene.prior.head)) == {"clock.backwards"}


@pytest.mark.parametrize(("word", "effect"), [("refuse", Effect.REFUSES), ("note", Effect.NOTES)])
def test_2_an_unsafe_clock_is_weighed_by_policy(scene: Scene, word: str, effect: Effect) -> None:
    """The finding is always there; policy says what it does (A22)."""
    scene.use_policy(POLICY.replace('unsafe_clock = "refuse"', f'unsafe_clock = "{word}"'))
    scene.node.lie(clock_info=ClockInfo(5, scene.node.clock_info.reset_count, 0, safe=False))
    result = scene.decide()
    assert [(each.id, each.effect) for each in result.findings] == [("clock.unsafe", effect)]
    assert result.accepted is (effect is Effect.NOTES)


def test_3_a_pcr_left_out_of_the_quote_is_refused(scene: Scene) -> None:
    """Policy's PCRs must be in the signed selection (A5); the vector then claims no boot chain."""
    challenge = scene.challenge()
    narrow = dataclasses.replace(challenge, pcrs={BANK: (0, 1, 2, 3, 4, 5, 6, 8, 9, 14)})
    evidence = scene.verify(scene.attest(narrow), narrow)
    result = scene.appraise(evidence, challenge)
    assert refused(result) == {"quote.pcr.missing"}
    assert result.vector.executables is None


def test_4_a_run_time_extend_is_refused(scene: Scene) -> None:
    """A PCR extended after boot does not follow from the log, and the finding names it."""
    scene.node.pcr_extend(14, {BANK: bytes(32)})
    result = scene.decide()
    assert refused(result) == {"eventlog.pcr14.replay-mismatch", "reference.pcr14.value-mismatch"}
    assert "PCR 14 was extended by something" in result.findings[0].message
    assert result.vector.executables == 99


def test_4_a_forged_log_is_refused(scene: Scene) -> None:
    """The golden log beside another boot explains nothing."""
    golden = scene.node.event_log
    other = grub_description().with_command_line("root=/dev/vda1 ro init=/bin/sh")
    scene.node.boot(simulate_boot(other))
    assert {"eventlog.pcr8.replay-mismatch", "eventlog.pcr9.replay-mismatch"} <= refused(
        scene.decide(log=golden)
    )


def test_4_a_malformed_log_is_refused(scene: Scene) -> None:
    """A log that does not parse is a finding, not an error."""
    result = scene.decide(log=b"garbage")
    assert refused(result) == {"eventlog.malformed"}
    assert result.vector.executables == 99


def test_4_a_log_that_is_not_at_hand_is_refused(scene: Scene) -> None:
    """A digest nobody can look behind proves nothing."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge, full=False), challenge)
    assert refused(scene.appraise(evidence, challenge)) == {
        "eventlog.unavailable",
        "lineage.full-evidence-required",
    }


def test_4_evidence_without_a_log_is_refused(scene: Scene) -> None:
    """No log at all is not an empty log."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge), challenge)
    bare = dataclasses.replace(evidence, log_digests={}, logs={})
    assert refused(scene.appraise(bare, challenge)) == {"eventlog.missing"}


def test_5_a_second_separator_is_refused(ca: LocalCA) -> None:
    """An OS that goes on as if it were firmware is refused, even if it was learned so (D3)."""
    golden = simulate_boot(grub_description())
    again = EventRecord(7, int(EventType.EV_SEPARATOR), {BANK: BANK.digest(bytes(4))}, bytes(4))
    scene = Scene.create(ca, boot_of_events([*golden.events, again], (BANK,)))
    assert refused(scene.decide()) == {"eventlog.pcr7.separator-repeated"}


def test_6_a_changed_command_line_is_named(scene: Scene) -> None:
    """The reason is the command line itself."""
    other = grub_description().with_command_line("root=/dev/vda1 ro init=/bin/sh")
    scene.node.boot(simulate_boot(other))
    result = scene.decide()
    assert refused(result) >= {"eventlog.pcr8.unknown-boot-loader-measurement"}
    assert any("init=/bin/sh" in finding.message for finding in result.findings)
    assert any("quiet lockdown" in (finding.expected or "") for finding in result.findings)
    assert result.reference is None
    assert result.vector.executables == 33
    assert result.tier is Tier.WARNING


def test_6_an_accepted_name_without_a_set_refuses(scene: Scene) -> None:
    """A typo in the policy accepts nothing, and is named."""
    scene.use_policy(POLICY.replace('"golden"', '"goldne"'))
    assert refused(scene.decide()) == {"reference.none", "reference.name.unknown"}


def test_6_a_set_that_policy_does_not_accept_is_not_considered(scene: Scene) -> None:
    """Registered is not accepted."""
    (golden,) = scene.references
    scene.references = (dataclasses.replace(golden, name="other"),)
    result = scene.decide()
    assert "reference.none" in refused(result)
    assert result.considered == ()


def test_6_a_second_unknown_name_is_noted(scene: Scene) -> None:
    """A boot that matches one set is accepted although another name is not registered yet."""
    scene.use_policy(POLICY.replace('["golden"]', '["golden", "next"]'))
    result = scene.decide()
    assert result.accepted
    assert [finding.id for finding in result.findings] == ["reference.name.unknown"]


def test_7_a_lineage_that_ended_is_refused(scene: Scene) -> None:
    """Lineage findings are part of the decision."""
    result = scene.decide(previous=bytes(32))
    assert refused(result) == {"lineage.unknown-head"}
    assert result.vector.to_jwt() == {"instance-identity": 2, "executables": 3}


def test_8_a_root_that_is_no_longer_trusted_refuses(scene: Scene) -> None:
    """Trust withdrawn from a manufacturer reaches every renewal."""
    scene.roots = TrustedRoots.of([])
    result = scene.decide()
    assert refused(result) == {"endorsement.root.untrusted"}
    assert result.vector.instance_identity == 96


def test_8_an_expired_endorsement_refuses(scene: Scene) -> None:
    """Certificates end also for nodes that are enrolled."""
    endorsement = scene.enrolment.endorsement
    assert endorsement is not None
    scene.enrolled_as(endorsement=dataclasses.replace(endorsement, not_after=scene.now - 1))
    assert refused(scene.decide()) == {"endorsement.expired"}


def test_8_an_unendorsed_node_is_refused_or_noted(scene: Scene) -> None:
    """An EK listed by hand is let through with a finding, and its identity is not claimed."""
    scene.enrolled_as(endorsement=None)
    assert refused(scene.decide()) == {"endorsement.missing"}
    listed = f'unsafe_unendorsed_ek = ["{scene.enrolment.ek_digest.hex()}"]'
    scene.use_policy(POLICY.replace("unsafe_unendorsed_ek = []", listed))
    result = scene.decide()
    assert result.accepted
    assert [finding.id for finding in result.findings] == ["endorsement.none"]
    assert result.vector.to_jwt() == {"executables": 3}


def test_8_a_node_taken_off_the_allowlist_is_refused(scene: Scene) -> None:
    """The allowlist counts at every renewal."""
    text = POLICY.replace('"any-endorsed"', '"allowlist"')
    scene.use_policy(text.replace("allow_ek = []", f'allow_ek = ["{"00" * 32}"]'))
    assert refused(scene.decide()) == {"enrolment.ek.not-allowed"}
    listed = f'allow_ek = ["{scene.enrolment.ek_digest.hex()}"]'
    scene.use_policy(text.replace("allow_ek = []", listed))
    assert scene.decide().accepted


@pytest.mark.parametrize(
    ("lease", "finding"),
    [
        (default_lease(("tool:search", "tool:delete")), "policy.scope.denied"),
        (default_lease(("repo:*",)), "policy.scope.denied"),
        (default_lease(audience="https://tools.example/"), "policy.audience.denied"),
    ],
)
def test_9_more_than_policy_grants_is_refused(
    scene: Scene, lease: LeaseRequest, finding: str
) -> None:
    """Scope and audience are checked one by one; one excess refuses all."""
    assert refused(scene.decide([default_lease(), lease])) == {finding}


def test_9_the_number_of_leases_is_bounded(scene: Scene) -> None:
    """Up to the policy's number, and not one more."""
    assert len(scene.decide([default_lease()] * 16).leases) == 16
    assert refused(scene.decide([default_lease()] * 17)) == {"policy.leases.too-many"}


def test_nothing_is_worked_out_that_policy_cannot_grant(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names cost what a policy has of them: not for strange audiences, surplus leases, or twice."""
    asked: list[tuple[str, str]] = []
    decide = Authorization.decide

    def counted(
        self: Authorization,
        known: Known,
        names: Sequence[str],
        audience: str,
        protection: KeyProtection,
    ) -> tuple[ScopeVerdict, ...]:
        asked.extend((name, audience) for name in names)
        return decide(self, known, names, audience, protection)

    monkeypatch.setattr(Authorization, "decide", counted)
    strange = [
        default_lease(("costly:*",), audience=f"https://a{each}.example") for each in range(4)
    ]
    assert refused(scene.decide(strange)) == {"policy.audience.denied"}
    assert asked == []
    leases = [default_lease(("costly:*", f"costly:{each}")) for each in range(17)]
    assert "policy.leases.too-many" in refused(scene.decide(leases))
    assert asked.count(("costly:*", AUDIENCE)) == 1
    assert ("costly:15", AUDIENCE) in asked
    assert ("costly:16", AUDIENCE) not in asked


def test_9_a_lease_that_would_be_over_is_refused(scene: Scene) -> None:
    """Life counts from the challenge: a shorter policy since then may have used it up."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge), challenge)
    scene.use_policy(POLICY.replace("life = 120", "life = 10"))
    scene.now += 10
    assert refused(scene.appraise(evidence, challenge)) == {"lease.life.over"}


def test_all_findings_are_collected(scene: Scene) -> None:
    """One refusal answers every question."""
    scene.node.pcr_extend(14, {BANK: bytes(32)})
    scene.roots = TrustedRoots.of([])
    result = scene.decide([default_lease(("tool:delete",))], previous=bytes(32))
    assert refused(result) == {
        "eventlog.pcr14.replay-mismatch",
        "reference.pcr14.value-mismatch",
        "lineage.unknown-head",
        "endorsement.root.untrusted",
        "policy.scope.denied",
    }


def test_executables_are_claimed_only_for_a_covered_boot_chain(scene: Scene) -> None:
    """A policy that looks at PCR 7 alone proves no boot chain."""
    scene.use_policy(POLICY.replace("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]", "[0, 4, 7]"))
    result = scene.decide()
    assert result.accepted
    assert result.vector.to_jwt() == {"instance-identity": 2}


def test_matching_by_events_claims_the_same(ca: LocalCA) -> None:
    """Both ways of constraining a PCR cover it."""
    scene = Scene.create(ca, match_events=(0, 2, 4))
    assert isinstance(scene.references[0].pcrs[4], EventsReference)
    assert scene.decide().vector.executables == 3


def test_what_does_not_belong_together_is_our_misuse(scene: Scene, ca: LocalCA) -> None:
    """A wrong log, challenge or record is a bug of the caller, not a finding about the node."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge), challenge)

    def decide(**changes: object) -> AttestationResult:
        members: dict[str, object] = {
            "log": boot_log_of(evidence), "challenge": challenge, "enrolment": scene.enrolment,
        }  # fmt: skip
        members.update(changes)
        return appraise(
            evidence,
            members.pop("log"),  # type: ignore[arg-type]  # as the case has it
            prior=None,
            high_water=HighWaterMark(),
            roots=scene.roots,
            references=scene.references,
            policy=scene.policy,
            now=scene.now,
            **members,  # type: ignore[arg-type]  # likewise
        )

    assert decide().accepted
    with pytest.raises(ValueError, match="log given is not the one"):
        decide(log=read_boot_log(b"another"))
    with pytest.raises(ValueError, match="do not belong together"):
        decide(challenge=scene.challenge())
    with pytest.raises(ValueError, match="do not belong together"):
        decide(enrolment=Scene.create(ca).enrolment)


def sets(scene: Scene) -> tuple[ReferenceSet, ...]:
    """Return the scene's set and one that does not match."""
    (golden,) = scene.references
    return dataclasses.replace(golden, pcrs={0: golden.pcrs[0]}), golden


@pytest.mark.parametrize("order", [sets, lambda scene: sets(scene)[::-1]])
def test_the_order_of_references_does_not_matter(
    scene: Scene, order: Callable[[Scene], tuple[ReferenceSet, ...]]
) -> None:
    """Any accepted set that matches is enough."""
    scene.references = order(scene)
    result = scene.decide()
    assert result.accepted
    assert set(result.considered) == {each.digest for each in scene.references}


def test_an_idle_bank_is_refused(ca: LocalCA) -> None:
    """A bank that the firmware leaves idle explains nothing, whatever it holds (A6)."""
    boot: SimulatedBoot = simulate_boot(grub_description())
    scene = Scene.create(ca, boot)
    scene.use_policy(POLICY.replace('["sha256"]', '["sha256", "sha384"]'))
    challenge = scene.challenge()
    narrow = dataclasses.replace(challenge, pcrs={BANK: challenge.pcrs[BANK]})
    evidence = scene.verify(scene.attest(narrow), narrow)
    assert refused(scene.appraise(evidence, challenge)) == {
        "quote.bank.missing",
        "eventlog.bank.missing",
    }


@pytest.mark.parametrize(("scope", "verdict"), [("tool:search", "granted"), ("no:x", "refused")])
def test_10_a_policy_that_only_reports_grants_nothing(
    scene: Scene, scope: str, verdict: str
) -> None:
    """Everything is judged, and the finding says what would have come of it."""
    scene.use_policy(POLICY.replace('mode = "enforce"', 'mode = "report-only"'))
    result = scene.decide([default_lease((scope,))])
    assert "policy.report-only" in refused(result)
    assert (refused(result) == {"policy.report-only"}) == (verdict == "granted")
    (finding,) = [each for each in result.findings if each.id == "policy.report-only"]
    assert finding.seen == verdict
