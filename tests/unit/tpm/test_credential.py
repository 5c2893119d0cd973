"""MakeCredential and its inverse agree, and only for the right key and name."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import HashAlg
from bootlease.tpm import (
    Credential,
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSymDefObject,
    accept_endorsement_key,
    activate_credential,
    ecc_public,
    make_credential,
    rsa_public,
)
from bootlease.tpm.credential import kdfa, kdfe
from bootlease.tpm.endorsement_key import POLICY_A, POLICY_B

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

LOW: Final = (
    TPMAObject.FIXED_TPM
    | TPMAObject.FIXED_PARENT
    | TPMAObject.SENSITIVE_DATA_ORIGIN
    | TPMAObject.ADMIN_WITH_POLICY
    | TPMAObject.RESTRICTED
    | TPMAObject.DECRYPT
)
NAME: Final = b"\x00\x0b" + bytes(range(32))
RSA: Final = rsa.generate_private_key(65537, 2048)
P256: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())


def rsa_ek() -> TPMTPublic:
    """Make an EK of template L-1."""
    return rsa_public(
        RSA.public_key().public_numbers().n,
        attributes=LOW,
        scheme=TPMTAsymScheme(),
        auth_policy=POLICY_A[HashAlg.SHA256],
        symmetric=TPMTSymDefObject(TPMAlg.AES, 128, TPMAlg.CFB),
    )


def ecc_ek(private: ec.EllipticCurvePrivateKey, alg: HashAlg, bits: int) -> TPMTPublic:
    """Make an EK of templates L-2 (P-256) and H-3 (P-384)."""
    numbers = private.public_key().public_numbers()
    small = private.curve.key_size == 256
    return ecc_public(
        numbers.x,
        numbers.y,
        TPMECCCurve.NIST_P256 if small else TPMECCCurve.NIST_P384,
        attributes=LOW if small else LOW | TPMAObject.USER_WITH_AUTH,
        scheme=TPMTAsymScheme(),
        name_alg=alg,
        auth_policy=(POLICY_A if small else POLICY_B)[alg],
        symmetric=TPMTSymDefObject(TPMAlg.AES, bits, TPMAlg.CFB),
    )


KEYS: Final[dict[str, tuple[Private, TPMTPublic]]] = {
    "rsa": (RSA, rsa_ek()),
    "p256": (P256, ecc_ek(P256, HashAlg.SHA256, 128)),
    "p384": (P384, ecc_ek(P384, HashAlg.SHA384, 256)),
}


def make(ek: TPMTPublic, name: bytes, secret: bytes, seed: bytes = bytes(32)) -> Credential:
    """Make a credential with whatever randomness the EK needs."""
    accepted = accept_endorsement_key(ek)
    if isinstance(accepted.key, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(accepted.key.curve)
        return make_credential(accepted, name, secret, ephemeral=ephemeral)
    return make_credential(accepted, name, secret, seed=seed)


@pytest.mark.parametrize("kind", KEYS)
@settings(max_examples=15)
@given(
    name=st.binary(min_size=1, max_size=66),
    secret=st.binary(min_size=1, max_size=32),
    seed=st.binary(min_size=32, max_size=32),
)
def test_what_was_made_is_what_is_activated(
    kind: str, name: bytes, secret: bytes, seed: bytes
) -> None:
    """The secret comes out again with the same EK and name, whatever they are."""
    private, ek = KEYS[kind]
    assert activate_credential(private, ek, name, make(ek, name, secret, seed)) == secret


@pytest.mark.parametrize("kind", KEYS)
def test_a_credential_for_another_name_is_refused(kind: str) -> None:
    """A credential activates for no other object than the one named (B4)."""
    private, ek = KEYS[kind]
    credential = make(ek, NAME, b"secret")
    with pytest.raises(VerificationError) as caught:
        activate_credential(private, ek, NAME[:-1] + b"\xff", credential)
    assert [finding.id for finding in caught.value.findings] == ["credential.integrity"]


@pytest.mark.parametrize("kind", KEYS)
def test_a_credential_for_another_ek_is_refused(kind: str) -> None:
    """Another EK of the same form cannot open the credential."""
    private, ek = KEYS[kind]
    credential = make(ek, NAME, b"secret")
    other: Private
    if isinstance(private, rsa.RSAPrivateKey):
        other = rsa.generate_private_key(65537, 2048)
    else:
        other = ec.generate_private_key(private.curve)
    with pytest.raises(VerificationError):
        activate_credential(other, ek, NAME, credential)


@pytest.mark.parametrize("kind", KEYS)
def test_every_flipped_byte_of_the_blob_is_noticed(kind: str) -> None:
    """Integrity covers the whole encrypted identity."""
    private, ek = KEYS[kind]
    credential = make(ek, NAME, b"secret")
    for index in range(4, len(credential.id_object), 7):
        blob = bytearray(credential.id_object)
        blob[index] ^= 1
        with pytest.raises(VerificationError):
            activate_credential(private, ek, NAME, replace(credential, id_object=bytes(blob)))


@pytest.mark.parametrize("part", ["id_object", "encrypted_secret"])
def test_a_cut_credential_is_malformed(part: str) -> None:
    """Lengths that run past the end are malformed, not an exception of some other kind."""
    private, ek = KEYS["p256"]
    credential = make(ek, NAME, b"secret")
    whole = getattr(credential, part)
    for data in (whole[:-1], whole + b"\0", b""):
        with pytest.raises(MalformedError):
            activate_credential(private, ek, NAME, replace(credential, **{part: data}))


def test_an_ek_that_is_not_acceptable_gets_no_credential() -> None:
    """A public area straight from a peer is accepted first (B21)."""
    public = replace(rsa_ek(), auth_policy=b"")
    with pytest.raises(VerificationError):
        make_credential(public, NAME, b"secret", seed=bytes(32))


@pytest.mark.parametrize("secret", [b"", bytes(33)])
def test_a_secret_of_the_wrong_length_is_misuse(secret: bytes) -> None:
    """A TPM takes at most as much as a digest of the EK's nameAlg."""
    with pytest.raises(ValueError, match="secret"):
        make_credential(rsa_ek(), NAME, secret, seed=bytes(32))


def test_missing_randomness_is_misuse() -> None:
    """Nothing falls back on a default seed."""
    for seed in (None, bytes(31)):
        with pytest.raises(ValueError, match="seed"):
            make_credential(rsa_ek(), NAME, b"secret", seed=seed)
    for ephemeral in (None, P384):
        with pytest.raises(ValueError, match="ephemeral"):
            make_credential(KEYS["p256"][1], NAME, b"secret", seed=bytes(32), ephemeral=ephemeral)


def test_key_derivation_spans_several_blocks() -> None:
    """More bits than one hash gives continue with the next counter, the prefix unchanged."""
    for derive in (kdfa, kdfe):
        short = derive(HashAlg.SHA256, b"key", b"LABEL\0", b"context", 256)
        long = derive(HashAlg.SHA256, b"key", b"LABEL\0", b"context", 512)
        assert len(long) == 64
        # KDFa hashes the number of bits, KDFe does not.
        assert (long[:32] == short) is (derive is kdfe)
