"""Structures mean here what they mean to tpm2-pytss and to a TPM.

On what a software TPM puts out, and on values that hypothesis makes and tpm2-pytss writes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_ECC,
    TPM2_RH,
    TPM2_SE,
    TPM2_ST,
    TPM2B_DATA,
    TPM2B_ECC_PARAMETER,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_PUBLIC_KEY_RSA,
    TPMA_OBJECT,
    TPML_PCR_SELECTION,
    TPMS_ATTEST,
    TPMS_CLOCK_INFO,
    TPMS_ECC_PARMS,
    TPMS_ECC_POINT,
    TPMS_PCR_SELECTION,
    TPMS_RSA_PARMS,
    TPMT_PUBLIC,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF,
    TSS2_Exception,
)

from bootlease.appraisal.quote import check_selection, check_signer
from bootlease.errors import VerificationError
from bootlease.model import ClockInfo, HashAlg
from bootlease.testing.swtpm import SoftwareTPMState, swtpm_process
from bootlease.tpm import (
    TPMRH,
    TPMSCertifyInfo,
    TPMSECCParms,
    TPMSECCPoint,
    TPMSQuoteInfo,
    TPMSRSAParms,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTPublic,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    make_credential,
    parse_attest,
    parse_public,
    parse_public_2b,
    parse_signature,
    verify_certification,
    verify_quote,
)
from bootlease.tpm.endorsement_key import POLICY_A, POLICY_B

if TYPE_CHECKING:
    from collections.abc import Iterator

NONCE: Final = bytes(range(32))
AK_ATTRIBUTES: Final = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.USERWITHAUTH
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.SIGN_ENCRYPT
)
LOW: Final = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.ADMINWITHPOLICY
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.DECRYPT
)
AK_KINDS: Final = {
    "ecc": "ecc:ecdsa-sha256:null",
    "ecc384": "ecc384:ecdsa-sha384:null",
    "rsassa": "rsa2048:rsassa-sha256:null",
    "rsapss": "rsa2048:rsapss-sha256:null",
}
EK_KINDS: Final = {
    "rsa": ("rsa2048:aes128cfb", LOW, HashAlg.SHA256, POLICY_A),
    "p256": ("ecc256:aes128cfb", LOW, HashAlg.SHA256, POLICY_A),
    "p384": ("ecc384:aes256cfb", LOW | TPMA_OBJECT.USERWITHAUTH, HashAlg.SHA384, POLICY_B),
}
SHA256_0_TO_7: Final = {HashAlg.SHA256: range(8)}


@pytest.fixture(scope="module")
def esapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ESAPI]:
    """A connection to a software TPM of its own."""
    state = SoftwareTPMState(tmp_path_factory.mktemp("tpm"))
    with swtpm_process(state) as tpm, ESAPI(tpm.tcti) as connection:
        for pcr in range(8):
            connection.pcr_event(ESYS_TR.PCR0 + pcr, b"event %d" % pcr)
        yield connection


@contextmanager
def primary(
    esapi: ESAPI, template: TPMT_PUBLIC, hierarchy: Any = ESYS_TR.ENDORSEMENT
) -> Iterator[tuple[ESYS_TR, TPM2B_PUBLIC]]:
    """Make a primary key for the length of a block."""
    handle, public, *_ = esapi.create_primary(None, TPM2B_PUBLIC(template), hierarchy)
    try:
        yield handle, public
    finally:
        esapi.flush_context(handle)


def attestation_key(esapi: ESAPI, kind: str) -> Any:
    """Make an attestation key."""
    return primary(esapi, TPMT_PUBLIC.parse(AK_KINDS[kind], objectAttributes=AK_ATTRIBUTES))


def endorsement_template(kind: str) -> TPMT_PUBLIC:
    """Make the template of an endorsement key."""
    algorithm, attributes, name_alg, policies = EK_KINDS[kind]
    return TPMT_PUBLIC.parse(
        algorithm,
        objectAttributes=attributes,
        nameAlg=TPM2_ALG(int(name_alg)),
        authPolicy=policies[name_alg],
    )


def values(esapi: ESAPI, selection: str) -> dict[HashAlg, dict[int, bytes]]:
    """Read PCR values, one by one."""
    result: dict[HashAlg, dict[int, bytes]] = {}
    for bank in selection.split("+"):
        label, _, pcrs = bank.partition(":")
        for pcr in pcrs.split(","):
            _, _, digests = esapi.pcr_read(TPML_PCR_SELECTION.parse(f"{label}:{pcr}"))
            result.setdefault(HashAlg.from_label(label), {})[int(pcr)] = bytes(digests[0])
    return result


def same_public(ours: TPMTPublic, theirs: TPMT_PUBLIC) -> None:
    """Compare every field."""
    assert ours.type == theirs.type
    assert ours.name_alg == theirs.nameAlg
    assert int(ours.object_attributes) == int(theirs.objectAttributes)
    assert ours.auth_policy == bytes(theirs.authPolicy)
    assert ours.name == bytes(theirs.get_name())
    assert ours.marshal() == theirs.marshal()
    parameters = ours.parameters
    if isinstance(parameters, TPMSRSAParms):
        detail = theirs.parameters.rsaDetail
        assert ours.unique == bytes(theirs.unique.rsa)
        assert (parameters.key_bits, parameters.exponent) == (detail.keyBits, detail.exponent)
    else:
        detail = theirs.parameters.eccDetail
        point = theirs.unique.ecc
        assert ours.unique == TPMSECCPoint(bytes(point.x), bytes(point.y))
        assert parameters.curve == detail.curveID
        assert parameters.kdf.alg == detail.kdf.scheme
    assert parameters.symmetric.alg == detail.symmetric.algorithm
    if detail.symmetric.algorithm == TPM2_ALG.AES:
        assert parameters.symmetric.key_bits == detail.symmetric.keyBits.aes
        assert parameters.symmetric.mode == detail.symmetric.mode.aes
    assert parameters.scheme.alg == detail.scheme.scheme
    if detail.scheme.scheme != TPM2_ALG.NULL:
        assert parameters.scheme.hash_alg == detail.scheme.details.anySig.hashAlg


def same_attest(data: bytes) -> None:
    """Parse with both and compare every field."""
    ours = parse_attest(data)
    theirs, size = TPMS_ATTEST.unmarshal(data)
    assert size == len(data)
    assert (ours.magic, ours.type) == (theirs.magic, theirs.type)
    assert ours.qualified_signer == bytes(theirs.qualifiedSigner)
    assert ours.extra_data == bytes(theirs.extraData)
    clock = theirs.clockInfo
    assert ours.clock_info == ClockInfo(
        clock.clock, clock.resetCount, clock.restartCount, safe=bool(clock.safe)
    )
    assert ours.firmware_version == theirs.firmwareVersion
    if isinstance(ours.attested, TPMSQuoteInfo):
        quote = theirs.attested.quote
        assert ours.attested.pcr_digest == bytes(quote.pcrDigest)
        assert len(ours.attested.selections) == len(quote.pcrSelect)
        for mine, other in zip(ours.attested.selections, quote.pcrSelect, strict=True):
            assert mine.alg == other.hash
            assert mine.size_of_select == other.sizeofSelect
            bits = int.from_bytes(bytes(other.pcrSelect)[: other.sizeofSelect], "little")
            assert mine.pcrs == tuple(pcr for pcr in range(32) if bits >> pcr & 1)
    else:
        assert isinstance(ours.attested, TPMSCertifyInfo)
        assert ours.attested.name == bytes(theirs.attested.certify.name)
        assert ours.attested.qualified_name == bytes(theirs.attested.certify.qualifiedName)


def same_signature(theirs: TPMT_SIGNATURE) -> None:
    """Compare every field."""
    ours = parse_signature(theirs.marshal())
    assert ours.alg == theirs.sigAlg
    assert ours.marshal() == theirs.marshal()
    if isinstance(ours.body, TPMSSignatureECC):
        ecdsa = theirs.signature.ecdsa
        assert ours.body == TPMSSignatureECC(
            ecdsa.hash, bytes(ecdsa.signatureR), bytes(ecdsa.signatureS)
        )
    else:
        rsa = theirs.signature.rsassa
        assert ours.body == TPMSSignatureRSA(rsa.hash, bytes(rsa.sig))


@pytest.mark.swtpm
@pytest.mark.parametrize("kind", AK_KINDS)
def test_a_tpms_quote_is_read_alike_and_verified(esapi: ESAPI, kind: str) -> None:
    """Attestation, key and signature of a quote are the same to both, and verify."""
    selection = "sha256:0,1,2,3,4,5,6,7+sha1:0,23"
    with attestation_key(esapi, kind) as (handle, public):
        attest, signature = esapi.quote(
            handle, TPML_PCR_SELECTION.parse(selection), TPM2B_DATA(NONCE)
        )
        pcrs = values(esapi, selection)
        _, name, qualified_name = esapi.read_public(handle)
    ours = parse_public_2b(public.marshal())
    same_public(ours, public.publicArea)
    same_attest(bytes(attest))
    same_signature(signature)
    key = accept_attestation_key(ours)
    assert key.name == bytes(name)
    assert key.qualified_name == bytes(qualified_name)
    quote = verify_quote(bytes(attest), signature.marshal(), key, NONCE, pcrs)
    assert quote.pcrs == pcrs
    assert check_selection(quote, SHA256_0_TO_7) == ()
    assert check_signer(quote, key.qualified_name) == ()
    wrong = {**pcrs, HashAlg.SHA256: {**pcrs[HashAlg.SHA256], 4: bytes(32)}}
    with pytest.raises(VerificationError):
        verify_quote(bytes(attest), signature.marshal(), key, NONCE, wrong)


@pytest.mark.swtpm
def test_a_quote_from_the_owner_hierarchy_shows_in_its_signer(esapi: ESAPI) -> None:
    """The same template elsewhere has another qualified name, which the TPM states (A24)."""
    template = TPMT_PUBLIC.parse(AK_KINDS["ecc"], objectAttributes=AK_ATTRIBUTES)
    with primary(esapi, template, ESYS_TR.OWNER) as (handle, public):
        attest, signature = esapi.quote(
            handle, TPML_PCR_SELECTION.parse("sha256:0"), TPM2B_DATA(NONCE)
        )
        pcrs = values(esapi, "sha256:0")
    key = accept_attestation_key(parse_public_2b(public.marshal()))
    quote = verify_quote(bytes(attest), signature.marshal(), key, NONCE, pcrs)
    assert [f.id for f in check_signer(quote, key.qualified_name)] == ["quote.signer.mismatch"]
    assert check_signer(quote, key.public.qualified_name(TPMRH.OWNER)) == ()


@pytest.mark.swtpm
def test_a_tpms_certification_is_read_alike_and_verified(esapi: ESAPI) -> None:
    """A confirmation key in the TPM is certified by the attestation key."""
    attributes = (AK_ATTRIBUTES & ~TPMA_OBJECT.RESTRICTED) | TPMA_OBJECT.NODA
    template = TPMT_PUBLIC.parse("ecc256:ecdsa-sha256", objectAttributes=attributes)
    with (
        attestation_key(esapi, "ecc") as (ak, ak_public),
        primary(esapi, template) as (bound, bound_public),
    ):
        scheme = signing_scheme_null()
        attest, signature = esapi.certify(bound, ak, TPM2B_DATA(NONCE), scheme)
        _, _, qualified_name = esapi.read_public(bound)
    same_attest(bytes(attest))
    same_signature(signature)
    key = accept_attestation_key(parse_public_2b(ak_public.marshal()))
    public = parse_public(bound_public.publicArea.marshal())
    same_public(public, bound_public.publicArea)
    verified = verify_certification(bytes(attest), signature.marshal(), key, NONCE, public)
    assert verified.name == accept_bound_key(public).name
    assert verified.qualified_name == bytes(qualified_name) == public.qualified_name()
    with pytest.raises(VerificationError) as caught:
        verify_quote(bytes(attest), signature.marshal(), key, NONCE, {})
    assert [finding.id for finding in caught.value.findings] == ["quote.type.wrong"]


def signing_scheme_null() -> Any:
    """Let the key choose its own scheme."""
    from tpm2_pytss import TPMT_SIG_SCHEME  # noqa: PLC0415 - beside its only use

    return TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)


@pytest.mark.swtpm
def test_the_tpms_other_attestations_are_no_quotes(esapi: ESAPI) -> None:
    """A time attestation by the same key is refused by name (A26)."""
    with attestation_key(esapi, "ecc") as (handle, public):
        attest, signature = esapi.get_time(handle, TPM2B_DATA(NONCE), signing_scheme_null())
    assert TPMS_ATTEST.unmarshal(bytes(attest))[0].type == TPM2_ST.ATTEST_TIME
    key = accept_attestation_key(parse_public_2b(public.marshal()))
    with pytest.raises(VerificationError) as caught:
        verify_quote(bytes(attest), signature.marshal(), key, NONCE, {})
    (finding,) = caught.value.findings
    assert (finding.id, finding.seen) == ("quote.type.wrong", "time")


@pytest.mark.swtpm
@pytest.mark.parametrize("kind", EK_KINDS)
def test_a_tpm_activates_the_credential_made_for_it(esapi: ESAPI, kind: str) -> None:
    """TPM2_ActivateCredential returns the secret for RSA-2048, P-256 and P-384 EKs (B22)."""
    with (
        attestation_key(esapi, "ecc") as (ak, ak_public),
        primary(esapi, endorsement_template(kind)) as (ek, ek_public),
    ):
        ours = parse_public_2b(ek_public.marshal())
        same_public(ours, ek_public.publicArea)
        accepted = accept_endorsement_key(ours)
        ephemeral = None
        if isinstance(accepted.key, ec.EllipticCurvePublicKey):
            ephemeral = ec.generate_private_key(accepted.key.curve)
        secret = os.urandom(32)
        seed = os.urandom(HashAlg(ours.name_alg).size)
        name = parse_public_2b(ak_public.marshal()).name
        assert activate(esapi, ak, ek, make(accepted, name, secret, seed, ephemeral)) == secret
        # For another name, the TPM finds the integrity broken (B4).
        other = make(accepted, name[:-1] + b"\0", secret, seed, ephemeral)
        with pytest.raises(TSS2_Exception):
            activate(esapi, ak, ek, other)


def make(
    ek: Any, name: bytes, secret: bytes, seed: bytes, ephemeral: ec.EllipticCurvePrivateKey | None
) -> tuple[bytes, bytes]:
    """Make a credential."""
    credential = make_credential(ek, name, secret, seed=seed, ephemeral=ephemeral)
    return credential.id_object, credential.encrypted_secret


def activate(esapi: ESAPI, ak: ESYS_TR, ek: ESYS_TR, credential: tuple[bytes, bytes]) -> bytes:
    """Let the TPM activate it, under the endorsement hierarchy's authorization."""
    session = esapi.start_auth_session(
        ESYS_TR.NONE,
        ESYS_TR.NONE,
        TPM2_SE.POLICY,
        TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
        TPM2_ALG.SHA256,
    )
    policy_session = esapi.read_public(ek)[0].publicArea.nameAlg == TPM2_ALG.SHA256
    try:
        if policy_session:
            esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
        blob, _ = TPM2B_ID_OBJECT.unmarshal(credential[0])
        secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(credential[1])
        # EKs of the high range also take user authorization, an empty password here.
        ek_session = session if policy_session else ESYS_TR.PASSWORD
        opened = esapi.activate_credential(
            ak, ek, blob, secret, session1=ESYS_TR.PASSWORD, session2=ek_session
        )
        return bytes(opened)
    finally:
        esapi.flush_context(session)


