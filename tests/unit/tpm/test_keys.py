"""Which public areas are accepted for which role, each wrong in exactly one way."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence.enrolment import node_id
from bootlease.model import HashAlg
from bootlease.tpm import (
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMSECCPoint,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSymDefObject,
    VerificationKey,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    ecc_public,
    parse_public,
    rsa_public,
)
from bootlease.tpm.endorsement_key import POLICY_A, POLICY_B

if TYPE_CHECKING:
    from collections.abc import Callable

RESIDENT: Final = TPMAObject.FIXED_TPM | TPMAObject.FIXED_PARENT | TPMAObject.SENSITIVE_DATA_ORIGIN
SIGNING: Final = RESIDENT | TPMAObject.SIGN_ENCRYPT | TPMAObject.USER_WITH_AUTH
EK_ATTRIBUTES: Final = (
    RESIDENT | TPMAObject.RESTRICTED | TPMAObject.DECRYPT | TPMAObject.ADMIN_WITH_POLICY
)
POINT: Final = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
POINT384: Final = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
POINT521: Final = ec.generate_private_key(ec.SECP521R1()).public_key().public_numbers()
MODULUS: Final = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
WEAK_KEY: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
ECDSA256: Final = TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA256)

AK: Final = ecc_public(
    POINT.x,
    POINT.y,
    TPMECCCurve.NIST_P256,
    attributes=SIGNING | TPMAObject.RESTRICTED,
    scheme=ECDSA256,
)
AK_RSA: Final = rsa_public(
    MODULUS,
    attributes=SIGNING | TPMAObject.RESTRICTED,
    scheme=TPMTAsymScheme(TPMAlg.RSASSA, HashAlg.SHA256),
)
BOUND: Final = ecc_public(
    POINT.x, POINT.y, TPMECCCurve.NIST_P256, attributes=SIGNING, scheme=ECDSA256
)
AES128: Final = TPMTSymDefObject(TPMAlg.AES, 128, TPMAlg.CFB)
AES256: Final = TPMTSymDefObject(TPMAlg.AES, 256, TPMAlg.CFB)
EK: Final = rsa_public(
    MODULUS,
    attributes=EK_ATTRIBUTES,
    scheme=TPMTAsymScheme(),
    auth_policy=POLICY_A[HashAlg.SHA256],
    symmetric=AES128,
)
EK_HIGH: Final = ecc_public(
    POINT384.x,
    POINT384.y,
    TPMECCCurve.NIST_P384,
    attributes=EK_ATTRIBUTES | TPMAObject.USER_WITH_AUTH,
    scheme=TPMTAsymScheme(),
    name_alg=HashAlg.SHA384,
    auth_policy=POLICY_B[HashAlg.SHA384],
    symmetric=AES256,
)
EK_521: Final = ecc_public(
    POINT521.x,
    POINT521.y,
    TPMECCCurve.NIST_P521,
    attributes=EK_ATTRIBUTES | TPMAObject.USER_WITH_AUTH,
    scheme=TPMTAsymScheme(),
    name_alg=HashAlg.SHA512,
    auth_policy=POLICY_B[HashAlg.SHA512],
    symmetric=AES256,
)


EK_RSA_HIGH: Final = replace(
    EK,
    object_attributes=EK_ATTRIBUTES | TPMAObject.USER_WITH_AUTH,
    auth_policy=POLICY_B[HashAlg.SHA256],
)


def refused(accept: Callable[[TPMTPublic], object], public: TPMTPublic) -> list[str]:
    """Return why a public area is refused."""
    with pytest.raises(VerificationError) as caught:
        accept(public)
    return [finding.id for finding in caught.value.findings]


def flip(public: TPMTPublic, flag: TPMAObject) -> TPMTPublic:
    """Flip one attribute."""
    return replace(public, object_attributes=public.object_attributes ^ flag)


def with_parameters(public: TPMTPublic, **changes: object) -> TPMTPublic:
    """Change the parameters."""
    old = public.parameters
    fields = {name: getattr(old, name) for name in old.__slots__}
    return replace(public, parameters=type(old)(**{**fields, **changes}))


@pytest.mark.parametrize("public", [AK, AK_RSA], ids=["ecc", "rsa"])
def test_a_good_attestation_key_is_accepted(public: TPMTPublic) -> None:
    """An accepted key carries its recomputed name and qualified name."""
    key = accept_attestation_key(public)
    digest = hashlib.sha256(public.marshal()).digest()
    assert key.name == b"\x00\x0b" + digest
    above = struct.pack(">I", 0x4000000B)
    assert key.qualified_name == b"\x00\x0b" + hashlib.sha256(above + key.name).digest()


ATTRIBUTES: Final = {
    "ak.attributes.fixed-tpm": TPMAObject.FIXED_TPM,
    "ak.attributes.fixed-parent": TPMAObject.FIXED_PARENT,
    "ak.attributes.sensitive-data-origin": TPMAObject.SENSITIVE_DATA_ORIGIN,
    "ak.attributes.restricted": TPMAObject.RESTRICTED,
    "ak.attributes.sign": TPMAObject.SIGN_ENCRYPT,
    "ak.attributes.x509-sign": TPMAObject.X509_SIGN,
    "ak.attributes.decrypt": TPMAObject.DECRYPT,
    "ak.attributes.st-clear": TPMAObject.ST_CLEAR,
}


@pytest.mark.parametrize(("finding", "flag"), ATTRIBUTES.items())
def test_an_attestation_key_with_one_wrong_attribute_is_refused(
    finding: str, flag: TPMAObject
) -> None:
    """Each attribute that an attestation key must or must not have counts (B1, B2, B3)."""
    assert refused(accept_attestation_key, flip(AK, flag)) == [finding]


WEAK: Final[dict[str, tuple[str, TPMTPublic]]] = {
    "nameAlg SHA-1 (B20)": ("ak.name-alg.weak", replace(AK, name_alg=HashAlg.SHA1)),
    "nameAlg unknown": ("ak.name-alg.weak", replace(AK, name_alg=0x7777)),
    "no scheme": ("ak.scheme.missing", with_parameters(AK, scheme=TPMTAsymScheme())),
    "ECSCHNORR": (
        "ak.scheme.unsupported",
        with_parameters(AK, scheme=TPMTAsymScheme(TPMAlg.ECSCHNORR, HashAlg.SHA256)),
    ),
    "RSASSA on a curve": (
        "ak.scheme.unsupported",
        with_parameters(AK, scheme=TPMTAsymScheme(TPMAlg.RSASSA, HashAlg.SHA256)),
    ),
    "scheme over SHA-1": (
        "ak.scheme.hash",
        with_parameters(AK, scheme=TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA1)),
    ),
    "curve BN-P256 (B17)": (
        "ak.curve.unsupported",
        with_parameters(AK, curve=TPMECCCurve.BN_P256),
    ),
    "curve P-521 for an AK": (
        "ak.curve.unsupported",
        replace(
            with_parameters(AK, curve=TPMECCCurve.NIST_P521),
            unique=EK_521.unique,
        ),
    ),
    "point off the curve": (
        "ak.key.invalid",
        replace(AK, unique=TPMSECCPoint(bytes(31) + b"\1", bytes(31) + b"\1")),
    ),
    "point of a template": ("ak.key.invalid", replace(AK, unique=TPMSECCPoint(b"", b""))),
    "coordinate too long": (
        "ak.key.invalid",
        replace(AK, unique=TPMSECCPoint(bytes(40), bytes(40))),
    ),
    "exponent 3 (B17)": ("ak.rsa.exponent", with_parameters(AK_RSA, exponent=3)),
    "modulus shorter than keyBits": ("ak.key.invalid", replace(AK_RSA, unique=b"\x01" * 256)),
    "modulus of a template": ("ak.key.invalid", replace(AK_RSA, unique=b"")),
    "RSA 1024 (B17)": (
        "ak.rsa.size",
        rsa_public(
            WEAK_KEY.public_key().public_numbers().n,
            attributes=AK.object_attributes,
            scheme=TPMTAsymScheme(TPMAlg.RSASSA, HashAlg.SHA256),
        ),
    ),
}


@pytest.mark.parametrize(("finding", "public"), WEAK.values(), ids=WEAK)
def test_a_weak_or_unusable_attestation_key_is_refused(finding: str, public: TPMTPublic) -> None:
    """A key that cannot verify anything is refused, never skipped."""
    assert refused(accept_attestation_key, public) == [finding]


def test_all_faults_of_a_key_are_told_at_once() -> None:
    """Findings about attributes, strength and scheme come together."""
    public = with_parameters(flip(AK, TPMAObject.FIXED_TPM), scheme=TPMTAsymScheme(), curve=0x10)
    assert refused(accept_attestation_key, public) == [
        "ak.attributes.fixed-tpm",
        "ak.curve.unsupported",
        "ak.scheme.missing",
    ]


def test_exponent_zero_means_65537() -> None:
    """TPMs write 0 for the usual exponent (B19)."""
    assert with_parameters(AK_RSA, exponent=0) == AK_RSA
    key = accept_attestation_key(AK_RSA).verification.key
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.public_numbers().e == 65537
    accept_attestation_key(with_parameters(AK_RSA, exponent=65537))


def test_a_verification_key_has_a_scheme_that_fits_it() -> None:
    """Misuse is our own fault: a scheme, hash or curve that cannot verify is a ValueError."""
    key = accept_attestation_key(AK).verification.key
    for scheme, hash_alg in ((TPMAlg.RSASSA, HashAlg.SHA256), (TPMAlg.ECDSA, HashAlg.SHA1)):
        with pytest.raises(ValueError, match="not"):
            VerificationKey(key, scheme, hash_alg)
    p521 = ec.generate_private_key(ec.SECP521R1()).public_key()
    with pytest.raises(ValueError, match="secp521r1"):
        VerificationKey(p521, TPMAlg.ECDSA, HashAlg.SHA512)


OPEN_SCHEME: Final = TPMTAsymScheme()


@pytest.mark.parametrize(
    "public",
    [
        BOUND,
        with_parameters(BOUND, scheme=OPEN_SCHEME),
        rsa_public(MODULUS, attributes=SIGNING, scheme=OPEN_SCHEME),
    ],
    ids=["ecdsa", "open scheme", "rsa"],
)
def test_a_good_bound_key_is_accepted(public: TPMTPublic) -> None:
    """A confirmation key is an unrestricted signing key that cannot leave its TPM."""
    assert accept_bound_key(public).name == public.name


BOUND_FAULTS: Final[dict[str, TPMTPublic]] = {
    "bound-key.attributes.fixed-tpm": flip(BOUND, TPMAObject.FIXED_TPM),
    "bound-key.attributes.fixed-parent": flip(BOUND, TPMAObject.FIXED_PARENT),
    "bound-key.attributes.sensitive-data-origin": flip(BOUND, TPMAObject.SENSITIVE_DATA_ORIGIN),
    "bound-key.attributes.sign": flip(BOUND, TPMAObject.SIGN_ENCRYPT),
    "bound-key.attributes.decrypt": flip(BOUND, TPMAObject.DECRYPT),
    "bound-key.attributes.restricted": flip(BOUND, TPMAObject.RESTRICTED),
    "bound-key.attributes.x509-sign": flip(BOUND, TPMAObject.X509_SIGN),
    "bound-key.scheme.hash": with_parameters(
        BOUND, scheme=TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA384)
    ),
    "bound-key.scheme.unsupported": with_parameters(
        BOUND, scheme=TPMTAsymScheme(TPMAlg.ECDAA, HashAlg.SHA256, 0)
    ),
    "bound-key.curve.unsupported": ecc_public(
        POINT384.x, POINT384.y, TPMECCCurve.NIST_P384, attributes=SIGNING, scheme=ECDSA256
    ),
}


@pytest.mark.parametrize(("finding", "public"), BOUND_FAULTS.items())
def test_a_bound_key_with_one_fault_is_refused(finding: str, public: TPMTPublic) -> None:
    """Each thing that a confirmation key must be counts."""
    assert refused(accept_bound_key, public) == [finding]


@pytest.mark.parametrize(
    "public",
    [EK, EK_RSA_HIGH, EK_HIGH, EK_521],
    ids=["low range", "high range", "high range P-384", "high range P-521"],
)
def test_a_good_endorsement_key_is_accepted(public: TPMTPublic) -> None:
    """Both ranges of the TCG's templates are accepted."""
    assert accept_endorsement_key(public).name == public.name


