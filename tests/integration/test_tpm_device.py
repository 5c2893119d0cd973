"""The TPM device against swtpm: enrolment, quotes, confirmation keys, errors."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence.verify import CERTIFY_LABEL
from bootlease.model import HashAlg
from bootlease.node.tpm.device import ESAPIDevice
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.ports import TPMDevice
from bootlease.testing.manufacture import define_ek_index, remove_ek_certificate
from bootlease.testing.swtpm import SoftwareTPM, SoftwareTPMState, swtpm_process
from bootlease.tpm import (
    Credential,
    EndorsementKey,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    make_credential,
    parse_attest,
    parse_public,
    parse_signature,
    verify_certification,
)

pytestmark = pytest.mark.swtpm

QUOTED = {HashAlg.SHA1: [0, 7], HashAlg.SHA256: list(range(24)), HashAlg.SHA384: [23]}


def credential_for(ek: EndorsementKey, name: bytes) -> Credential:
    """Wrap a secret for an EK and the object ``name``."""
    if isinstance(ek.key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(ek.key.curve)
        return make_credential(ek, name, b"secret", ephemeral=ephemeral)
    return make_credential(ek, name, b"secret", seed=os.urandom(32))


@pytest.mark.parametrize("ek_algorithm", list(EKAlgorithm), ids=lambda item: item.value)
@pytest.mark.parametrize("ak_algorithm", list(AKAlgorithm), ids=lambda item: item.value)
def test_enrolment_and_quote_with_every_key_kind(
    swtpm: SoftwareTPM, ek_algorithm: EKAlgorithm, ak_algorithm: AKAlgorithm
) -> None:
    """Credential activation, quote and certification work and verify for each EK and AK."""
    with ESAPIDevice(
        swtpm.tcti, ek_algorithm=ek_algorithm, ak_algorithm=ak_algorithm
    ) as esapi_device:
        device: TPMDevice = esapi_device
        ek = accept_endorsement_key(parse_public(device.ek_public()))
        ak = accept_attestation_key(parse_public(device.ak_public()))
        credential = credential_for(ek, ak.name)
        secret = device.activate_credential(credential.id_object, credential.encrypted_secret)
        assert secret == b"secret"
        quoted = device.quote(b"nonce", QUOTED)
        attest = parse_attest(quoted.attest)
        assert attest.extra_data == b"nonce"
        assert attest.qualified_signer == ak.qualified_name
        signature = parse_signature(quoted.signature)
        assert ak.verification.check(signature, quoted.attest, "quote") == ()
        assert {bank: list(values) for bank, values in quoted.pcrs.items()} == QUOTED
        key = device.bound_key()
        certified = key.certification
        public = parse_public(certified.public)
        verify_certification(certified.attest, certified.signature, ak, CERTIFY_LABEL, public)
        bound = accept_bound_key(public)
        raw = key.sign(b"data")
        assert isinstance(bound.key, ec.EllipticCurvePublicKey)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        bound.key.verify(der, b"data", ec.ECDSA(hashes.SHA256()))


def test_credential_for_another_key_is_refused(swtpm: SoftwareTPM) -> None:
    """The TPM opens no credential that was made for a key it is not asked with."""
    with ESAPIDevice(swtpm.tcti) as device:
        ek = accept_endorsement_key(parse_public(device.ek_public()))
        device.ak_public()
        credential = credential_for(ek, b"\0\x0b" + hashlib.sha256(b"other").digest())
        with pytest.raises(TransportError, match="TPM2_ActivateCredential failed"):
            device.activate_credential(credential.id_object, credential.encrypted_secret)
        with pytest.raises(MalformedError):
            device.activate_credential(b"\xff\xff", credential.encrypted_secret)
        with pytest.raises(MalformedError, match="behind its end"):
            device.activate_credential(credential.id_object + b"\0", credential.encrypted_secret)


def test_ak_survives_process_and_reboot(swtpm: SoftwareTPM) -> None:
    """A later run finds the same AK by handle, and by name."""
    with ESAPIDevice(swtpm.tcti) as device:
        public = device.ak_public()
        handle = device.ak_handle
    swtpm.reboot()
    assert handle is not None
    with ESAPIDevice(swtpm.tcti, ak_handle=handle) as device:
        assert device.ak_public() == public
    with ESAPIDevice(swtpm.tcti) as device:
        assert device.load_ak(parse_public(public).name) == public
        assert device.ak_handle == handle


def test_each_ak_is_new_and_has_its_own_handle(swtpm: SoftwareTPM) -> None:
    """Making an AK twice gives two keys; a removed one frees its handle."""
    with ESAPIDevice(swtpm.tcti) as device:
        first, first_handle = device.create_ak(), device.ak_handle
        second, second_handle = device.create_ak(), device.ak_handle
        assert first != second
        assert first_handle != second_handle
        device.remove_ak()
        assert device.ak_handle is None
        with pytest.raises(RuntimeError, match="no attestation key"):
            device.remove_ak()
        device.create_ak()
        assert device.ak_handle == second_handle


def test_missing_ak_is_a_clear_error(swtpm: SoftwareTPM) -> None:
    """An AK that this TPM does not hold is named, by handle or by name."""
    with pytest.raises(TransportError, match="no attestation key at 0x81018000"):
        ESAPIDevice(swtpm.tcti, ak_handle=0x81018000)
    with ESAPIDevice(swtpm.tcti) as device, pytest.raises(TransportError, match="named 0b"):
        device.load_ak(b"\x0b")


def test_ak_swapped_under_our_feet_is_noticed(swtpm: SoftwareTPM) -> None:
    """Another key at the AK's handle is never used in its place."""
    with ESAPIDevice(swtpm.tcti) as device, ESAPIDevice(swtpm.tcti) as other:
        device.create_ak()
        assert device.ak_handle is not None
        other.load_ak(device.ak_handle)
        other.remove_ak()
        other.create_ak()
        with pytest.raises(TransportError, match="another key"):
            device.quote(b"n", {HashAlg.SHA256: [0]})


