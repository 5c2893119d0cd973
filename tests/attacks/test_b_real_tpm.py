"""Section B with real TPMs, in software: the keys that their owner can make, and what they open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR

from bootlease.evidence import CertifiedKey, CredentialChallenge
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import HashAlg
from bootlease.node.tpm.ek_templates import ek_profiles
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.tpm.signing_templates import attestation_key_template
from bootlease.ports import QuotedState
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import ALL_BANKS
from bootlease.testing.scene import default_lease
from bootlease.testing.swtpm import SoftwareTPMState
from bootlease.tpm import (
    Credential,
    EndorsementKey,
    TPMAObject,
    accept_attestation_key,
    accept_endorsement_key,
    credential,
    make_credential,
    parse_public,
)
from tests.attacks.machines import Machine, Statement, machine
from tests.attacks.verdict import TPM_REFUSES, Verdict, attack, benign

pytestmark = pytest.mark.swtpm

SECRET: Final = b"the secret of an activation"


@pytest.fixture(scope="module")
def state(local_ca: LocalCA, tmp_path_factory: pytest.TempPathFactory) -> SoftwareTPMState:
    """A TPM that no other module enrols: how often one may is bounded."""
    return manufacture(tmp_path_factory.mktemp("b") / "state", ca=local_ca, banks=ALL_BANKS)


@pytest.fixture
def tpm(state: SoftwareTPMState, tmp_path: Path) -> Iterator[Machine]:
    """A machine for each test: they change its keys and its seeds."""
    with machine(state.clone(tmp_path / "state")) as running:
        yield running


@pytest.fixture(scope="module")
def booted() -> SimulatedBoot:
    """The good boot, measured into every bank of a TPM."""
    return simulate_boot(grub_description(), ALL_BANKS)


def client_of(http: httpx2.Client, device: Any) -> AttestingClient:
    """Return a machine's client, not enrolled."""
    return AttestingClient(http, device, (default_lease(),))


@pytest.fixture
def client(http: httpx2.Client, tpm: Machine) -> AttestingClient:
    """The machine's client."""
    return client_of(http, tpm)


@pytest.fixture(scope="module")
def enrolled(
    http: httpx2.Client,
    state: SoftwareTPMState,
    tmp_path_factory: pytest.TempPathFactory,
    booted: SimulatedBoot,
) -> Iterator[AttestingClient]:
    """A client that is enrolled and has booted well."""
    with machine(state.clone(tmp_path_factory.mktemp("enrolled") / "state"), booted) as running:
        client = client_of(http, running)
        client.enrol()
        yield client


def machine_of(client: AttestingClient) -> Machine:
    """Return the machine of a client."""
    device: Any = client.device
    assert isinstance(device, Machine)
    return device


def ak_template(algorithm: AKAlgorithm = AKAlgorithm.ECC_P256, **changes: Any) -> Any:
    """Return the template of a new attestation key, changed."""
    return replace(attestation_key_template(algorithm, os.urandom(32)), **changes)


@attack("B1", "ak.attributes.restricted")
@pytest.mark.parametrize("algorithm", list(AKAlgorithm), ids=lambda item: item.value)
def test_a_key_that_signs_a_forged_quote_is_not_enrolled(
    tpm: Machine, client: AttestingClient, verdict: Verdict, algorithm: AKAlgorithm
) -> None:
    """An unrestricted key in a genuine TPM really signs bytes that begin with TPM_GENERATED."""
    usual = ak_template(algorithm)
    tpm.use_ak_of(
        ak_template(algorithm, object_attributes=usual.object_attributes & ~TPMAObject.RESTRICTED)
    )
    assert tpm.sign_with_ak(b"\xffTCG" + bytes(100))
    verdict.refused(client.request_enrolment())