EK_FAULTS: Final[dict[str, TPMTPublic]] = {
    "ek.attributes.fixed-tpm": flip(EK, TPMAObject.FIXED_TPM),
    "ek.attributes.fixed-parent": flip(EK, TPMAObject.FIXED_PARENT),
    "ek.attributes.sensitive-data-origin": flip(EK, TPMAObject.SENSITIVE_DATA_ORIGIN),
    "ek.attributes.restricted": flip(EK, TPMAObject.RESTRICTED),
    "ek.attributes.decrypt": flip(EK, TPMAObject.DECRYPT),
    "ek.attributes.admin-with-policy": flip(EK, TPMAObject.ADMIN_WITH_POLICY),
    "ek.attributes.sign": flip(EK, TPMAObject.SIGN_ENCRYPT),
    "ek.attributes.user-with-auth": flip(EK, TPMAObject.USER_WITH_AUTH),
    "ek.symmetric.unsupported": with_parameters(EK, symmetric=TPMTSymDefObject()),
    "ek.scheme.set": with_parameters(EK, scheme=TPMTAsymScheme(TPMAlg.RSAES)),
    "ek.rsa.exponent": with_parameters(EK, exponent=3),
    "ek.name-alg.mismatch": replace(EK_HIGH, name_alg=HashAlg.SHA512),
}


