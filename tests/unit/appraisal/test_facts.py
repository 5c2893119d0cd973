"""The facts that authorization decides over: each is what was proven, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.bootstate.tri import Tri
from bootlease.model import HashAlg
from bootlease.policy import Facts
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy, permit
from bootlease.testing.scene import IMA_POLICY, Scene, default_lease, files_reference
from bootlease.token import Tier, TrustVector

if TYPE_CHECKING:
    from bootlease.appraisal import AttestationResult


ASKING = make_policy(
    f"{permit()} permit (principal, action, resource) when {{ principal.endorsed }};"
)


@pytest.fixture
def scene(local_ca: LocalCA) -> Scene:
    """Return a node that booted well, and a policy that asks for a fact."""
    return Scene.create(local_ca, policy=ASKING)


def facts(scene: Scene, **options: Any) -> Facts:
    """Attest, and return what was decided over."""
    return scene.decide(**options).facts


def ids(result: AttestationResult) -> list[str]:
    """Return the ids of what was found."""
    return [finding.id for finding in result.findings]


def test_the_facts_of_a_node_that_booted_well(scene: Scene) -> None:
    """All of them, from where they belong."""
    golden = scene.references[0]
    assert facts(scene) == Facts(
        node=scene.enrolment.node.hex(),
        tier=Tier.AFFIRMING,
        vector=TrustVector(instance_identity=2, executables=3),
        references=("golden",),
        reference_digests=(golden.digest.hex(),),
        secure_boot=Tri.ON,
        ima_appraised=False,
        endorsed=True,
        vendor="id:00001014",
        model="swtpm",
        firmware="id:20191023",
        labels=(),
        reset_count=1,
        restart_count=0,
        lineage_age=0,
    )


def test_no_facts_are_gathered_that_no_policy_asks_for(scene: Scene) -> None:
    """A renewal does not wait for what bears on nothing."""
    scene.use_policy(make_policy())
    assert facts(scene) == Facts()


def test_what_an_operator_says_of_a_node(scene: Scene) -> None:
    """Its labels, as its record has them."""
    scene.enrolled_as(labels=("env=prod", "role=build"))
    assert facts(scene).labels == ("env=prod", "role=build")


def test_a_tpm_that_nobody_vouches_for_has_no_make(scene: Scene) -> None:
    """Nor is it endorsed."""
    scene.enrolled_as(endorsement=None)
    seen = facts(scene)
    assert (seen.endorsed, seen.vendor, seen.model, seen.firmware) == (False, None, None, None)


def test_a_boot_that_matches_nothing_has_no_reference(scene: Scene) -> None:
    """And its tier says so."""
    scene.references = ()
    seen = facts(scene)
    assert (seen.references, seen.reference_digests) == ((), ())
    assert seen.tier is Tier.WARNING


@pytest.mark.parametrize(("enabled", "state"), [(True, Tri.ON), (False, Tri.OFF)])
def test_secure_boot_as_the_log_proves_it(local_ca: LocalCA, enabled: bool, state: Tri) -> None:  # noqa: FBT001 - a table's column
    """On, or off."""
    described = grub_description()
    described = dataclasses.replace(
        described, secure_boot=dataclasses.replace(described.secure_boot, enabled=enabled)
    )
    assert (
        facts(Scene.create(local_ca, simulate_boot(described), policy=ASKING)).secure_boot is state
    )


def test_secure_boot_that_is_not_proven_is_unknown(scene: Scene) -> None:
    """Where PCR 7 is not demanded, or was not led to, its events are nobody's word."""
    scene.use_policy(ASKING.replace("6, 7, 8", "6, 8"))
    assert facts(scene).secure_boot is Tri.UNKNOWN
    scene.use_policy(ASKING)
    assert facts(scene).secure_boot is Tri.ON
    scene.node.pcr_extend(7, {HashAlg.SHA256: bytes(32)})
    assert facts(scene).secure_boot is Tri.UNKNOWN
    assert facts(scene, log=b"no log").secure_boot is Tri.UNKNOWN


def test_a_lineage_ages(scene: Scene) -> None:
    """From its first decision; another one begins anew."""
    scene.begin()
    assert scene.prior is not None
    scene.now += 40
    assert facts(scene, previous=scene.prior.head).lineage_age == 40
    assert facts(scene).lineage_age == 0