@pytest.mark.swtpm
def test_the_tpm_says_that_it_is_one(esapi: ESAPI) -> None:
    """The fixture talks to a TPM 2.0, not to something that answers anything."""
    _, capability = esapi.get_capability(TPM2_CAP.PCRS, 0, 1)
    assert len(capability.data.assignedPCR) > 0


numbers = st.binary(min_size=1, max_size=66)
u16s = st.integers(0, 0xFFFF)
u32s = st.integers(0, 0xFFFFFFFF)
u64s = st.integers(0, (1 << 64) - 1)
digests = st.binary(max_size=64)


@st.composite
def pytss_selections(draw: st.DrawFn) -> TPMS_PCR_SELECTION:
    """Make a selection with tpm2-pytss."""
    pcrs = draw(st.sets(st.integers(0, 23)))
    return TPMS_PCR_SELECTION(
        hash=TPM2_ALG(draw(st.sampled_from([0x04, 0x0B, 0x0C, 0x12]))), pcrs=sorted(pcrs)
    )


@given(
    selections=st.lists(pytss_selections(), max_size=8),
    digest=digests,
    signer=digests,
    extra=digests,
    clock=u64s,
    resets=u32s,
    restarts=u32s,
    safe=st.booleans(),
    firmware=u64s,
)
def test_quotes_that_pytss_writes_are_read_alike(
    *,
    selections: list[TPMS_PCR_SELECTION],
    digest: bytes,
    signer: bytes,
    extra: bytes,
    clock: int,
    resets: int,
    restarts: int,
    safe: bool,
    firmware: int,
) -> None:
    """Any quote that tpm2-pytss marshals has the same fields here."""
    attest = attest_of(TPM2_ST.ATTEST_QUOTE, signer, extra, firmware)
    attest.clockInfo = TPMS_CLOCK_INFO(
        clock=clock, resetCount=resets, restartCount=restarts, safe=safe
    )
    attest.attested.quote.pcrSelect = TPML_PCR_SELECTION(selections)
    attest.attested.quote.pcrDigest = digest
    same_attest(attest.marshal())


