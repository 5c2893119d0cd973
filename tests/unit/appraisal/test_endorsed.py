"""What policy and revocation lists make of an endorsement: at enrolment, and at every decision."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.appraisal import AcceptedEnrolment, accept_enrolment
from bootlease.endorsement import Enrolment, Tolerance, TPMIdentity, TrustedRoots
from bootlease.errors import VerificationError
from bootlease.evidence import EnrolmentRequest
from bootlease.model import Effect
from bootlease.policy import parse_policy
from bootlease.testing.handmade import CA_EXTENSIONS, ECDSA_SHA1, Handmade, common_name
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene
from bootlease.tpm import parse_public
from bootlease.tpm.endorsement_key import accept_endorsement_key

DAY = dt.timedelta(days=1)
SOFTWARE = '["id:00001014/swtpm/*"]'
ST = TPMIdentity("id:53544D20", "ST33HTPHAHB4", "id:00490004")


def policy(**changes: str) -> str:
    """Return the policy with other lines in [enrolment]."""
    lines = POLICY.splitlines()
    for key, value in changes.items():
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} =")]
        lines[at] = f"{key} = {value}"
    return "\n".join(lines)


class Machine:
    """A scene whose node may be of another make, enrolled or asking to be."""

    def __init__(self, scene: Scene, ca: LocalCA) -> None:
        self.scene = scene
        self.ca = ca
        self.chain = tuple(scene.node.ek_chain())

    def of_make(self, make: TPMIdentity) -> Machine:
        """Certify the node's EK as another make."""
        key = accept_endorsement_key(parse_public(self.scene.node.ek_public())).key
        leaf = self.ca.issue_ek_certificate(key, identity=make)  # type: ignore[arg-type]  # one TPMIdentity is as good as the other
        self.chain = (leaf, self.chain[1])
        return self

    def ask(self, text: str) -> AcceptedEnrolment:
        """Ask for enrolment."""
        node = self.scene.node
        request = EnrolmentRequest(node.ek_public(), node.ak_public(), self.chain)
        rules = parse_policy(text)
        return accept_enrolment(request, self.scene.roots, rules, now=self.scene.now)

    def refused(self, text: str) -> set[str]:
        """Return the ids of what refuses an enrolment."""
        with pytest.raises(VerificationError) as caught:
            self.ask(text)
        return {finding.id for finding in caught.value.findings}

    def decided(self, text: str) -> set[str]:
        """Enrol by the usual policy, and return what refuses a lease by another."""
        self.scene.enrolment = self.ask(policy()).enrolment(now=self.scene.now)
        self.scene.use_policy(text)
        return {each.id for each in self.scene.decide().findings if each.effect is Effect.REFUSES}

    def trust(self, *lists: bytes) -> None:
        """Pin root and intermediate, and know these lists."""
        root = self.ca.root.public_bytes(Encoding.DER)
        self.scene.roots = TrustedRoots.of([root, self.ca.intermediate_der, *lists])

    def crl(self, *revoked: bytes, due: float = 7, by_root: bool = False) -> bytes:
        """Return a list, made a day ago."""
        now = dt.datetime.fromtimestamp(self.scene.now, dt.UTC)
        return self.ca.revocation_list(
            *revoked, this_update=now - DAY, next_update=now - DAY + due * DAY, by_root=by_root
        )


@pytest.fixture
def machine(scene: Scene, ca: LocalCA) -> Machine:
    """The node of the scene."""
    return Machine(scene, ca)


def test_a_software_tpm_that_is_named_is_let_in_and_noted(machine: Machine) -> None:
    """B16: the record says for good that whoever runs it can copy it."""
    accepted = machine.ask(policy())
    assert [(note.id, note.effect) for note in accepted.notes] == [
        ("endorsement.tpm.software", Effect.NOTES)
    ]
    record = accepted.enrolment(now=5)
    assert record.notes == accepted.notes
    assert Enrolment.parse(record.encode()) == record


@pytest.mark.parametrize("named", ["[]", '["id:00001014/libtpms/*"]', '["id:49424D00/*/*"]'])
def test_a_software_tpm_that_is_not_named_is_refused(machine: Machine, named: str) -> None:
    """B16: trusting a local CA is not enough to let a copyable TPM in."""
    assert machine.refused(policy(unsafe_software_tpm=named)) == {"endorsement.tpm.software"}


def test_a_software_tpm_is_refused_once_the_policy_stops_naming_it(machine: Machine) -> None:
    """What lets a node in must let it in still."""
    assert machine.decided(policy(unsafe_software_tpm="[]")) == {"endorsement.tpm.software"}


def test_hardware_needs_no_unsafe_rule(machine: Machine) -> None:
    """A vendor's TPM passes a policy that names no software, without a note."""
    assert machine.of_make(ST).ask(policy(unsafe_software_tpm="[]")).notes == ()


@pytest.mark.parametrize(
    ("vendors", "refused"), [('["any"]', False), ('["IFX", "STM"]', False), ('["IFX"]', True)]
)
def test_only_vendors_that_policy_lists_are_let_in(
    machine: Machine,
    vendors: str,
    refused: bool,  # noqa: FBT001 - a parameter
) -> None:
    """At enrolment and at every decision after."""
    expected = {"endorsement.vendor.not-allowed"} if refused else set()
    machine.of_make(ST)
    assert machine.decided(policy(vendors=vendors)) == expected
    if refused:
        assert machine.refused(policy(vendors=vendors)) == expected


