"""Policies and permits without a TPM; ``tests/integration/test_expiring_keys`` asks a TPM."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss.constants import TPM2_ALG
from tpm2_pytss.types import TPM2B_PUBLIC, TPMT_PUBLIC

from bootlease.errors import VerificationError
from bootlease.model import HashAlg
from bootlease.node.tpm.signing_templates import expiring_key_template, signing_key_template
from bootlease.tpm import TPMAObject, TPMSECCPoint, TPMTPublic, parse_public, parse_signature
from bootlease.tpm.policy import (
    MAX_SECONDS,
    accept_expiring_key,
    permit_message,
    permit_signature,
    signed_policy,
    signing_authority,
    with_policy,
)

POLICY = hashlib.sha256(b"policy").digest()
REF = hashlib.sha256(b"ref").digest()
NONCE = bytes(range(16))


def made(template: TPMTPublic) -> TPMTPublic:
    """Return what a TPM makes of a template."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    point = TPMSECCPoint(numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    return dataclasses.replace(template, unique=point)


def findings(public: TPMTPublic, policy: bytes = POLICY) -> set[str]:
    """Return what is wrong with a key."""
    with pytest.raises(VerificationError) as refused:
        accept_expiring_key(public, policy)
    return {each.id for each in refused.value.findings}


def test_the_authority_s_name_is_what_the_tss_computes() -> None:
    """The TSS names the public area as we do."""
    public = signing_authority(ec.generate_private_key(ec.SECP256R1()).public_key())
    area, _ = TPMT_PUBLIC.unmarshal(public.marshal())
    assert bytes(TPM2B_PUBLIC(publicArea=area).get_name()) == public.name
    assert area.nameAlg == TPM2_ALG.SHA256
    assert parse_public(public.marshal()).marshal() == public.marshal()


def test_an_authority_is_on_p256() -> None:
    """TPMs need not verify with another curve."""
    with pytest.raises(ValueError, match="P-256"):
        signing_authority(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_the_policy_is_over_authority_and_policy_ref() -> None:
    """Part 3 §23.2.4: two steps of extending, the command's code in the first."""
    inner = hashlib.sha256(bytes(32) + bytes.fromhex("00000160") + b"name").digest()
    assert signed_policy(b"name", REF) == hashlib.sha256(inner + REF).digest()


def test_a_permit_is_negative_and_of_fixed_parts() -> None:
    """What is signed is nonce, negative seconds and policyRef, and cannot be cut otherwise."""
    assert permit_message(NONCE, 1, REF) == NONCE + b"\xff\xff\xff\xff" + REF
    assert permit_message(NONCE, MAX_SECONDS, REF)[16:20] == b"\x80\x00\x00\x01"


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1])
def test_a_permit_without_end_cannot_be_made(seconds: int) -> None:
    """An expiration of 0 would never come; one that is positive gives no ticket."""
    with pytest.raises(ValueError, match="1 second"):
        permit_message(NONCE, seconds, REF)


@pytest.mark.parametrize(("nonce", "ref"), [(bytes(32), REF), (b"", REF), (NONCE, b"")])
def test_a_permit_of_other_sizes_cannot_be_made(nonce: bytes, ref: bytes) -> None:
    """With 32 bytes of nonce, a TPM could be shown no nonce, another end and a cpHashA."""
    with pytest.raises(ValueError, match="16 and 32"):
        permit_message(nonce, 60, ref)


def test_a_signature_is_marshalled_whole() -> None:
    """A number with leading zeros keeps them."""
    signature = permit_signature(bytes(64))
    assert parse_signature(signature.marshal()) == signature
    with pytest.raises(ValueError, match="64"):
        permit_signature(bytes(63))


def test_an_expiring_key_is_accepted_under_its_policy_alone() -> None:
    """The key as the agent makes it is accepted, and under another policy refused."""
    public = made(expiring_key_template(b"", POLICY))
    assert accept_expiring_key(public, POLICY).public == public
    assert findings(public, hashlib.sha256(b"other").digest()) == {"expiring-key.policy.mismatch"}


def test_a_key_that_a_password_opens_is_refused() -> None:
    """An empty password beside the policy would make the policy worthless."""
    public = made(expiring_key_template(b"", POLICY))
    attributes = TPMAObject(int(public.object_attributes) | TPMAObject.USER_WITH_AUTH)
    open_to_all = dataclasses.replace(public, object_attributes=attributes)
    assert findings(open_to_all) == {"expiring-key.attributes.user-with-auth"}


def test_a_plain_key_is_refused_for_all_that_it_lacks() -> None:
    """A key of the other kind has a password and no policy."""
    assert findings(made(signing_key_template(b""))) == {
        "expiring-key.attributes.user-with-auth",
        "expiring-key.policy.mismatch",
    }


def test_a_policy_under_another_hash_is_refused() -> None:
    """The same bytes under SHA-384 would be another policy, which nobody could satisfy."""
    public = made(expiring_key_template(b"", POLICY))
    other = dataclasses.replace(public, name_alg=HashAlg.SHA384)
    assert findings(other) == {"expiring-key.policy.mismatch"}


def test_a_key_that_can_be_copied_is_refused_too() -> None:
    """What every confirmation key in a TPM must be, an expiring one must be as well."""
    public = made(with_policy(signing_key_template(b""), POLICY))
    attributes = TPMAObject(int(public.object_attributes) & ~TPMAObject.FIXED_TPM)
    found = findings(dataclasses.replace(public, object_attributes=attributes))
    assert found == {"bound-key.attributes.fixed-tpm"}