@given(signer=digests, extra=digests, name=digests, qualified=digests)
def test_certifications_that_pytss_writes_are_read_alike(
    signer: bytes, extra: bytes, name: bytes, qualified: bytes
) -> None:
    """Any certification that tpm2-pytss marshals has the same fields here."""
    attest = attest_of(TPM2_ST.ATTEST_CERTIFY, signer, extra, 1)
    attest.attested.certify.name = name
    attest.attested.certify.qualifiedName = qualified
    same_attest(attest.marshal())


def attest_of(kind: TPM2_ST, signer: bytes, extra: bytes, firmware: int) -> TPMS_ATTEST:
    """Make an attestation without a body."""
    attest = TPMS_ATTEST(magic=0xFF544347, type=kind, firmwareVersion=firmware)
    attest.qualifiedSigner = signer
    attest.extraData = extra
    attest.clockInfo = TPMS_CLOCK_INFO(clock=1, resetCount=2, restartCount=3, safe=True)
    return attest


attribute_bits = st.sets(st.sampled_from([1, 2, 4, 5, 6, 7, 10, 11, 16, 17, 18, 19])).map(
    lambda bits: sum(1 << bit for bit in bits)
)
name_algs = st.sampled_from([TPM2_ALG.SHA1, TPM2_ALG.SHA256, TPM2_ALG.SHA384, TPM2_ALG.SHA512])