@pytest.mark.parametrize(("finding", "public"), EK_FAULTS.items())
def test_an_endorsement_key_with_one_fault_is_refused(finding: str, public: TPMTPublic) -> None:
    """Each thing that a storage key of the templates is counts (B21)."""
    assert refused(accept_endorsement_key, public) == [finding]


@pytest.mark.parametrize(
    ("finding", "public"),
    [
        ("ek.attributes.user-with-auth", replace(EK, auth_policy=POLICY_B[HashAlg.SHA256])),
        ("ek.attributes.user-with-auth", flip(EK_HIGH, TPMAObject.USER_WITH_AUTH)),
        ("ek.policy.unknown", replace(EK_HIGH, auth_policy=POLICY_A[HashAlg.SHA384])),
        ("ek.symmetric.unsupported", with_parameters(EK, symmetric=AES256)),
        ("ek.symmetric.unsupported", with_parameters(EK_HIGH, symmetric=AES128)),
        (
            "ek.symmetric.unsupported",
            with_parameters(EK, symmetric=TPMTSymDefObject(TPMAlg.AES, 128, TPMAlg.ECDSA)),
        ),
        (
            "ek.scheme.set",
            with_parameters(EK_HIGH, kdf=TPMTAsymScheme(TPMAlg.KDF1_SP800_108, HashAlg.SHA256)),
        ),
    ],
)
def test_an_endorsement_key_between_templates_is_refused(finding: str, public: TPMTPublic) -> None:
    """Parts of two templates make none: policy, attributes, hash and cipher go together."""
    assert refused(accept_endorsement_key, public) == [finding]


