"""Section B: keys that are not what they seem, and certificates that do not vouch for them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.appraisal import AcceptedEnrolment, accept_enrolment
from bootlease.endorsement import TrustedRoots, parse_certificates
from bootlease.evidence import Activation, CredentialChallenge, EnrolmentRequest
from bootlease.evidence.enrolment import node_id
from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.policy import parse_policy
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.local_ca import LocalCA, TPMIdentity
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import VerifierProcess
from bootlease.tpm import (
    TPMAObject,
    TPMECCCurve,
    TPMSECCPoint,
    TPMSRSAParms,
    accept_attestation_key,
    accept_endorsement_key,
    parse_public,
)
from bootlease.tpm.endorsement_key import POLICY_B
from tests.attacks.certificates import (
    AK_CERTIFICATE_EKU,
    SERVER_AUTH_EKU,
    Alter,
    ca_certificate,
    ek_certificate,
    element,
    elements,
    in_nv_frame,
    make_san,
    signed_again,
    with_oaep_key,
)
from tests.attacks.forging import RSA_KEY, ForgingNode, ecc_ak, rsa_ak
from tests.attacks.verdict import MALFORMED, TPM_REFUSES, Verdict, attack, benign

NewAttacker = Callable[..., AttestingClient]
Enrol = Callable[..., AcceptedEnrolment]

OF_RSA: Final = POLICY.replace('"ecc-p256"', '"rsa-2048"')
SOFTWARE_NAMED: Final = 'unsafe_software_tpm = ["id:00001014/swtpm/*"]'
BOTH_KEYS: Final = pytest.mark.parametrize(
    "ak_algorithm", list(AKAlgorithm), ids=lambda algorithm: algorithm.value
)


def forging(client: AttestingClient) -> ForgingNode:
    """The client's node, which forges."""
    assert isinstance(client.device, ForgingNode)
    return client.device


# -- B1 to B3, B17, B19, B20: the attestation key


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        pytest.param(TPMAObject.RESTRICTED, False, marks=attack("B1", "ak.attributes.restricted")),
        pytest.param(TPMAObject.X509_SIGN, True, marks=attack("B1", "ak.attributes.x509-sign")),
        pytest.param(TPMAObject.FIXED_TPM, False, marks=attack("B2", "ak.attributes.fixed-tpm")),
        pytest.param(
            TPMAObject.FIXED_PARENT, False, marks=attack("B2", "ak.attributes.fixed-parent")
        ),
        pytest.param(
            TPMAObject.SENSITIVE_DATA_ORIGIN,
            False,
            marks=attack("B2", "ak.attributes.sensitive-data-origin"),
        ),
        pytest.param(TPMAObject.ST_CLEAR, True, marks=attack("B2", "ak.attributes.st-clear")),
        pytest.param(TPMAObject.SIGN_ENCRYPT, False, marks=attack("B3", "ak.attributes.sign")),
        pytest.param(TPMAObject.DECRYPT, True, marks=attack("B3", "ak.attributes.decrypt")),
    ],
    ids=lambda value: value.name if isinstance(value, TPMAObject) else "",
)
@BOTH_KEYS
def test_an_attestation_key_of_other_attributes_is_not_enrolled(
    new_attacker: NewAttacker,
    verdict: Verdict,
    flag: TPMAObject,
    wanted: bool,  # noqa: FBT001  a parameter of the case
    ak_algorithm: AKAlgorithm,
) -> None:
    """One attribute is the other way round; without it the key is enrolled."""
    client = new_attacker(enrolled=False, ak_algorithm=ak_algorithm)
    area = forging(client).ak_area
    changed = area.object_attributes | flag if wanted else area.object_attributes & ~flag
    altered = forging(client).alter_ak(object_attributes=changed)
    verdict.refused(client.request_enrolment(ak_public=altered))