def test_a_named_software_tpm_needs_no_vendor(machine: Machine) -> None:
    """Naming it says more than its vendor would."""
    assert machine.ask(policy(vendors='["STM"]')).endorsement is not None


@pytest.mark.parametrize(
    "listed", ['["STM/ST33HTPHAHB4/id:00490004"]', '["IFX/*/*", "STM/ST33*/id:0049*"]']
)
def test_listed_firmware_is_refused(machine: Machine, listed: str) -> None:
    """B15: what a key does not show, TPM-FAIL and its like, policy lists by make."""
    machine.of_make(ST)
    assert machine.decided(policy(refuse_firmware=listed)) == {"endorsement.firmware.refused"}
    assert machine.refused(policy(refuse_firmware=listed)) == {"endorsement.firmware.refused"}
    other = '["STM/ST33HTPHAHB4/id:00490005"]'
    assert machine.ask(policy(refuse_firmware=other)).endorsement is not None


def test_sha1_is_a_rule_of_its_own(machine: Machine) -> None:
    """A chain over SHA-1 is refused; allowed by policy, it is told in the record."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name("Old CA")
    scene_key = accept_endorsement_key(parse_public(machine.scene.node.ek_public())).key
    root = Handmade(key.public_key(), name, name, CA_EXTENSIONS).signed(key)
    machine.chain = (Handmade(scene_key, name, algorithm=ECDSA_SHA1).signed(key),)
    machine.scene.roots = TrustedRoots.of([root])
    assert machine.refused(policy()) == {"endorsement.signature.sha1"}
    accepted = machine.ask(policy(unsafe_sha1_signatures="true"))
    assert [note.id for note in accepted.notes] == ["endorsement.tolerated.sha1-signature"]
    assert accepted.endorsement is not None
    assert accepted.endorsement.tolerated == {Tolerance.SHA1_SIGNATURE}
    machine.scene.enrolment = accepted.enrolment(now=machine.scene.now)
    machine.scene.use_policy(policy())
    findings = machine.scene.decide().findings
    assert [each.id for each in findings] == ["endorsement.signature.sha1"]


def test_a_revoked_ek_is_refused(machine: Machine) -> None:
    """B15: at enrolment, and from the moment the list is given."""
    machine.trust(machine.crl(machine.chain[0]))
    assert machine.refused(policy()) == {"endorsement.revoked"}
    machine.trust()
    machine.scene.enrolment = machine.ask(policy()).enrolment(now=machine.scene.now)
    assert machine.scene.decide().accepted
    machine.trust(machine.crl(machine.chain[0]))
    refused = machine.scene.decide()
    assert [each.id for each in refused.findings] == ["endorsement.revoked"]


def test_a_revoked_intermediate_is_refused(machine: Machine) -> None:
    """Below the root that signed the list, and where it is pinned itself."""
    by_root = machine.crl(machine.chain[1], by_root=True)
    root = machine.ca.root.public_bytes(Encoding.DER)
    machine.scene.roots = TrustedRoots.of([root, by_root])
    assert machine.refused(policy()) == {"endorsement.revoked"}
    machine.trust(by_root)
    assert machine.refused(policy()) == {"endorsement.root.revoked"}


def test_lists_are_demanded_where_policy_demands_them(machine: Machine) -> None:
    """Missing, or older than the next one's date: refused under "required", else at most noted."""
    required = policy(crl='"required"')
    machine.trust()
    assert machine.refused(required) == {"endorsement.crl.missing"}
    assert [note.id for note in machine.ask(policy()).notes] == ["endorsement.tpm.software"]
    machine.trust(machine.crl(due=0.5))
    assert machine.refused(required) == {"endorsement.crl.outdated"}
    assert [note.id for note in machine.ask(policy()).notes] == [
        "endorsement.tpm.software",
        "endorsement.crl.outdated",
    ]
    machine.trust(machine.crl())
    assert machine.ask(required).endorsement is not None


def test_a_list_that_runs_out_ends_leases_where_it_is_demanded(machine: Machine) -> None:
    """The decision after the next list was due is refused, and the one before is not."""
    machine.trust(machine.crl(due=2))
    machine.scene.enrolment = machine.ask(policy(crl='"required"')).enrolment(now=machine.scene.now)
    machine.scene.use_policy(policy(crl='"required"'))
    assert machine.scene.decide().accepted
    machine.scene.now += 2 * 86_400
    assert "endorsement.crl.outdated" in {each.id for each in machine.scene.decide().findings}


def test_every_ca_of_a_path_needs_its_list(machine: Machine) -> None:
    """With the root pinned alone, the intermediate's list cannot be verified: that is missing."""
    root = machine.ca.root.public_bytes(Encoding.DER)
    machine.scene.roots = TrustedRoots.of([root, machine.crl(by_root=True)])
    assert machine.refused(policy(crl='"required"')) == {"endorsement.crl.missing"}


def test_a_faulty_key_is_refused_where_it_is_listed_by_hand_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B15: an operator's word does not mend a key that can be computed."""
    monkeypatch.setattr("bootlease.endorsement.weakness.is_roca", lambda _: True)
    listed = f'["{machine.scene.enrolment.ek_digest.hex()}"]'
    assert machine.refused(policy(unsafe_unendorsed_ek=listed)) == {"endorsement.key.roca"}
