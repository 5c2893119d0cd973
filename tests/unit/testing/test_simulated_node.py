"""A node of software keys quotes truthfully, and lies when it is told to."""

from __future__ import annotations

import dataclasses
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import TransportError
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.ports import TPMDevice
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description, uki_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.simulated_node import Lies, SimulatedNode
from bootlease.tpm import (
    PCRSelection,
    TPMSCertifyInfo,
    TPMSQuoteInfo,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    make_credential,
    parse_attest,
    parse_public,
    parse_signature,
    verify_certification,
)

SELECTION = {HashAlg.SHA256: [0, 4, 7, 8]}


@pytest.fixture(scope="module")
def ca() -> LocalCA:
    """Return a CA."""
    return LocalCA.create()


@pytest.fixture
def node(ca: LocalCA) -> SimulatedNode:
    """Return a node that has booted GRUB."""
    return SimulatedNode(ca, boot=simulate_boot(grub_description()))


def test_it_is_a_tpm_device(node: SimulatedNode) -> None:
    """The simulated node goes wherever a TPM device goes."""
    device: TPMDevice = node
    assert device.ek_chain()


@pytest.mark.parametrize("ek_algorithm", list(EKAlgorithm))
@pytest.mark.parametrize("ak_algorithm", list(AKAlgorithm))
def test_enrolment_works_with_every_key_kind(
    ca: LocalCA, ek_algorithm: EKAlgorithm, ak_algorithm: AKAlgorithm
) -> None:
    """The EK is certified and activates a credential for the AK; both keys are acceptable."""
    node = SimulatedNode(ca, ek_algorithm=ek_algorithm, ak_algorithm=ak_algorithm)
    ek = accept_endorsement_key(parse_public(node.ek_public()))
    ak = accept_attestation_key(parse_public(node.ak_public()))
    certificate = x509.load_der_x509_certificate(node.ek_chain()[0])
    certificate.verify_directly_issued_by(ca.intermediate)
    assert certificate.public_key() == ek.key
    if isinstance(ek.key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(ek.key.curve)
        credential = make_credential(ek, ak.name, b"secret", ephemeral=ephemeral)
    else:
        credential = make_credential(ek, ak.name, b"secret", seed=os.urandom(32))
    secret = node.activate_credential(credential.id_object, credential.encrypted_secret)
    assert secret == b"secret"
    signed = node.sign_as_ak(b"message")
    assert ak.verification.check(parse_signature(signed), b"message", "quote") == ()


def test_credential_for_another_ak_is_refused(ca: LocalCA, node: SimulatedNode) -> None:
    """A credential made for another node's AK does not open."""
    other = SimulatedNode(ca)
    ek = parse_public(node.ek_public())
    name = parse_public(other.ak_public()).name
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    credential = make_credential(ek, name, b"secret", ephemeral=ephemeral)
    with pytest.raises(TransportError, match="ActivateCredential"):
        node.activate_credential(credential.id_object, credential.encrypted_secret)


def test_quote_speaks_of_the_boot(node: SimulatedNode) -> None:
    """An honest quote holds nonce, selection and the PCRs of the boot."""
    quoted = node.quote(b"nonce", SELECTION)
    attest = parse_attest(quoted.attest)
    assert attest.extra_data == b"nonce"
    assert attest.qualified_signer == parse_public(node.ak_public()).qualified_name()
    assert isinstance(attest.attested, TPMSQuoteInfo)
    assert attest.attested.selections == (PCRSelection(HashAlg.SHA256, (0, 4, 7, 8)),)
    expected = simulate_boot(grub_description()).pcrs()[HashAlg.SHA256]
    assert quoted.pcrs == {HashAlg.SHA256: {pcr: expected[pcr] for pcr in (0, 4, 7, 8)}}


@pytest.mark.parametrize(
    "lies",
    [
        Lies(magic=0),
        Lies(type=0x8017, attested=TPMSCertifyInfo(b"", b"")),
        Lies(qualified_signer=b"\0\x0b" + bytes(32)),
        Lies(extra_data=b"other"),
        Lies(firmware_version=0),
        Lies(pcr_digest=bytes(32)),
        Lies(selections=(PCRSelection(HashAlg.SHA256, (16,)),)),
    ],
    ids=lambda lies: next(iter(lies)),
)
def test_each_lie_changes_its_field_only(node: SimulatedNode, lies: Lies) -> None:
    """A lie shows in its own field, under a genuine signature; honesty comes back."""
    ak = accept_attestation_key(parse_public(node.ak_public()))
    node.lie(**lies)
    quoted = node.quote(b"nonce", SELECTION)
    signature = parse_signature(quoted.signature)
    assert ak.verification.check(signature, quoted.attest, "quote") == ()
    node.lie()
    honest = parse_attest(node.quote(b"nonce", SELECTION).attest)
    if "magic" in lies:
        assert quoted.attest[:4] == bytes(4)
        return
    told = parse_attest(quoted.attest)
    for name, value in lies.items():
        where = told.attested if name in ("pcr_digest", "selections") else told
        assert getattr(where, name) == value
        truth = honest.attested if name in ("pcr_digest", "selections") else honest
        assert getattr(truth, name) != value


def test_clock_can_go_back(node: SimulatedNode) -> None:
    """A cloned TPM shows an older counter (attack A23)."""
    now = node.read_clock()
    node.lie(clock_info=dataclasses.replace(now, reset_count=now.reset_count - 1))
    attest = parse_attest(node.quote(b"n", SELECTION).attest)
    assert attest.clock_info.reset_count == now.reset_count - 1


def test_reboot_resets_pcrs_and_counts(node: SimulatedNode) -> None:
    """Another boot leaves no trace of the one before, except the counter."""
    before = node.read_clock()
    node.boot(simulate_boot(uki_description()))
    assert node.read_clock().reset_count == before.reset_count + 1
    expected = simulate_boot(uki_description()).pcrs()[HashAlg.SHA256]
    assert node.read_pcrs({HashAlg.SHA256: [11]}) == {HashAlg.SHA256: {11: expected[11]}}


def test_idle_bank_is_refused(node: SimulatedNode) -> None:
    """A bank that is not active has no values."""
    with pytest.raises(TransportError, match="no active PCR bank sha384"):
        node.quote(b"n", {HashAlg.SHA384: [0]})


def test_bound_key_is_certified(node: SimulatedNode) -> None:
    """The AK vouches for the confirmation key, whose signature verifies."""
    ak = accept_attestation_key(parse_public(node.ak_public()))
    key = node.bound_key()
    certified = key.certification
    public = parse_public(certified.public)
    bound = accept_bound_key(public)
    verify_certification(certified.attest, certified.signature, ak, CERTIFY_LABEL, public)
    assert bound.public.type.name == "ECC"
    assert len(key.sign(b"data")) == 64