def test_quote_agrees_while_pcrs_change(swtpm: SoftwareTPM) -> None:
    """PCR values and quote belong together though somebody else extends all the time."""
    stop = threading.Event()

    def extend() -> None:
        with ESAPIDevice(swtpm.tcti) as other:
            for _ in range(200):
                other.pcr_extend(10, {HashAlg.SHA256: os.urandom(32)})
                if stop.wait(0.01):
                    return

    with ESAPIDevice(swtpm.tcti) as device:
        device.ak_public()
        thread = threading.Thread(target=extend)
        thread.start()
        try:
            for _ in range(20):
                quoted = device.quote(b"n", {HashAlg.SHA256: [10]})
                info = parse_attest(quoted.attest).attested
                value = quoted.pcrs[HashAlg.SHA256][10]
                assert getattr(info, "pcr_digest", b"") == hashlib.sha256(value).digest()
        finally:
            stop.set()
            thread.join()


def test_quote_of_an_idle_bank_is_refused(swtpm: SoftwareTPM) -> None:
    """A bank that is not active is named."""
    with ESAPIDevice(swtpm.tcti) as device, pytest.raises(TransportError, match="sha512"):
        device.quote(b"n", {HashAlg.SHA512: [0]})


def test_nonce_of_the_maker_makes_another_ek(swtpm: SoftwareTPM) -> None:
    """A nonce in NV memory goes into the template, as the EK profile says."""
    with ESAPIDevice(swtpm.tcti, ek_algorithm=EKAlgorithm.ECC_P256) as device:
        plain = device.ek_public()
        define_ek_index(device, 0x01C0000B, b"nonce of the maker")
        seasoned = device.ek_public()
        assert seasoned != plain
        accept_endorsement_key(parse_public(seasoned))
        define_ek_index(device, 0x01C0000C, b"no template")
        with pytest.raises(TransportError, match="EK template at 0x01c0000c cannot be read"):
            device.ek_public()


def test_bound_key_dies_with_a_reset(swtpm: SoftwareTPM) -> None:
    """After a reboot the confirmation key of the boot before signs nothing."""
    with ESAPIDevice(swtpm.tcti) as device:
        key = device.bound_key()
        swtpm.reboot()
        with pytest.raises(TransportError, match="TPM2_ContextLoad failed"):
            key.sign(b"data")


def test_idle_keys_take_no_slots(swtpm: SoftwareTPM) -> None:
    """Any number of confirmation keys may wait, though a TPM has three object slots."""
    with ESAPIDevice(swtpm.tcti) as device:
        keys = [device.bound_key() for _ in range(8)]
        assert len({key.certification.public for key in keys}) == len(keys)
        assert all(len(key.sign(b"data")) == 64 for key in keys)


def test_ek_without_certificate_is_still_an_ek(
    software_tpm_state: SoftwareTPMState, tmp_path: Path
) -> None:
    """A TPM that lost its certificates has the key that the template makes."""
    with swtpm_process(software_tpm_state.clone(tmp_path / "state")) as tpm:
        with ESAPIDevice(tpm.tcti, ek_algorithm=EKAlgorithm.RSA_2048) as device:
            certified = device.ek_public()
        remove_ek_certificate(tpm, EKAlgorithm.RSA_2048)
        with ESAPIDevice(tpm.tcti, ek_algorithm=EKAlgorithm.RSA_2048) as device:
            assert device.ek_chain() == []
            assert device.ek_public() == certified


@pytest.mark.parametrize(
    ("tcti", "message"),
    [
        ("device:/dev/no-such-tpm", "no TPM at /dev/no-such-tpm"),
        ("swtpm:path=/no/such/socket", "no TPM at /no/such/socket"),
        ("nonsense:x", "cannot reach a TPM through TCTI 'nonsense:x'"),
        ("device:/dev/null", "cannot reach a TPM through TCTI 'device:/dev/null'"),
    ],
)
def test_unreachable_tpm_is_one_clear_line(
    tcti: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said in the error, and nothing is written past it."""
    with pytest.raises(TransportError, match=message) as caught:
        ESAPIDevice(tcti)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_closed_tpm_is_a_transport_error(
    software_tpm_state: SoftwareTPMState, tmp_path: Path
) -> None:
    """A TPM that goes away in the midst of work is an error of the world."""
    with swtpm_process(software_tpm_state.clone(tmp_path / "state")) as tpm:
        device = ESAPIDevice(tpm.tcti)
    with device, pytest.raises(TransportError, match="TPM2_ReadClock failed"):
        device.read_clock()
