"""Who may enrol, before credential activation proves it."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.appraisal import AcceptedEnrolment, accept_enrolment
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import EnrolmentRequest
from bootlease.evidence.enrolment import node_id
from bootlease.policy import parse_policy
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene
from bootlease.tpm import TPMAObject, parse_public


@pytest.fixture
def request_(scene: Scene) -> EnrolmentRequest:
    """The request of a sound node."""
    node = scene.node
    return EnrolmentRequest(node.ek_public(), node.ak_public(), tuple(node.ek_chain()))


def accept(scene: Scene, request: EnrolmentRequest, policy: str = POLICY) -> AcceptedEnrolment:
    """Ask for enrolment."""
    return accept_enrolment(request, scene.roots, parse_policy(policy), now=scene.now)


def refused(scene: Scene, request: EnrolmentRequest, policy: str = POLICY) -> set[str]:
    """Return the ids of what refuses."""
    with pytest.raises(VerificationError) as error:
        accept(scene, request, policy)
    return {finding.id for finding in error.value.findings}


def test_a_sound_node_is_accepted(scene: Scene, request_: EnrolmentRequest) -> None:
    """Node id, names and endorsement are those of the keys."""
    accepted = accept(scene, request_)
    assert accepted.node == node_id(accepted.ek.spki)
    assert accepted.endorsement is not None
    assert not accepted.needs_join_token
    record = accepted.enrolment(now=5)
    assert (record.ek_public, record.ak_public) == (request_.ek_public, request_.ak_public)
    assert record.enrolled_at == 5
    assert record.ak_name == accepted.ak.name
    certificate = x509.load_der_x509_certificate(request_.ek_chain[0])
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert record.ek_digest == hashlib.sha256(spki).digest()


def test_another_root_refuses(scene: Scene, request_: EnrolmentRequest) -> None:
    """The chain is part of the decision."""
    scene.roots = type(scene.roots).of([LocalCA.create().intermediate_der])
    assert refused(scene, request_) == {"endorsement.chain.untrusted"}


def test_an_ek_without_certificate_is_refused(scene: Scene, request_: EnrolmentRequest) -> None:
    """No certificate is no endorsement, even where any endorsed EK may enrol."""
    bare = dataclasses.replace(request_, ek_chain=())
    assert refused(scene, bare) == {"endorsement.missing"}


@pytest.mark.parametrize("admit", ["any-endorsed", "allowlist"])
def test_an_ek_listed_by_hand_is_accepted_with_a_note(
    scene: Scene, request_: EnrolmentRequest, admit: str
) -> None:
    """An operator's word stands in for a certificate, and is never taken for one."""
    listed = f'unsafe_unendorsed_ek = ["{scene.enrolment.ek_digest.hex()}"]'
    policy = POLICY.replace("unsafe_unendorsed_ek = []", listed).replace("any-endorsed", admit)
    for chain in ((), request_.ek_chain, (b"garbage",)):
        accepted = accept(scene, dataclasses.replace(request_, ek_chain=chain), policy)
        assert accepted.endorsement is None
        assert [note.id for note in accepted.notes] == ["endorsement.none"]


def test_an_allowlist_admits_only_its_eks(scene: Scene, request_: EnrolmentRequest) -> None:
    """A genuine TPM that is not on the list stays out."""
    policy = POLICY.replace("any-endorsed", "allowlist")
    other = policy.replace("allow_ek = []", f'allow_ek = ["{"00" * 32}"]')
    assert refused(scene, request_, other) == {"enrolment.ek.not-allowed"}
    mine = policy.replace("allow_ek = []", f'allow_ek = ["{scene.enrolment.ek_digest.hex()}"]')
    assert accept(scene, request_, mine).endorsement is not None


def test_a_join_token_is_demanded(scene: Scene, request_: EnrolmentRequest) -> None:
    """The token is spent by the caller; without one there is nothing to spend."""
    policy = POLICY.replace("any-endorsed", "join-token")
    assert refused(scene, request_, policy) == {"enrolment.join-token.missing"}
    accepted = accept(scene, dataclasses.replace(request_, join_token="secret"), policy)
    assert accepted.needs_join_token


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ecc-p384"])
def test_one_ek_algorithm_makes_one_id(
    scene: Scene, request_: EnrolmentRequest, algorithm: str
) -> None:
    """A TPM's other EK does not enrol it a second time."""
    policy = POLICY.replace('"ecc-p256"', f'"{algorithm}"')
    assert refused(scene, request_, policy) == {"enrolment.ek-algorithm.mismatch"}


def test_an_unsound_ak_is_refused(scene: Scene, request_: EnrolmentRequest) -> None:
    """An unrestricted AK could sign forged quotes (B1)."""
    public = parse_public(request_.ak_public)
    loose = dataclasses.replace(
        public, object_attributes=public.object_attributes & ~TPMAObject.RESTRICTED
    )
    changed = dataclasses.replace(request_, ak_public=loose.marshal())
    assert refused(scene, changed) == {"ak.attributes.restricted"}


def test_an_unsound_ek_is_refused(scene: Scene, request_: EnrolmentRequest) -> None:
    """An EK anybody may use activates credentials for anybody (B21)."""
    public = parse_public(request_.ek_public)
    loose = dataclasses.replace(
        public, object_attributes=public.object_attributes & ~TPMAObject.ADMIN_WITH_POLICY
    )
    changed = dataclasses.replace(request_, ek_public=loose.marshal())
    assert refused(scene, changed) == {"ek.attributes.admin-with-policy"}


def test_another_tpms_ek_needs_its_own_certificate(
    scene: Scene, request_: EnrolmentRequest, ca: LocalCA
) -> None:
    """EK, certificate and record are one (B5, B9)."""
    other = Scene.create(ca)
    mixed = dataclasses.replace(request_, ek_public=other.node.ek_public())
    assert refused(scene, mixed) == {"endorsement.key.mismatch"}


def test_all_findings_are_collected(scene: Scene, request_: EnrolmentRequest) -> None:
    """One refusal answers every question."""
    policy = POLICY.replace("any-endorsed", "join-token").replace('"ecc-p256"', '"rsa-2048"')
    scene.roots = type(scene.roots).of([])
    assert refused(scene, request_, policy) == {
        "enrolment.join-token.missing",
        "enrolment.ek-algorithm.mismatch",
        "endorsement.roots.none",
    }


@pytest.mark.parametrize("member", ["ek_public", "ak_public"])
def test_keys_that_do_not_parse_are_malformed(
    scene: Scene, request_: EnrolmentRequest, member: str
) -> None:
    """Bytes that are no key are their sender's fault in form, not in proof."""
    with pytest.raises(MalformedError):
        accept(scene, dataclasses.replace(request_, **{member: b"\0\x23"}))  # type: ignore[arg-type]  # two of its fields


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ecc-p384"])
def test_another_ek_algorithm_is_named_as_its_option(
    scene: Scene, request_: EnrolmentRequest, algorithm: str
) -> None:
    """Expected and seen are what `--ek-algorithm` takes."""
    policy = POLICY.replace('"ecc-p256"', f'"{algorithm}"')
    with pytest.raises(VerificationError) as caught:
        accept(scene, request_, policy)
    (finding,) = caught.value.findings
    assert (finding.expected, finding.seen) == (algorithm, "ecc-p256")