@pytest.mark.parametrize(
    "bit", [bit for bit in range(32) if not EK_RSA_HIGH.object_attributes & 1 << bit]
)
@pytest.mark.parametrize("public", [EK, EK_RSA_HIGH], ids=["low", "high"])
def test_an_endorsement_key_has_no_attribute_besides_its_templates(
    public: TPMTPublic, bit: int
) -> None:
    """noDA, encryptedDuplication, firmwareLimited, reserved: none is the sender's to choose."""
    changed = replace(public, object_attributes=TPMAObject(public.object_attributes | 1 << bit))
    expected = "sign" if 1 << bit == TPMAObject.SIGN_ENCRYPT else "unexpected"
    assert refused(accept_endorsement_key, changed) == [f"ek.attributes.{expected}"]


def test_a_modulus_with_a_zero_before_it_is_no_key() -> None:
    """One key has one spelling, and so one name."""
    assert isinstance(EK.unique, bytes)
    padded = replace(EK, unique=b"\0" + EK.unique)
    assert refused(accept_endorsement_key, padded) == ["ek.key.invalid"]


@given(st.sampled_from([EK, EK_HIGH, AK, AK_RSA, BOUND]), st.integers(0, 400), st.integers(0, 255))
def test_a_public_area_that_parses_is_written_as_it_was_read(
    public: TPMTPublic, place: int, value: int
) -> None:
    """Nothing of a public area is dropped or repaired on the way into a record."""
    data = bytearray(public.marshal())
    data[place % len(data)] = value
    try:
        parsed = parse_public(bytes(data))
    except MalformedError:
        return
    assert parsed.marshal() == bytes(data)