@attack("B1", "quote.signature.invalid")
def test_a_quote_signed_by_another_key_of_the_same_tpm_is_refused(
    enrolled: AttestingClient, verdict: Verdict
) -> None:
    """The enrolled key is restricted; a forged quote is signed by one beside it that is not."""
    tpm = machine_of(enrolled)
    restricted, usual = tpm.ak_handle, ak_template()
    assert restricted is not None

    def sign_beside(_: bytes, state: QuotedState) -> Statement:
        attributes = usual.object_attributes & ~TPMAObject.RESTRICTED
        tpm.use_ak_of(replace(usual, object_attributes=attributes))
        signature = tpm.sign_with_ak(state.attest)
        tpm.load_ak(restricted)
        return state.attest, signature

    tpm.instead = sign_beside
    verdict.refused(enrolled.present(enrolled.attest()))
    tpm.instead = None


@attack("B4", TPM_REFUSES)
def test_a_credential_opens_with_the_named_key_only(
    tpm: Machine, client: AttestingClient, verdict: Verdict
) -> None:
    """Enrolling one key while another is loaded: the TPM compares the name."""
    tpm.ak_public()
    first = tpm.ak_handle
    registered = tpm.create_ak()
    answer = client.request_enrolment(ak_public=registered)
    made = CredentialChallenge.parse(answer.content)
    assert first is not None
    tpm.load_ak(first)
    with verdict.refuses():
        client.activate(made)


@attack("B18", "certify.type.wrong")
def test_a_certified_creation_is_no_certification(
    enrolled: AttestingClient, verdict: Verdict
) -> None:
    """It says that a key was once made here, by whom nobody knows; not that it is here."""
    created = machine_of(enrolled).attest_creation(CERTIFY_LABEL)
    enrolled.leases = (replace(default_lease(), confirmation=created),)
    verdict.refused(enrolled.present(enrolled.attest()))


@attack("B18", "certify.name.mismatch")
def test_a_certification_of_one_key_vouches_for_no_other(
    enrolled: AttestingClient, verdict: Verdict
) -> None:
    """The public area presented is not the one whose name the TPM certified."""
    tpm = machine_of(enrolled)
    one, other = tpm.bound_key().certification, tpm.bound_key().certification
    mixed = CertifiedKey(other.public, one.attest, one.signature)
    enrolled.leases = (replace(default_lease(), confirmation=mixed),)
    verdict.refused(enrolled.present(enrolled.attest()), "certify.name.mismatch")
    enrolled.leases = (replace(default_lease(), confirmation=one),)
    verdict.accepted(enrolled.present(enrolled.attest()))


@attack("B20", "ak.name-alg.weak")
def test_a_key_that_a_tpm_names_by_sha1_is_not_enrolled(
    tpm: Machine, client: AttestingClient, verdict: Verdict
) -> None:
    """TPMs make such keys."""
    tpm.use_ak_of(ak_template(name_alg=HashAlg.SHA1))
    verdict.refused(client.request_enrolment())


@attack("B21", "ek.attributes.user-with-auth")
def test_an_endorsement_key_that_anybody_may_use_is_not_enrolled(
    tpm: Machine, client: AttestingClient, verdict: Verdict
) -> None:
    """The certified key's own template with userWithAuth: another key, and open to all."""
    template = ek_profiles(EKAlgorithm.ECC_P256)[0].template
    attributes = template.object_attributes | TPMAObject.USER_WITH_AUTH
    opened = replace(template, object_attributes=attributes)
    with tpm.primary(opened, ESYS_TR.ENDORSEMENT) as (_, public):
        verdict.refused(client.request_enrolment(ek_public=public))