def test_a_clock_that_goes_back_makes_nothing_younger(scene: Scene) -> None:
    """Than nothing at all."""
    scene.begin()
    assert scene.prior is not None
    scene.now -= 1
    assert facts(scene, previous=scene.prior.head).lineage_age == 0


@pytest.mark.parametrize("bank", [HashAlg.SHA256, HashAlg.SHA384])
def test_secure_boot_is_what_every_bank_proves(local_ca: LocalCA, bank: HashAlg) -> None:
    """One that proves nothing leaves it unknown, whichever it is."""
    boot = simulate_boot(grub_description(), (HashAlg.SHA256, HashAlg.SHA384))
    scene = Scene.create(local_ca, boot, policy=ASKING)
    scene.use_policy(ASKING.replace('["sha256"]', '["sha256", "sha384"]'))
    assert facts(scene).secure_boot is Tri.ON
    scene.node.pcr_extend(7, {bank: bytes(bank.size)})
    assert facts(scene).secure_boot is Tri.UNKNOWN


def test_files_that_were_appraised(local_ca: LocalCA) -> None:
    """All of them good, and the list led to the quoted PCR 10."""
    asking = "permit (principal, action, resource) when { principal.ima_appraised };"
    scene = Scene.create(local_ca, policy=IMA_POLICY.replace(permit(), asking))
    scene.ima_references = (files_reference({"/bin/sh": b"sh"}),)
    ima = scene.node.start_ima()
    ima.measure("/bin/sh", b"sh")
    assert facts(scene).ima_appraised
    ima.measure("/bin/bash", b"bash")
    assert not facts(scene).ima_appraised
    scene.ima_references = (files_reference({"/bin/sh": b"sh", "/bin/bash": b"bash"}),)
    assert facts(scene).ima_appraised
    scene.node.pcr_extend(10, {HashAlg.SHA256: bytes(32)})
    assert not facts(scene).ima_appraised


def test_policies_decide_over_the_facts(scene: Scene) -> None:
    """What is denied names the policy that forbids, and where."""
    scene.use_policy(
        make_policy(
            permit()
            + '@id("no-builds") forbid (principal, action, resource in Scope::"repo:acme/b/*")'
            ' when { principal.secure_boot == SecureBoot::"on" };'
        )
    )
    assert scene.decide([default_lease(("repo:acme/x",))]).accepted
    result = scene.decide([default_lease(("repo:acme/*", "tool:search", "tool:other"))])
    assert ids(result) == ["policy.scope.denied"] * 2
    covered, unknown = result.findings
    assert covered.message == (
        "The policy does not grant the scope repo:acme/* for https://tools.example:"
        " repo:acme/b/*, which it covers, is forbidden by no-builds."
    )
    assert unknown.message == (
        "The policy does not grant the scope tool:other for https://tools.example: permitted by no"
        " policy."
    )
    assert [finding.seen for finding in result.findings] == ["repo:acme/*", "tool:other"]


def test_a_flood_of_policies_is_cut_short(scene: Scene) -> None:
    """A refusal is a sentence."""
    many = "".join(f'@id("f{n}") forbid (principal, action, resource);' for n in range(9))
    scene.use_policy(make_policy(permit() + many))
    (finding,) = scene.decide().findings
    assert "forbidden by f0, f1, f2, f3 and 5 more." in finding.message


def test_what_cannot_be_evaluated_refuses(scene: Scene) -> None:
    """And says so."""
    scene.use_policy(
        make_policy(
            permit() + "forbid (principal, action, resource)"
            " when { principal.reset_count * 9223372036854775807 * 2 > 0 };"
        )
    )
    result = scene.decide()
    assert not result.accepted
    assert ids(result) == ["policy.scope.denied", "policy.scope.undecided"]
    assert "policy 3" in result.findings[1].message


def test_a_lineage_grows_too_old(scene: Scene) -> None:
    """A fact that changes at every renewal is looked at anew at each."""
    scene.use_policy(
        make_policy("permit (principal, action, resource) when { principal.lineage_age < 60 };")
    )
    assert scene.begin().accepted
    assert scene.prior is not None
    head = scene.prior.head
    scene.now += 59
    assert scene.decide(previous=head).accepted
    scene.now += 1
    assert ids(scene.decide(previous=head)) == ["policy.scope.denied"]