@attack("B3", "ak.attributes.sign", "ak.attributes.decrypt", "ak.scheme.missing")
def test_an_endorsement_key_is_no_attestation_key(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """A restricted decryption key passed off as one that signs."""
    client = new_attacker(enrolled=False)
    verdict.refused(client.request_enrolment(ak_public=client.device.ek_public()))


@attack("B17", "ak.rsa.size")
@pytest.mark.parametrize("bits", [1024, 1536])
def test_a_short_rsa_key_is_not_enrolled(
    new_attacker: NewAttacker, verdict: Verdict, bits: int
) -> None:
    """An RSA attestation key has 2048 bits at least."""
    client = new_attacker(enrolled=False)
    short = rsa.generate_private_key(65537, bits)
    verdict.refused(client.request_enrolment(ak_public=rsa_ak(short).marshal()))


@attack("B17", "ak.rsa.exponent")
@pytest.mark.parametrize("exponent", [1, 3, 17, 65539])
def test_an_odd_rsa_exponent_is_not_enrolled(
    new_attacker: NewAttacker, verdict: Verdict, exponent: int
) -> None:
    """Only 65537: with 1, any bytes are a signature."""
    client = new_attacker(enrolled=False)
    area = rsa_ak(RSA_KEY)
    assert isinstance(area.parameters, TPMSRSAParms)
    odd = replace(area, parameters=replace(area.parameters, exponent=exponent))
    verdict.refused(client.request_enrolment(ak_public=odd.marshal()))


@attack("B17", "ak.curve.unsupported")
@pytest.mark.parametrize(
    "curve",
    [TPMECCCurve.NIST_P192, TPMECCCurve.NIST_P224, TPMECCCurve.BN_P256, TPMECCCurve.SM2_P256, 0x99],
)
def test_a_key_on_another_curve_is_not_enrolled(
    new_attacker: NewAttacker, verdict: Verdict, curve: int
) -> None:
    """A curve that cannot be loaded is a refusal, and no signature goes unchecked for it."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    verdict.refused(client.request_enrolment(ak_public=ecc_ak(node.ak_key, curve).marshal()))


@attack("B17", "ak.key.invalid")
@pytest.mark.parametrize("point", ["off-the-curve", "zero", "short"])
def test_numbers_that_are_no_key_are_not_enrolled(
    new_attacker: NewAttacker, verdict: Verdict, point: str
) -> None:
    """A point beside its curve, or none."""
    client = new_attacker(enrolled=False)
    unique = forging(client).ak_area.unique
    assert isinstance(unique, TPMSECCPoint)
    points = {
        "off-the-curve": TPMSECCPoint(unique.x, unique.y[:-1] + bytes([unique.y[-1] ^ 1])),
        "zero": TPMSECCPoint(bytes(32), bytes(32)),
        "short": TPMSECCPoint(b"", b""),
    }
    altered = forging(client).alter_ak(unique=points[point])
    verdict.refused(client.request_enrolment(ak_public=altered))


@benign("B19")
def test_an_exponent_of_zero_means_65537(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """As TPMs write it; the key works, and is another object than one that spells it out."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    node.use_rsa_ak()
    parameters = node.ak_area.parameters
    assert getattr(parameters, "exponent", None) == 0
    key = accept_attestation_key(node.ak_area)
    assert isinstance(key.verification.key, rsa.RSAPublicKey)
    assert key.verification.key.public_numbers().e == 65537
    client.enrol()
    verdict.accepted(client.present(client.attest()))


@attack("B20", "ak.name-alg.weak")
@BOTH_KEYS
def test_a_key_named_by_sha1_is_not_enrolled(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Its name stands for it in credential activation, and SHA-1 names collide."""
    client = new_attacker(enrolled=False, ak_algorithm=ak_algorithm)
    altered = forging(client).alter_ak(name_alg=HashAlg.SHA1)
    verdict.refused(client.request_enrolment(ak_public=altered))


# -- B4 to B9: who enrols


@attack("B4", TPM_REFUSES, "enrolment.secret.mismatch")
def test_a_credential_is_made_for_the_key_that_is_enrolled(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """The name is computed from the public area: a TPM without that key does not open it."""
    client, other = (new_attacker(enrolled=False) for _ in range(2))
    answer = client.request_enrolment(ak_public=other.device.ak_public())
    credential = CredentialChallenge.parse(answer.content)
    with verdict.refuses(TPM_REFUSES):
        client.device.activate_credential(credential.id_object, credential.encrypted_secret)
    verdict.refused(client.activate(credential, bytes(32)))


@attack("B5", "endorsement.key.mismatch")
def test_another_tpms_certificate_vouches_for_nothing(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """A key made in software beside a genuine certificate, and the reverse."""
    client, real = (new_attacker(enrolled=False) for _ in range(2))
    chain = tuple(real.device.ek_chain())
    verdict.refused(client.request_enrolment(ek_chain=chain), "endorsement.key.mismatch")
    genuine = real.device.ek_public()
    verdict.refused(client.request_enrolment(ek_public=genuine), "endorsement.key.mismatch")


@attack("B6", "enrolment.secret.mismatch", "problem:unknown-enrolment")
def test_a_secret_is_guessed_once(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """A wrong answer ends it and tells nothing; even the right one comes too late then."""
    client = new_attacker(enrolled=False)
    credential = CredentialChallenge.parse(client.request_enrolment().content)
    secret = client.device.activate_credential(credential.id_object, credential.encrypted_secret)
    close = secret[:-1] + bytes([secret[-1] ^ 1])
    wrong = client.activate(credential, close)
    verdict.refused(wrong, "enrolment.secret.mismatch")
    assert secret.hex() not in wrong.text
    for guess in (close, secret, secret):
        verdict.refused(client.activate(credential, guess), "problem:unknown-enrolment")
    client.enrol()


@attack("B6", MALFORMED, "enrolment.secret.mismatch")
@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_secret_is_compared_whole(
    new_attacker: NewAttacker, verdict: Verdict, length: int
) -> None:
    """Neither a beginning of it nor nothing will do."""
    client = new_attacker(enrolled=False)
    credential = CredentialChallenge.parse(client.request_enrolment().content)
    secret = client.device.activate_credential(credential.id_object, credential.encrypted_secret)
    path = f"/v1/enrolments/{credential.enrolment.hex()}/activation"
    with verdict.refuses(MALFORMED):
        Activation.parse(client.send(path, "activation", b"\xa0").content)
    short = Activation(secret[:length]).encode()
    verdict.refused(client.send(path, "activation", short), MALFORMED)
    verdict.refused(client.activate(credential, secret[:length].ljust(32, b"\0")))


@attack("B7", TPM_REFUSES, "enrolment.secret.mismatch", "quote.signature.invalid")
def test_a_second_tpm_does_not_become_a_node_that_exists(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """A node's id is its endorsement key; who lacks that key changes nothing for the node."""
    victim = new_attacker()
    victim.renew()
    thief = new_attacker(enrolled=False)
    answer = thief.request_enrolment(
        ek_public=victim.device.ek_public(), ek_chain=tuple(victim.device.ek_chain())
    )
    credential = CredentialChallenge.parse(answer.content)
    with verdict.refuses(TPM_REFUSES):
        thief.device.activate_credential(credential.id_object, credential.encrypted_secret)
    verdict.refused(thief.activate(credential, bytes(32)), "enrolment.secret.mismatch")
    thief.enrol()
    assert thief.node != victim.node
    evidence = replace(thief, node=victim.node).attest()
    verdict.refused(thief.present(evidence, victim.node), "quote.signature.invalid")
    assert victim.renew().sequence == 1


@attack("B8", "problem:unauthorized")
def test_no_admin_route_answers_without_the_credential(
    running: VerifierProcess, http: httpx2.Client, verdict: Verdict
) -> None:
    """Whatever else is right or wrong with the request, and whatever a node can present."""
    paths = http.get("/openapi.json").json()["paths"]
    routes = [
        (method.upper(), path)
        for path, methods in paths.items()
        if path.startswith("/v1/admin")
        for method in methods
    ]
    assert len(routes) >= 12
    # Each from an address of its own, for one address is not heard after many wrong ones.
    for number, authorization in enumerate(
        (
            None,
            f"Bearer {running.credential[:-1]}",
            f"Bearer {running.credential} {running.credential}",
            f"Basic {running.credential}",
        )
    ):
        transport = httpx2.HTTPTransport(local_address=f"127.0.0.{number + 2}")
        headers = {} if authorization is None else {"authorization": authorization}
        with httpx2.Client(
            base_url=running.url, headers=headers, transport=transport, trust_env=False
        ) as client:
            for method, template in routes:
                path = re.sub("{[a-z]+}", "0" * 64, template)
                verdict.refused(client.request(method, path), "problem:unauthorized")


@attack("B9", "quote.signature.invalid")
def test_the_key_that_was_activated_is_the_one_that_counts(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Two enrolments of one TPM are pending with two keys; each activates its own."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    first = CredentialChallenge.parse(client.request_enrolment().content)
    secret = node.activate_credential(first.id_object, first.encrypted_secret)
    key, area = node.ak_key, node.ak_area
    node.replace_ak()
    client.request_enrolment().raise_for_status()
    done = client.activate(first, secret)
    done.raise_for_status()
    client.node = node_of(client)
    verdict.refused(client.present(client.attest()))
    node.use_ak(key, area)
    verdict.accepted(client.present(client.attest()))


@attack("B9", "quote.signature.invalid")
def test_a_key_that_was_replaced_counts_no_more(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Evidence made with the old key is refused as soon as another is enrolled."""
    client = new_attacker()
    client.renew()
    old = client.attest()
    client.device.replace_ak()
    replaced = AttestingClient(client.http, client.device, client.leases)
    assert replaced.enrol() == client.node
    verdict.refused(client.present(old))
    verdict.accepted(replaced.present(replaced.attest()))


def node_of(client: AttestingClient) -> bytes:
    """The client's node id, computed from its endorsement key."""
    return node_id(accept_endorsement_key(parse_public(client.device.ek_public())).spki)


# -- B10 to B17: certificates


@pytest.fixture
def enrol(local_ca: LocalCA) -> Enrol:
    """Decides about a node with another chain than its own, as the verifier does."""

    def decide(
        node: ForgingNode,
        chain: Sequence[bytes] | None = None,
        *,
        policy: str = POLICY,
        roots: Sequence[bytes] = (),
        **changes: Any,
    ) -> AcceptedEnrolment:
        request = EnrolmentRequest(
            node.ek_public(), node.ak_public(), tuple(node.ek_chain() if chain is None else chain)
        )
        pinned = TrustedRoots.of([*parse_certificates(local_ca.roots_pem), *roots])
        now = int(local_ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400
        return accept_enrolment(replace(request, **changes), pinned, parse_policy(policy), now=now)

    return decide


@pytest.fixture
def node(local_ca: LocalCA) -> ForgingNode:
    """A node with a P-256 endorsement key."""
    return ForgingNode(local_ca)


@pytest.fixture(scope="module")
def rsa_node(local_ca: LocalCA) -> ForgingNode:
    """A node with an RSA endorsement key."""
    return ForgingNode(local_ca, ek_algorithm=EKAlgorithm.RSA_2048)


@attack("B10", "endorsement.eku.missing")
@pytest.mark.parametrize(
    "eku",
    [AK_CERTIFICATE_EKU, SERVER_AUTH_EKU, x509.ObjectIdentifier("2.5.29.37.0")],
    ids=["attestation-key", "server", "any-purpose"],
)
def test_a_certificate_for_something_else_endorses_no_tpm(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict, eku: Any
) -> None:
    """The CA issued it, for this very key, but not as an endorsement key's."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), eku=eku)
    with verdict.refuses():
        enrol(node, [leaf, local_ca.intermediate_der])


@benign("B11")
def test_a_critical_name_with_the_make_is_understood(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """The subject is empty and the subject alternative name critical, as the profile has it."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    accepted = enrol(node, [leaf, local_ca.intermediate_der])
    verdict.noticed(accepted.notes)
    assert accepted.endorsement is not None
    assert accepted.endorsement.identity.model == "swtpm"


def with_critical(oid: str, value: bytes) -> Alter:
    """Add a critical extension."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    return lambda builder: builder.add_extension(extension, critical=True)


@attack("B11", "endorsement.extension.critical")
@pytest.mark.parametrize("oid", ["1.2.3.4", "2.5.29.30", "2.5.29.36"])
def test_a_critical_extension_that_is_not_understood_refuses(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict, oid: str
) -> None:
    """Understanding one critical extension is not ignoring all of them."""
    alter = with_critical(oid, b"\x30\0")
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), alter=alter)
    with verdict.refuses():
        enrol(node, [leaf, local_ca.intermediate_der])


@attack("B11", "endorsement.extension.critical")
def test_a_critical_name_of_another_kind_refuses(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """A name that is not read cannot be understood, though the make stands beside it."""
    names = elements(make_san())
    san = element(0x30, *names, element(0x82, b"tpm.example"))
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), san=san)
    with verdict.refuses():
        enrol(node, [leaf, local_ca.intermediate_der])


@pytest.mark.parametrize(
    "present",
    [
        pytest.param(in_nv_frame, marks=benign("B12", "endorsement.tolerated.nv-frame")),
        pytest.param(
            lambda der: der + b"\xff" * 700, marks=benign("B12", "endorsement.tolerated.padding")
        ),
        pytest.param(
            lambda der: in_nv_frame(der) + bytes(64),
            marks=benign("B12", "endorsement.tolerated.nv-frame", "endorsement.tolerated.padding"),
        ),
    ],
    ids=["frame", "padding", "both"],
)
def test_what_surrounds_a_certificate_in_nv_memory_is_taken_off(
    local_ca: LocalCA,
    node: ForgingNode,
    enrol: Enrol,
    verdict: Verdict,
    present: Callable[[bytes], bytes],
) -> None:
    """TPMs hand their NV index over whole; it is noted by name."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    verdict.noticed(enrol(node, [present(leaf), local_ca.intermediate_der]).notes)


@benign("B12", "endorsement.tolerated.set-order")
def test_a_name_in_the_wrong_order_is_read(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """Nuvoton's SETs are not sorted; the signature is over them as they are."""
    assert make_san() != make_san(in_order=False)
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), san=make_san(in_order=False))
    verdict.noticed(enrol(node, [leaf, local_ca.intermediate_der]).notes)


@benign("B12", "endorsement.tolerated.oaep-key")
def test_a_key_for_oaep_alone_is_read(
    local_ca: LocalCA, rsa_node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """STM names the algorithm in the certified key, not in its use."""
    leaf = ek_certificate(local_ca, rsa_node.ek_key.public_key())
    odd = with_oaep_key(leaf, local_ca.intermediate_key)
    chain = [odd, local_ca.intermediate_der]
    verdict.noticed(enrol(rsa_node, chain, policy=OF_RSA).notes)


@attack("B12", MALFORMED)
@pytest.mark.parametrize(
    "present",
    [
        lambda der: der + b"\xff\xff\0",
        lambda der: der + der,
        lambda der: b"\x10\x01\0\xff\xff\x10\x02" + der,
        lambda der: b"\x10\x01\x01" + in_nv_frame(der)[3:],
        lambda der: b"\0" * 7 + der,
        lambda der: der[:-1],
        lambda der: der[:0],
    ],
    ids=["two-values", "two", "wrong-size", "wrong-type", "zeros-before", "cut", "nothing"],
)
def test_what_is_not_a_known_deviation_is_malformed(
    local_ca: LocalCA,
    node: ForgingNode,
    enrol: Enrol,
    verdict: Verdict,
    present: Callable[[bytes], bytes],
) -> None:
    """Each tolerance has its own shape; there is no lenient parser behind them."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    with verdict.refuses():
        enrol(node, [present(leaf), local_ca.intermediate_der])


def resorted(leaf: bytes) -> bytes:
    """Return a certificate whose unsorted name a lenient parser put in order."""
    return leaf.replace(make_san(in_order=False), make_san())


@attack("B13", "endorsement.chain.untrusted")
@pytest.mark.parametrize(
    "mend",
    [
        resorted,
        lambda leaf: leaf.replace(b"id:20191023", b"id:20991231"),
        lambda leaf: leaf.replace(b"swtpm", b"SLB96"),
    ],
    ids=["sorted", "version", "model"],
)
def test_the_signature_is_over_the_bytes_as_they_came(
    local_ca: LocalCA,
    node: ForgingNode,
    enrol: Enrol,
    verdict: Verdict,
    mend: Callable[[bytes], bytes],
) -> None:
    """A certificate that was put in order, or changed in what is tolerated, is not signed."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), san=make_san(in_order=False))
    mended = mend(leaf)
    assert mended != leaf
    with verdict.refuses():
        enrol(node, [mended, local_ca.intermediate_der])


@attack("B13", MALFORMED)
def test_what_nothing_signs_says_the_same_as_what_is_signed(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """The outer algorithm is outside the signature and may not differ from the inner one."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    tbs, _, signature = elements(leaf)
    sha384 = element(0x30, bytes.fromhex("06082a8648ce3d040303"))
    with verdict.refuses():
        enrol(node, [element(0x30, tbs, sha384, signature), local_ca.intermediate_der])


@attack("B13", "endorsement.chain.untrusted")
def test_signed_again_by_a_stranger_is_not_signed(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """The same content, byte for byte, under another key."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = signed_again(leaf, elements(leaf)[0], stranger)
    with verdict.refuses():
        enrol(node, [forged, local_ca.intermediate_der])


@attack("B14", "endorsement.chain.not-a-ca")
def test_an_endorsement_key_certifies_nothing(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """A real EK certificate as the issuer of a fake one: it is no CA."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
    real_key = ec.generate_private_key(ec.SECP256R1())
    real = ek_certificate(
        local_ca, real_key.public_key(), alter=lambda builder: _named(builder, subject)
    )
    fake = ek_certificate(local_ca, node.ek_key.public_key(), key=real_key, issuer=subject)
    with verdict.refuses():
        enrol(node, [fake, real, local_ca.intermediate_der])


def _named(builder: x509.CertificateBuilder, subject: x509.Name) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=builder._issuer_name,
        subject_name=subject,
        public_key=builder._public_key,
        serial_number=builder._serial_number,
        not_valid_before=builder._not_valid_before,
        not_valid_after=builder._not_valid_after,
        extensions=builder._extensions,
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"ca": False}, marks=attack("B14", "endorsement.chain.not-a-ca")),
        pytest.param({"cert_sign": False}, marks=attack("B14", "endorsement.chain.not-a-ca")),
        pytest.param({"days": (-9, -2)}, marks=attack("B14", "endorsement.intermediate.expired")),
        pytest.param({"days": (30, 90)}, marks=attack("B14", "endorsement.intermediate.expired")),
    ],
    ids=["no-ca", "no-cert-sign", "lapsed", "not-yet"],
)
def test_an_intermediate_of_the_client_obeys_the_rules(
    local_ca: LocalCA,
    node: ForgingNode,
    enrol: Enrol,
    verdict: Verdict,
    options: dict[str, Any],
) -> None:
    """The pinned root signed it, and it still is none that may issue now."""
    key = ec.generate_private_key(ec.SECP256R1())
    intermediate = ca_certificate(
        "odd", key.public_key(), local_ca.root.subject, local_ca.root_key, **options
    )
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), key=key, issuer=intermediate.subject)
    with verdict.refuses():
        enrol(node, [leaf, intermediate.public_bytes(Encoding.DER)])


@attack("B14", "endorsement.chain.path-length")
def test_a_ca_below_a_ca_that_allows_none_refuses(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """The local CA's intermediate has path length 0."""
    key = ec.generate_private_key(ec.SECP256R1())
    below = ca_certificate(
        "below", key.public_key(), local_ca.intermediate.subject, local_ca.intermediate_key
    )
    leaf = ek_certificate(local_ca, node.ek_key.public_key(), key=key, issuer=below.subject)
    chain = [leaf, below.public_bytes(Encoding.DER), local_ca.intermediate_der]
    with verdict.refuses():
        enrol(node, chain)


@attack("B14", "endorsement.chain.untrusted")
def test_no_root_of_the_client_becomes_trusted(
    node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """A whole chain with its root, of a CA nobody pinned, even under the pinned one's names."""
    impostor = LocalCA.create()
    leaf = impostor.issue_ek_certificate(node.ek_key.public_key())
    root = impostor.root.public_bytes(Encoding.DER)
    with verdict.refuses():
        enrol(node, [leaf, impostor.intermediate_der, root])


def roca_modulus() -> int:
    """Return a modulus of 2048 bits with the residues that the faulty generator leaves."""
    primes = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
    product = 1
    for prime in primes:
        product *= prime
    modulus = pow(65537, 5, product) + product * ((1 << 2047) // product + 1)
    while modulus % 2 == 0 or modulus.bit_length() != 2048:
        modulus += product
    return modulus


@attack("B15", "endorsement.key.roca")
def test_a_key_of_the_faulty_generator_is_refused(
    local_ca: LocalCA, rsa_node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """CVE-2017-15361 shows in the modulus: whoever has the certificate can compute the key."""
    modulus = roca_modulus()
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    leaf = ek_certificate(local_ca, public)
    area = replace(parse_public(rsa_node.ek_public()), unique=modulus.to_bytes(256, "big"))
    with verdict.refuses():
        enrol(
            rsa_node,
            [leaf, local_ca.intermediate_der],
            policy=OF_RSA,
            ek_public=area.marshal(),
        )


@attack("B15", "endorsement.firmware.refused")
@pytest.mark.parametrize(
    "listed", ["STM/ST33TPHF2ESPI/id:0047*", "STM/ST33*/*", "id:53544D20/*/id:00470004"]
)
def test_a_firmware_that_policy_lists_is_refused(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict, listed: str
) -> None:
    """Weaknesses that no key shows are known by vendor, model and version."""
    make = TPMIdentity("id:53544D20", "ST33TPHF2ESPI", "id:00470004")
    leaf = local_ca.issue_ek_certificate(node.ek_key.public_key(), identity=make)
    chain = [leaf, local_ca.intermediate_der]
    verdict.noticed(enrol(node, chain).notes)
    with verdict.refuses():
        enrol(node, chain, policy=POLICY.replace("firmware = []", f'firmware = ["{listed}"]'))


def revocation_list(ca: LocalCA, serial: int) -> bytes:
    """Return a list of the local CA's intermediate that revokes one certificate."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    revoked = (
        x509.RevokedCertificateBuilder()
        .serial_number(serial)
        .revocation_date(now - dt.timedelta(hours=1))
        .build()
    )
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.intermediate.subject)
        .last_update(now - dt.timedelta(hours=1))
        .next_update(now + dt.timedelta(days=30))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(revoked)
        .sign(ca.intermediate_key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER)


@attack("B15", "endorsement.revoked")
def test_a_revoked_endorsement_key_is_refused(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """Where the operator has given its issuer's revocation list."""
    leaf = ek_certificate(local_ca, node.ek_key.public_key())
    serial = x509.load_der_x509_certificate(leaf).serial_number
    roots = [local_ca.intermediate_der, revocation_list(local_ca, serial)]
    with verdict.refuses():
        enrol(node, [leaf, local_ca.intermediate_der], roots=roots)
    verdict.noticed(enrol(node, [leaf, local_ca.intermediate_der]).notes)


@attack("B16", "endorsement.tpm.software")
@pytest.mark.parametrize(
    "make",
    [
        TPMIdentity(),
        TPMIdentity("id:49424D00", "SW   TPM", "id:20170619"),
        TPMIdentity("id:58595A5A", "xCG fTPM", "id:20160511"),
        TPMIdentity("id:494E5443", "swtpm", "id:20191023"),
    ],
    ids=["swtpm", "ibm", "reference", "another-vendors-id"],
)
def test_a_software_tpm_is_refused_unless_policy_names_it(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict, make: TPMIdentity
) -> None:
    """A CA was pinned, and with it came every software TPM that it certifies."""
    leaf = local_ca.issue_ek_certificate(node.ek_key.public_key(), identity=make)
    chain = [leaf, local_ca.intermediate_der]
    with verdict.refuses():
        enrol(node, chain, policy=POLICY.replace(SOFTWARE_NAMED, "unsafe_software_tpm = []"))


@benign("B16", "endorsement.tpm.software")
def test_a_software_tpm_that_policy_names_is_noted(
    node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """The operator said so, and the enrolment's findings say it again."""
    verdict.noticed(enrol(node).notes)


@attack("B16", "endorsement.vendor.not-allowed")
def test_a_tpm_of_a_vendor_that_is_not_on_the_list_is_refused(
    local_ca: LocalCA, node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """Of several pinned roots, only those vendors' TPMs count that policy names."""
    make = TPMIdentity("id:4E544300", "NPCT75x", "id:00070002")
    leaf = local_ca.issue_ek_certificate(node.ek_key.public_key(), identity=make)
    policy = POLICY.replace('vendors = ["any"]', 'vendors = ["STM", "IFX"]')
    with verdict.refuses():
        enrol(node, [leaf, local_ca.intermediate_der], policy=policy)


# -- B17, B21: the endorsement key


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        pytest.param(
            {"clear": TPMAObject.RESTRICTED},
            None,
            marks=attack("B21", "ek.attributes.restricted"),
        ),
        pytest.param(
            {"clear": TPMAObject.DECRYPT}, None, marks=attack("B21", "ek.attributes.decrypt")
        ),
        pytest.param(
            {"set": TPMAObject.SIGN_ENCRYPT}, None, marks=attack("B21", "ek.attributes.sign")
        ),
        pytest.param(
            {"set": TPMAObject.USER_WITH_AUTH},
            None,
            marks=attack("B21", "ek.attributes.user-with-auth"),
        ),
        pytest.param(
            {"clear": TPMAObject.ADMIN_WITH_POLICY},
            None,
            marks=attack("B21", "ek.attributes.admin-with-policy"),
        ),
        pytest.param(
            {"set": TPMAObject.NO_DA}, None, marks=attack("B21", "ek.attributes.unexpected")
        ),
        pytest.param({}, b"", marks=attack("B21", "ek.policy.unknown")),
        pytest.param({}, bytes(32), marks=attack("B21", "ek.policy.unknown")),
        pytest.param(
            {}, POLICY_B[HashAlg.SHA256], marks=attack("B21", "ek.attributes.user-with-auth")
        ),
    ],
)
def test_an_endorsement_key_of_no_known_template_is_not_enrolled(
    new_attacker: NewAttacker,
    verdict: Verdict,
    changes: dict[str, TPMAObject],
    policy: bytes | None,
) -> None:
    """Its certificate covers the key alone: the rest must be a template's, whole."""
    client = new_attacker(enrolled=False)
    area = parse_public(client.device.ek_public())
    attributes = area.object_attributes | changes.get("set", TPMAObject(0))
    attributes &= ~changes.get("clear", TPMAObject(0))
    altered = replace(
        area,
        object_attributes=attributes,
        auth_policy=area.auth_policy if policy is None else policy,
    )
    verdict.refused(client.request_enrolment(ek_public=altered.marshal()))


@attack("B17", "ek.rsa.size")
def test_a_short_endorsement_key_is_not_enrolled(
    rsa_node: ForgingNode, enrol: Enrol, verdict: Verdict
) -> None:
    """1024 bits can be factored."""
    area = parse_public(rsa_node.ek_public())
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505  too short on purpose
    modulus = short.public_key().public_numbers().n.to_bytes(128, "big")
    assert isinstance(area.parameters, TPMSRSAParms)
    parameters = replace(area.parameters, key_bits=1024)
    altered = replace(area, parameters=parameters, unique=modulus)
    with verdict.refuses():
        enrol(rsa_node, policy=OF_RSA, ek_public=altered.marshal())