@given(
    modulus=st.binary(max_size=512),
    attributes=attribute_bits,
    name_alg=name_algs,
    policy=digests,
    exponent=u32s,
    scheme=st.sampled_from([TPM2_ALG.NULL, TPM2_ALG.RSASSA, TPM2_ALG.RSAPSS]),
    aes=st.booleans(),
)
def test_rsa_keys_that_pytss_writes_are_read_alike(
    *,
    modulus: bytes,
    attributes: int,
    name_alg: TPM2_ALG,
    policy: bytes,
    exponent: int,
    scheme: TPM2_ALG,
    aes: bool,
) -> None:
    """Any RSA public area that tpm2-pytss marshals has the same fields here."""
    public = TPMT_PUBLIC(type=TPM2_ALG.RSA, nameAlg=name_alg, objectAttributes=attributes)
    public.authPolicy = policy
    detail = TPMS_RSA_PARMS(keyBits=2048, exponent=exponent)
    fill(detail, scheme, aes=aes)
    public.parameters.rsaDetail = detail
    public.unique.rsa = TPM2B_PUBLIC_KEY_RSA(modulus)
    same_public(parse_public(public.marshal()), public)
    same_public(parse_public_2b(TPM2B_PUBLIC(public).marshal()), public)


@given(
    x=st.binary(max_size=66),
    y=st.binary(max_size=66),
    attributes=attribute_bits,
    name_alg=name_algs,
    policy=digests,
    curve=st.sampled_from([TPM2_ECC.NIST_P256, TPM2_ECC.NIST_P384, TPM2_ECC.BN_P256]),
    scheme=st.sampled_from([TPM2_ALG.NULL, TPM2_ALG.ECDSA, TPM2_ALG.ECSCHNORR]),
    aes=st.booleans(),
)
def test_ecc_keys_that_pytss_writes_are_read_alike(
    *,
    x: bytes,
    y: bytes,
    attributes: int,
    name_alg: TPM2_ALG,
    policy: bytes,
    curve: TPM2_ECC,
    scheme: TPM2_ALG,
    aes: bool,
) -> None:
    """Any ECC public area that tpm2-pytss marshals has the same fields here."""
    public = TPMT_PUBLIC(type=TPM2_ALG.ECC, nameAlg=name_alg, objectAttributes=attributes)
    public.authPolicy = policy
    detail = TPMS_ECC_PARMS(curveID=curve)
    detail.kdf.scheme = TPM2_ALG.NULL
    fill(detail, scheme, aes=aes)
    public.parameters.eccDetail = detail
    public.unique.ecc = TPMS_ECC_POINT(x=TPM2B_ECC_PARAMETER(x), y=TPM2B_ECC_PARAMETER(y))
    parsed = parse_public(public.marshal())
    assert isinstance(parsed.parameters, TPMSECCParms)
    same_public(parsed, public)