@pytest.mark.parametrize("bits", [2047, 2049, 2560])
def test_an_rsa_endorsement_key_has_a_templates_size(bits: int) -> None:
    """Sizes between the templates are refused."""
    odd = with_parameters(EK, key_bits=bits)
    assert "ek.rsa.size" in refused(accept_endorsement_key, odd)


WHOLE_EKS: Final = (EK, EK_RSA_HIGH, EK_HIGH, EK_521)


@settings(max_examples=300)
@given(
    st.sampled_from(WHOLE_EKS),
    st.none() | st.integers(0, 31),
    st.none()
    | st.tuples(
        st.sampled_from([b"", *POLICY_A.values(), *POLICY_B.values()]), st.sampled_from(HashAlg)
    ),
    st.sampled_from([None, 0, 3, 65537]),
)
def test_every_accepted_variant_of_an_ek_is_one_node(
    public: TPMTPublic, bit: int | None, policy: tuple[bytes, HashAlg] | None, exponent: int | None
) -> None:
    """One TPM opens the credential for any public area with its key: they share one node id."""
    changed = public if bit is None else flip(public, TPMAObject(1 << bit))
    if policy is not None:
        changed = replace(changed, auth_policy=policy[0], name_alg=policy[1])
    if exponent is not None:
        if isinstance(changed.unique, TPMSECCPoint):
            point = changed.unique
            changed = replace(changed, unique=TPMSECCPoint(b"\0" + point.x, point.y))
        else:
            changed = with_parameters(changed, exponent=exponent)
    try:
        accepted = accept_endorsement_key(changed)
    except VerificationError:
        return
    assert node_id(accepted.spki) == node_id(accept_endorsement_key(public).spki)


def test_both_ranges_of_one_key_and_both_spellings_of_its_exponent_are_one_node() -> None:
    """What the property test may meet by chance, by name."""
    variants = (EK, EK_RSA_HIGH, with_parameters(EK, exponent=65537))
    assert len({node_id(accept_endorsement_key(each).spki) for each in variants}) == 1
    other = accept_endorsement_key(EK_HIGH)
    assert node_id(other.spki) != node_id(accept_endorsement_key(EK).spki)


@pytest.mark.parametrize(
    "policy", [b"", bytes(32), POLICY_A[HashAlg.SHA384]], ids=["none", "zero", "of another hash"]
)
def test_an_endorsement_key_of_another_policy_is_refused(policy: bytes) -> None:
    """Only the endorsement hierarchy's authorization may activate credentials (B21)."""
    assert refused(accept_endorsement_key, replace(EK, auth_policy=policy)) == ["ek.policy.unknown"]


@pytest.mark.parametrize("alg", [HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512])
def test_the_policies_are_those_that_their_commands_compute(alg: HashAlg) -> None:
    """PolicyA and PolicyB follow from the specification of the policy commands."""
    policy_secret, policy_or, policy_authorize_nv = 0x151, 0x171, 0x192
    start = bytes(alg.size)
    secret = alg.digest(start + struct.pack(">II", policy_secret, 0x4000000B))
    policy_a = alg.digest(secret)
    assert POLICY_A[alg] == policy_a
    index = {HashAlg.SHA256: 0x01C07F01, HashAlg.SHA384: 0x01C07F02, HashAlg.SHA512: 0x01C07F03}
    area = struct.pack(">IHIH", index[alg], alg, 0x220F1008, alg.size)
    area += policy_a + struct.pack(">H", 2 + alg.size)
    name = struct.pack(">H", alg) + alg.digest(area)
    policy_c = alg.digest(start + struct.pack(">I", policy_authorize_nv) + name)
    either = alg.digest(start + struct.pack(">I", policy_or) + policy_a + policy_c)
    assert POLICY_B[alg] == either