def made_for(ek: EndorsementKey, name: bytes) -> Credential:
    """Return a credential as the verifier makes it."""
    if isinstance(ek.key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(ek.key.curve)
        return make_credential(ek, name, SECRET, ephemeral=ephemeral)
    return make_credential(ek, name, SECRET, seed=os.urandom(HashAlg(ek.public.name_alg).size))


@benign("B22")
@pytest.mark.parametrize("algorithm", list(EKAlgorithm), ids=lambda item: item.value)
def test_credentials_are_those_that_a_tpm_opens(
    tpm: Machine, verdict: Verdict, algorithm: EKAlgorithm
) -> None:
    """Labels, key derivation and integrity agree with the TPM's, for each kind of EK."""
    tpm.ek_algorithm = algorithm
    ek = accept_endorsement_key(parse_public(tpm.ek_public()))
    name = accept_attestation_key(parse_public(tpm.ak_public())).name
    made = made_for(ek, name)
    assert tpm.activate_credential(made.id_object, made.encrypted_secret) == SECRET
    verdict.noticed(())


@attack("B22", TPM_REFUSES)
@pytest.mark.parametrize(
    "slip",
    [
        ("_IDENTITY", b"IDENTITY"),
        ("_IDENTITY", b"DUPLICATE\0"),
        ("_INTEGRITY", b"INTEGRITY"),
        ("_STORAGE", b"INTEGRITY\0"),
    ],
    ids=["no-zero", "other-label", "integrity", "storage"],
)
def test_a_slip_in_making_credentials_opens_nowhere(
    tpm: Machine, verdict: Verdict, monkeypatch: pytest.MonkeyPatch, slip: tuple[str, bytes]
) -> None:
    """Each label is right to its last byte: with another one, no kind of EK opens them."""
    monkeypatch.setattr(credential, *slip)
    name = accept_attestation_key(parse_public(tpm.ak_public())).name
    for tpm.ek_algorithm in EKAlgorithm:
        made = made_for(accept_endorsement_key(parse_public(tpm.ek_public())), name)
        with verdict.refuses():
            tpm.activate_credential(made.id_object, made.encrypted_secret)


@attack("B22", TPM_REFUSES)
def test_a_credential_that_was_changed_opens_nowhere(tpm: Machine, verdict: Verdict) -> None:
    """In its secret, its integrity, or the seed it travels with."""
    ek = accept_endorsement_key(parse_public(tpm.ek_public()))
    made = made_for(ek, accept_attestation_key(parse_public(tpm.ak_public())).name)
    for place in (5, len(made.id_object) - 1):
        altered = bytearray(made.id_object)
        altered[place] ^= 1
        with verdict.refuses(TPM_REFUSES):
            tpm.activate_credential(bytes(altered), made.encrypted_secret)
    other = made_for(ek, accept_attestation_key(parse_public(tpm.ak_public())).name)
    with verdict.refuses(TPM_REFUSES):
        tpm.activate_credential(made.id_object, other.encrypted_secret)


@attack("B23", "clock.reset-count.rollback", TPM_REFUSES)
def test_a_cleared_tpm_does_not_go_on_as_the_node_it_was(
    tpm: Machine, client: AttestingClient, verdict: Verdict, booted: SimulatedBoot
) -> None:
    """TPM2_Clear sets its counters to zero and takes its keys: that needs the operator."""
    for _ in range(3):
        tpm.boot(booted)
    client.enrol()
    client.renew()
    with tpm.command("TPM2_Clear"):
        tpm.esapi.clear(ESYS_TR.PLATFORM)
    with verdict.refuses(TPM_REFUSES):
        client.attest()
    with Machine(tpm.tpm) as cleared:
        cleared.boot(booted)
        cleared.pass_time()
        anew = client_of(client.http, cleared)
        assert anew.enrol() == client.node
        verdict.refused(anew.present(anew.attest()), "clock.reset-count.rollback")


@attack("B23", "endorsement.key.mismatch")
def test_a_tpm_with_another_seed_is_another_tpm(
    tpm: Machine, client: AttestingClient, verdict: Verdict
) -> None:
    """TPM2_ChangeEPS leaves the certificate of a key that is gone."""
    with tpm.command("TPM2_ChangeEPS"):
        tpm.esapi.change_eps()
    with Machine(tpm.tpm) as changed:
        anew = client_of(client.http, changed)
        verdict.refused(anew.request_enrolment())