def fill(detail: Any, scheme: TPM2_ALG, *, aes: bool) -> None:
    """Set scheme and symmetric protection of a key."""
    detail.scheme.scheme = scheme
    if scheme != TPM2_ALG.NULL:
        detail.scheme.details.anySig.hashAlg = TPM2_ALG.SHA256
    detail.symmetric.algorithm = TPM2_ALG.AES if aes else TPM2_ALG.NULL
    if aes:
        detail.symmetric.keyBits.aes = 256
        detail.symmetric.mode.aes = TPM2_ALG.CFB


@given(scheme=st.sampled_from([TPM2_ALG.RSASSA, TPM2_ALG.RSAPSS]), sig=st.binary(max_size=512))
def test_rsa_signatures_that_pytss_writes_are_read_alike(scheme: TPM2_ALG, sig: bytes) -> None:
    """Any RSA signature that tpm2-pytss marshals has the same fields here."""
    signature = TPMT_SIGNATURE(sigAlg=scheme)
    signature.signature.rsassa.hash = TPM2_ALG.SHA256
    signature.signature.rsassa.sig = sig
    same_signature(signature)


@given(r=numbers, s=numbers)
def test_ecdsa_signatures_that_pytss_writes_are_read_alike(r: bytes, s: bytes) -> None:
    """Any ECDSA signature that tpm2-pytss marshals has the same fields here."""
    signature = TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA)
    signature.signature.ecdsa.hash = TPM2_ALG.SHA384
    signature.signature.ecdsa.signatureR = r
    signature.signature.ecdsa.signatureS = s
    same_signature(signature)


def test_handles_are_those_of_pytss() -> None:
    """Hierarchies have the same numbers on both sides."""
    for handle in TPMRH:
        assert handle == getattr(TPM2_RH, handle.name)
