"""Rules that hold for every key or statement are told by the name of the one that breaks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bootlease.errors import VerificationError
from bootlease.model import ClockInfo, HashAlg
from bootlease.tpm import (
    TPM_GENERATED,
    TPMRH,
    TPMST,
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSECCPoint,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSignature,
    TPMTSymDefObject,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    ecc_public,
    rsa_public,
    verify_certification,
)
from bootlease.tpm.endorsement_key import POLICY_B

RESIDENT: Final = TPMAObject.FIXED_TPM | TPMAObject.FIXED_PARENT | TPMAObject.SENSITIVE_DATA_ORIGIN
SIGNING: Final = RESIDENT | TPMAObject.SIGN_ENCRYPT | TPMAObject.USER_WITH_AUTH
PRIVATE: Final = ec.generate_private_key(ec.SECP256R1())
POINT: Final = PRIVATE.public_key().public_numbers()
POINT384: Final = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
MODULUS: Final = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
SHORT: Final = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n  # noqa: S505 - to be refused
ECDSA: Final = TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA256)
RSASSA: Final = TPMTAsymScheme(TPMAlg.RSASSA, HashAlg.SHA256)

BOUND: Final = ecc_public(POINT.x, POINT.y, TPMECCCurve.NIST_P256, attributes=SIGNING, scheme=ECDSA)
BOUND_RSA: Final = rsa_public(MODULUS, attributes=SIGNING, scheme=RSASSA)
EK: Final = ecc_public(
    POINT384.x,
    POINT384.y,
    TPMECCCurve.NIST_P384,
    attributes=RESIDENT
    | TPMAObject.RESTRICTED
    | TPMAObject.DECRYPT
    | TPMAObject.ADMIN_WITH_POLICY
    | TPMAObject.USER_WITH_AUTH,
    scheme=TPMTAsymScheme(),
    name_alg=HashAlg.SHA384,
    auth_policy=POLICY_B[HashAlg.SHA384],
    symmetric=TPMTSymDefObject(TPMAlg.AES, 256, TPMAlg.CFB),
)


def with_parameters(public: TPMTPublic, **changes: object) -> TPMTPublic:
    """Change the parameters."""
    old = public.parameters
    fields = {name: getattr(old, name) for name in old.__slots__}
    return replace(public, parameters=type(old)(**{**fields, **changes}))


def refused(accept: Callable[[], object]) -> list[str]:
    """Return why something is refused."""
    with pytest.raises(VerificationError) as caught:
        accept()
    return [finding.id for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("finding", "public"),
    [
        ("bound-key.name-alg.weak", replace(BOUND, name_alg=HashAlg.SHA1)),
        ("bound-key.rsa.exponent", with_parameters(BOUND_RSA, exponent=3)),
        ("bound-key.rsa.size", rsa_public(SHORT, attributes=SIGNING, scheme=RSASSA)),
        ("bound-key.key.invalid", replace(BOUND, unique=TPMSECCPoint(b"\1" * 32, b"\1" * 32))),
        ("bound-key.key.invalid", replace(BOUND_RSA, unique=b"\1" * 256)),
    ],
)
def test_a_weak_bound_key_is_refused(finding: str, public: TPMTPublic) -> None:
    """A confirmation key is held to the strength of an attestation key."""
    assert refused(lambda: accept_bound_key(public)) == [finding]


def test_good_keys_are_accepted() -> None:
    """What the other tests bend is sound."""
    assert accept_bound_key(BOUND_RSA).name
    assert accept_endorsement_key(EK).name


def test_a_weak_ek_is_refused() -> None:
    """An EK is no better for being an EK."""
    curve = with_parameters(EK, curve=TPMECCCurve.BN_P256)
    assert "ek.curve.unsupported" in refused(lambda: accept_endorsement_key(curve))
    weak = replace(EK, name_alg=HashAlg.SHA1)
    assert "ek.name-alg.weak" in refused(lambda: accept_endorsement_key(weak))


def certified(signature: TPMTSignature | None = None, **changes: object) -> object:
    """Verify the statement that BOUND is loaded, with another signature or a bent one."""
    public = ecc_public(
        POINT.x,
        POINT.y,
        TPMECCCurve.NIST_P256,
        attributes=SIGNING | TPMAObject.RESTRICTED,
        scheme=ECDSA,
    )
    attest = TPMSAttest(
        TPM_GENERATED,
        TPMST.ATTEST_CERTIFY,
        public.qualified_name(TPMRH.ENDORSEMENT),
        b"nonce",
        ClockInfo(1, 1, 1, safe=True),
        1,
        TPMSCertifyInfo(BOUND.name, BOUND.qualified_name(TPMRH.OWNER)),
    ).marshal()
    r, s = decode_dss_signature(PRIVATE.sign(attest, ec.ECDSA(hashes.SHA256())))
    body = TPMSSignatureECC(HashAlg.SHA256, r.to_bytes(32, "big"), s.to_bytes(32, "big"))
    made = signature or TPMTSignature(TPMAlg.ECDSA, body._replace(**changes))  # type: ignore[arg-type]
    key = accept_attestation_key(public)
    return verify_certification(attest, made.marshal(), key, b"nonce", BOUND)


def test_a_certification_is_held_to_the_rules_of_a_signature() -> None:
    """Scheme, hash and range are checked of it as they are of a quote."""
    assert certified()
    foreign = TPMTSignature(TPMAlg.RSASSA, TPMSSignatureRSA(HashAlg.SHA256, bytes(256)))
    schnorr = TPMTSignature(TPMAlg.HMAC, bytes(HashAlg.SHA256.to_bytes(2, "big")) + bytes(32))
    assert refused(lambda: certified(r=bytes(32))) == ["certify.signature.range"]
    assert refused(lambda: certified(hash_alg=HashAlg.SHA384)) == [
        "certify.signature.hash-mismatch"
    ]
    assert refused(lambda: certified(foreign)) == ["certify.signature.scheme-mismatch"]
    assert refused(lambda: certified(schnorr)) == ["certify.signature.scheme-refused"]
