"""Quotes and certifications made with software keys, each wrong in exactly one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import ClockInfo, FixedPCRValues, HashAlg, PCRValues
from bootlease.tpm import (
    TPM_GENERATED,
    TPMRH,
    TPMST,
    PCRSelection,
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSQuoteInfo,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSignature,
    VerifiedCertification,
    VerifiedQuote,
    accept_attestation_key,
    ecc_public,
    rsa_public,
    unsafe_bare_key,
    verify_certification,
    verify_quote,
)

NONCE: Final = bytes(range(32))
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ATTRIBUTES: Final = (
    TPMAObject.FIXED_TPM
    | TPMAObject.FIXED_PARENT
    | TPMAObject.SENSITIVE_DATA_ORIGIN
    | TPMAObject.USER_WITH_AUTH
    | TPMAObject.RESTRICTED
    | TPMAObject.SIGN_ENCRYPT
)
PCRS: Final = {
    alg: {pcr: alg.digest(bytes([pcr])) for pcr in range(24)}
    for alg in (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)
}
ECC: Final = ec.generate_private_key(ec.SECP256R1())
ECC384: Final = ec.generate_private_key(ec.SECP384R1())
RSA: Final = rsa.generate_private_key(65537, 2048)
WEAK: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Bend = Callable[[TPMTSignature], TPMTSignature]
HASHES: Final = {
    HashAlg.SHA1: hashes.SHA1(),  # noqa: S303 - a refused signature is made with it
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
}


def ak_public(
    private: Private,
    scheme: TPMAlg,
    hash_alg: HashAlg = HashAlg.SHA256,
) -> TPMTPublic:
    """Make the public area of a restricted signing key."""
    asym = TPMTAsymScheme(scheme, hash_alg)
    if isinstance(private, rsa.RSAPrivateKey):
        modulus = private.public_key().public_numbers().n
        return rsa_public(modulus, attributes=ATTRIBUTES, scheme=asym)
    numbers = private.public_key().public_numbers()
    curve = TPMECCCurve.NIST_P256 if private.curve.key_size == 256 else TPMECCCurve.NIST_P384
    return ecc_public(numbers.x, numbers.y, curve, attributes=ATTRIBUTES, scheme=asym)


def sign(
    private: Private,
    message: bytes,
    scheme: TPMAlg,
    hash_alg: HashAlg = HashAlg.SHA256,
) -> TPMTSignature:
    """Sign as a TPM does."""
    digest = HASHES[hash_alg]
    if isinstance(private, rsa.RSAPrivateKey):
        filling: padding.AsymmetricPadding = padding.PKCS1v15()
        if scheme == TPMAlg.RSAPSS:
            filling = padding.PSS(padding.MGF1(digest), padding.PSS.MAX_LENGTH)
        return TPMTSignature(
            scheme, TPMSSignatureRSA(hash_alg, private.sign(message, filling, digest))
        )
    size = (private.curve.key_size + 7) // 8
    r, s = decode_dss_signature(private.sign(message, ec.ECDSA(digest)))
    return TPMTSignature(
        scheme, TPMSSignatureECC(hash_alg, r.to_bytes(size, "big"), s.to_bytes(size, "big"))
    )


def quote_info(
    *selections: PCRSelection, hash_alg: HashAlg = HashAlg.SHA256, pcrs: PCRValues = PCRS
) -> TPMSQuoteInfo:
    """Make the body that a TPM with these PCRs would quote."""
    values = b"".join(
        pcrs[HashAlg(sel.alg)].get(pcr, b"") for sel in selections for pcr in sel.pcrs
    )
    return TPMSQuoteInfo(selections, hash_alg.digest(values))


def bent(attest: TPMSAttest, changes: Mapping[str, object]) -> TPMSAttest:
    """Change fields of an attestation."""
    fields = {name: getattr(attest, name) for name in attest.__slots__}
    return TPMSAttest(**{**fields, **changes})


SHA256_0_TO_9: Final = PCRSelection(HashAlg.SHA256, tuple(range(10)))


@dataclass
class Forge:
    """A good quote, to be bent in one place before it is signed."""

    private: Private = ECC
    scheme: TPMAlg = TPMAlg.ECDSA
    hash_alg: HashAlg = HashAlg.SHA256
    attest: TPMSAttest = field(
        default_factory=lambda: TPMSAttest(
            TPM_GENERATED,
            TPMST.ATTEST_QUOTE,
            b"\x00\x0b" + bytes(32),
            NONCE,
            ClockInfo(1000, 5, 0, safe=True),
            0x2024_0001_0002_0003,
            quote_info(SHA256_0_TO_9),
        )
    )
    pcrs: PCRValues = field(default_factory=lambda: PCRS)
    kept: bool = False

    def change(self, **changes: object) -> Forge:
        """Bend the attestation."""
        self.attest = bent(self.attest, changes)
        return self

    def verify(
        self,
        *,
        message: bytes | None = None,
        bend: Bend = lambda signature: signature,
    ) -> VerifiedQuote:
        """Sign, then verify with the key's own public area."""
        message = self.attest.marshal() if message is None else message
        signature = bend(sign(self.private, message, self.scheme, self.hash_alg))
        key = accept_attestation_key(ak_public(self.private, self.scheme, self.hash_alg))
        pcrs = FixedPCRValues(self.pcrs) if self.kept else self.pcrs
        return verify_quote(message, signature.marshal(), key, NONCE, pcrs)

    def findings(self, *, bend: Bend = lambda signature: signature) -> set[str]:
        """Return why it is refused."""
        with pytest.raises(VerificationError) as caught:
            self.verify(bend=bend)
        return {finding.id for finding in caught.value.findings}


@pytest.mark.parametrize(
    ("private", "scheme", "hash_alg"),
    [
        (ECC, TPMAlg.ECDSA, HashAlg.SHA256),
        (ECC384, TPMAlg.ECDSA, HashAlg.SHA384),
        (RSA, TPMAlg.RSASSA, HashAlg.SHA256),
        (RSA, TPMAlg.RSAPSS, HashAlg.SHA256),
        (RSA, TPMAlg.RSASSA, HashAlg.SHA384),
    ],
)
def test_a_good_quote_is_verified(private: Private, scheme: TPMAlg, hash_alg: HashAlg) -> None:
    """Every supported key and scheme gives a quote with just the quoted values."""
    forge = Forge(private, scheme, hash_alg)
    forge.change(attested=quote_info(SHA256_0_TO_9, hash_alg=hash_alg))
    quote = forge.verify()
    assert quote.pcrs == {HashAlg.SHA256: {pcr: PCRS[HashAlg.SHA256][pcr] for pcr in range(10)}}
    assert quote.clock_info == ClockInfo(1000, 5, 0, safe=True)
    assert quote.extra_data == NONCE


def test_values_of_another_bank_than_the_selected_one_are_left_out() -> None:
    """A bank may be selected without a PCR, and values may come along that nobody quoted."""
    selections = (PCRSelection(HashAlg.SHA256, (0,)), PCRSelection(HashAlg.SHA512, ()))
    quoted = {0: PCRS[HashAlg.SHA256][0]}
    presented = {HashAlg.SHA256: quoted, HashAlg.SHA384: {0: PCRS[HashAlg.SHA384][0]}}
    for kept in (True, False):
        forge = Forge(pcrs=presented, kept=kept).change(attested=quote_info(*selections))
        assert forge.verify().pcrs[HashAlg.SHA256] == quoted
        assert HashAlg.SHA384 not in forge.verify().pcrs


def test_two_banks_are_verified_in_the_order_of_the_selection() -> None:
    """Several banks in one quote are legal, and their order is the TPM's (A8)."""
    selections = (PCRSelection(HashAlg.SHA384, (7,)), PCRSelection(HashAlg.SHA1, (0, 23)))
    quote = Forge().change(attested=quote_info(*selections)).verify()
    assert set(quote.pcrs) == {HashAlg.SHA384, HashAlg.SHA1}
    assert list(quote.pcrs[HashAlg.SHA1]) == [0, 23]


def test_an_empty_bank_beside_a_full_one_is_accepted() -> None:
    """Only a quote over no PCR at all covers nothing."""
    selections = (PCRSelection(HashAlg.SHA1, ()), SHA256_0_TO_9)
    assert Forge().change(attested=quote_info(*selections)).verify().pcrs[HashAlg.SHA1] == {}


BENT: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "magic zero (A1)": ("quote.magic.wrong", {"magic": 0}),
    "nonce empty (A11)": ("quote.nonce.mismatch", {"extra_data": b""}),
    "nonce prefix (A11)": ("quote.nonce.mismatch", {"extra_data": NONCE[:16]}),
    "nonce padded (A11)": ("quote.nonce.mismatch", {"extra_data": NONCE + bytes(4)}),
    "nonce in base64 (A12)": ("quote.nonce.mismatch", {"extra_data": b"AAECAwQFBgcICQoLDA0O"}),
    "no selection (A4)": ("quote.selection.empty", {"attested": quote_info()}),
    "empty bitmap (A4)": (
        "quote.selection.empty",
        {"attested": quote_info(PCRSelection(HashAlg.SHA256, ()))},
    ),
    "PCR 30 (A3)": (
        "quote.selection.pcr-range",
        {
            "attested": quote_info(
                PCRSelection(HashAlg.SHA256, (0, 30), 4),
                pcrs={HashAlg.SHA256: {**PCRS[HashAlg.SHA256], 30: bytes(32)}},
            )
        },
    ),
    "bit map of 2 bytes (A20)": (
        "quote.selection.size",
        {"attested": quote_info(PCRSelection(HashAlg.SHA256, (0, 7), 2))},
    ),
    "bank twice (A8)": (
        "quote.selection.bank-twice",
        {"attested": quote_info(SHA256_0_TO_9, SHA256_0_TO_9)},
    ),
    "unknown bank": (
        "quote.bank.unknown",
        {"attested": TPMSQuoteInfo((SHA256_0_TO_9, PCRSelection(0x7777, (0,))), bytes(32))},
    ),
    "pcrDigest by the wrong hash (A9)": (
        "quote.pcr-digest.mismatch",
        {"attested": quote_info(SHA256_0_TO_9, hash_alg=HashAlg.SHA1)},
    ),
    "pcrDigest empty (A10)": (
        "quote.pcr-digest.mismatch",
        {"attested": TPMSQuoteInfo((SHA256_0_TO_9,), b"")},
    ),
    "pcrDigest prefix (A10)": (
        "quote.pcr-digest.mismatch",
        {"attested": TPMSQuoteInfo((SHA256_0_TO_9,), quote_info(SHA256_0_TO_9).pcr_digest[:31])},
    ),
    "pcrDigest zero (A10)": (
        "quote.pcr-digest.mismatch",
        {"attested": TPMSQuoteInfo((SHA256_0_TO_9,), bytes(32))},
    ),
}


@pytest.mark.parametrize("kept", [False, True], ids=["values", "values that others had"])
@pytest.mark.parametrize(("finding", "changes"), BENT.values(), ids=BENT)
def test_a_quote_bent_in_one_place_is_refused_for_it(
    finding: str, changes: dict[str, object], *, kept: bool
) -> None:
    """A well-signed quote that is wrong in one way has the one finding for it."""
    extra = {"quote.pcr.value-missing"} if finding == "quote.selection.pcr-range" else set()
    assert Forge(kept=kept).verify().pcrs[HashAlg.SHA256]
    for _ in range(2):
        assert Forge(kept=kept).change(**changes).findings() == {finding} | extra


def test_what_was_remembered_of_values_cannot_be_written_to() -> None:
    """Quotes that share PCR values share no mapping that anybody can change."""
    quoted: Any = Forge(kept=True).verify().pcrs
    assert quoted == {HashAlg.SHA256: {pcr: PCRS[HashAlg.SHA256][pcr] for pcr in range(10)}}
    with pytest.raises(TypeError):
        quoted[HashAlg.SHA256][0] = bytes(32)
    with pytest.raises(TypeError):
        quoted[HashAlg.SHA256] = {}


@pytest.mark.parametrize("kind", [kind for kind in TPMST if kind != TPMST.ATTEST_QUOTE])
def test_another_attestation_shaped_like_a_quote_is_refused(kind: TPMST) -> None:
    """Whatever else the key attests is no quote, whatever its body looks like (A2, A26)."""
    forge = Forge().change(type=kind)
    forge.attest = replace(forge.attest, attested=quote_info(SHA256_0_TO_9).marshal())
    assert forge.findings() == {"quote.type.wrong"}


def test_a_value_that_was_not_quoted_cannot_stand_in_for_one_that_was() -> None:
    """PCR 14 to 23 quoted and presented as PCR 0 to 9 are missing where they belong (A3)."""
    resettable = tuple(range(14, 24))
    forge = Forge().change(attested=quote_info(PCRSelection(HashAlg.SHA256, resettable)))
    values = [PCRS[HashAlg.SHA256][pcr] for pcr in resettable]
    forge.pcrs = {HashAlg.SHA256: dict(enumerate(values))}
    assert forge.findings() == {"quote.pcr.value-missing"}


def test_values_may_not_shift_bytes_between_them() -> None:
    """31 and 33 bytes concatenate like twice 32, and are refused all the same."""
    joined = PCRS[HashAlg.SHA256][0] + PCRS[HashAlg.SHA256][1]
    forge = Forge()
    forge.pcrs = {HashAlg.SHA256: {**PCRS[HashAlg.SHA256], 0: joined[:31], 1: joined[31:]}}
    assert forge.findings() == {"quote.pcr.value-size"}


def test_all_findings_are_told_at_once() -> None:
    """A quote with several faults is refused for each of them."""
    forge = Forge().change(extra_data=b"", attested=TPMSQuoteInfo((SHA256_0_TO_9,), bytes(32)))
    found = forge.findings(bend=lambda _: sign(ECC, b"other", TPMAlg.ECDSA))
    assert found == {
        "quote.signature.invalid",
        "quote.nonce.mismatch",
        "quote.pcr-digest.mismatch",
    }


def ecdsa(change: Callable[[int, int], tuple[bytes, bytes]]) -> Bend:
    """Bend r and s."""

    def bend(signature: TPMTSignature) -> TPMTSignature:
        body = signature.body
        assert isinstance(body, TPMSSignatureECC)
        r, s = change(int.from_bytes(body.r, "big"), int.from_bytes(body.s, "big"))
        return TPMTSignature(signature.alg, TPMSSignatureECC(body.hash_alg, r, s))

    return bend


def number(value: int, size: int = 32) -> bytes:
    """Write big-endian."""
    return value.to_bytes(size, "big")


def relabelled_hash(signature: TPMTSignature, hash_alg: int) -> TPMTSignature:
    """Write another hash over a signature."""
    assert not isinstance(signature.body, bytes)
    return TPMTSignature(signature.alg, signature.body._replace(hash_alg=hash_alg))


def relabelled_scheme(alg: TPMAlg, signature: TPMTSignature) -> TPMTSignature:
    """Write another scheme over a signature."""
    return TPMTSignature(alg, signature.marshal()[2:])


SIGNATURES: Final[dict[str, tuple[str, Bend]]] = {
    "r and s zero (A17)": (
        "quote.signature.range",
        ecdsa(lambda _r, _s: (bytes(32), bytes(32))),
    ),
    "r and s empty (A17)": ("quote.signature.range", ecdsa(lambda _r, _s: (b"", b""))),
    "r + n (A17)": (
        "quote.signature.range",
        ecdsa(lambda r, s: (number(r + P256_ORDER, 33), number(s))),
    ),
    "s = n (A17)": ("quote.signature.range", ecdsa(lambda r, _s: (number(r), number(P256_ORDER)))),
    "s zero (A17)": ("quote.signature.range", ecdsa(lambda r, _s: (number(r), bytes(32)))),
    "r flipped": ("quote.signature.invalid", ecdsa(lambda r, s: (number(r ^ 1), number(s)))),
    "hash lie (A16)": (
        "quote.signature.hash-mismatch",
        lambda sig: relabelled_hash(sig, HashAlg.SHA384),
    ),
    "unknown hash (A16)": (
        "quote.signature.hash-mismatch",
        lambda sig: relabelled_hash(sig, 0x7777),
    ),
    "RSA signature (A15)": (
        "quote.signature.scheme-mismatch",
        lambda _sig: sign(RSA, b"", TPMAlg.RSASSA),
    ),
    **{
        f"{alg.name} (A18)": (
            "quote.signature.scheme-refused",
            partial(relabelled_scheme, alg),
        )
        for alg in (TPMAlg.NULL, TPMAlg.HMAC, TPMAlg.ECSCHNORR, TPMAlg.ECDAA, TPMAlg.SM2)
    },
}


@pytest.mark.parametrize(("finding", "bend"), SIGNATURES.values(), ids=SIGNATURES)
def test_a_bent_signature_is_refused_for_it(finding: str, bend: Bend) -> None:
    """A signature that is wrong in one way has the one finding for it."""
    assert Forge().findings(bend=bend) == {finding}


@pytest.mark.parametrize(
    "change",
    [
        ecdsa(lambda r, s: (number(r), number(P256_ORDER - s))),
        ecdsa(lambda r, s: (number(r, 34), number(s, 40))),
    ],
    ids=["n-s", "leading zeros"],
)
def test_another_spelling_of_a_good_signature_is_accepted(change: Bend) -> None:
    """(r, n-s) and leading zeros verify: signature bytes recognise no replay (A17)."""
    assert Forge().verify(bend=change).extra_data == NONCE


@pytest.mark.parametrize(
    ("scheme", "body"), [(TPMAlg.RSASSA, TPMAlg.RSAPSS), (TPMAlg.RSAPSS, TPMAlg.RSASSA)]
)
def test_rsa_schemes_are_not_confused(scheme: TPMAlg, body: TPMAlg) -> None:
    """A key of one scheme takes the other neither under its own header nor under this (A15)."""
    forge = Forge(RSA, scheme)
    message = forge.attest.marshal()
    other = sign(RSA, message, body)
    assert forge.findings(bend=lambda _: other) == {"quote.signature.scheme-mismatch"}
    relabelled = TPMTSignature(scheme, other.body)
    assert forge.findings(bend=lambda _: relabelled) == {"quote.signature.invalid"}


def test_a_genuine_sha1_signature_is_refused() -> None:
    """The signature's hash is the key's, and a key never has SHA-1 (A16)."""
    message = Forge().attest.marshal()
    signature = sign(ECC, message, TPMAlg.ECDSA, HashAlg.SHA1)
    assert Forge().findings(bend=lambda _: signature) == {"quote.signature.hash-mismatch"}


def test_a_signature_by_another_key_is_refused() -> None:
    """A quote proves nothing under a key that did not sign it (A14)."""
    other = ec.generate_private_key(ec.SECP256R1())
    message = Forge().attest.marshal()
    found = Forge().findings(bend=lambda _: sign(other, message, TPMAlg.ECDSA))
    assert found == {"quote.signature.invalid"}


@pytest.mark.parametrize(
    "message",
    [
        Forge().attest.marshal() + b"\0",
        Forge().attest.marshal()[:-1],
        Forge().attest.marshal().replace(b"\x00\x00\x00\x01\x00\x0b", b"\xff\xff\xff\xff\x00\x0b"),
        Forge().attest.marshal().replace(b"\x00\x0b\x03\xff", b"\x00\x0b\x05\xff"),
    ],
    ids=["trailing (A19)", "truncated (A20)", "count 2^32-1 (A20)", "sizeofSelect 5 (A20)"],
)
def test_a_signed_structure_that_is_none_is_malformed(message: bytes) -> None:
    """A good signature makes no structure of bytes that are none."""
    with pytest.raises(MalformedError):
        Forge().verify(message=message)


def test_safe_must_be_yes_or_no() -> None:
    """clockInfo.safe = 2 would be a second spelling of yes (A21)."""
    message = bytearray(Forge().attest.marshal())
    at = message.index(b"\x00\x00\x00\x05\x00\x00\x00\x00\x01") + 8
    message[at] = 2
    with pytest.raises(MalformedError, match="safe"):
        Forge().verify(message=bytes(message))


def test_trailing_bytes_after_the_signature_are_malformed() -> None:
    """A signature has one spelling of its structure (A19)."""
    message = Forge().attest.marshal()
    signature = sign(ECC, message, TPMAlg.ECDSA).marshal()
    key = accept_attestation_key(ak_public(ECC, TPMAlg.ECDSA))
    with pytest.raises(MalformedError):
        verify_quote(message, signature + b"\0", key, NONCE, PCRS)


def test_a_bare_key_verifies_under_the_scheme_the_signature_claims() -> None:
    """The unsafe key serves for looking at a quote, with RSAPSS, RSASSA and ECDSA alike."""
    for private, scheme in (
        (ECC, TPMAlg.ECDSA),
        (RSA, TPMAlg.RSASSA),
        (RSA, TPMAlg.RSAPSS),
    ):
        message = Forge().attest.marshal()
        signature = sign(private, message, scheme)
        key = unsafe_bare_key(private.public_key(), signature)
        assert verify_quote(message, signature.marshal(), key, NONCE, PCRS).extra_data == NONCE


def test_a_bare_key_that_is_weak_is_refused() -> None:
    """Even a key of unknown attributes has to be strong enough to verify with (B17)."""
    signature = sign(ECC, b"", TPMAlg.ECDSA)
    for key, finding in (
        (WEAK.public_key(), "ak.rsa.size"),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "ak.curve.unsupported"),
    ):
        with pytest.raises(VerificationError) as caught:
            unsafe_bare_key(key, signature)
        assert [found.id for found in caught.value.findings] == [finding]


SUBJECT: Final = ak_public(ECC384, TPMAlg.ECDSA)


def certification(**changes: object) -> TPMSAttest:
    """Make a good certification of SUBJECT, bent where asked."""
    info = TPMSCertifyInfo(SUBJECT.name, SUBJECT.qualified_name(TPMRH.OWNER))
    attest = Forge().attest
    return bent(attest, {"type": TPMST.ATTEST_CERTIFY, "attested": info, **changes})


def certify(attest: TPMSAttest, private: ec.EllipticCurvePrivateKey = ECC) -> VerifiedCertification:
    """Sign with one key, verify with the key under test."""
    message = attest.marshal()
    signature = sign(private, message, TPMAlg.ECDSA).marshal()
    key = accept_attestation_key(ak_public(ECC, TPMAlg.ECDSA))
    return verify_certification(message, signature, key, NONCE, SUBJECT)


def test_a_good_certification_is_verified() -> None:
    """What the TPM certified is the public area that was presented."""
    verified = certify(certification())
    assert verified.public is SUBJECT
    assert verified.name == SUBJECT.name
    assert verified.qualified_name == SUBJECT.qualified_name(TPMRH.OWNER)


CERTIFICATIONS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "another key": ("certify.name.mismatch", {"attested": TPMSCertifyInfo(b"\0\x0bother", b"")}),
    "another challenge": ("certify.nonce.mismatch", {"extra_data": b"other"}),
    "no TPM_GENERATED": ("certify.magic.wrong", {"magic": 0xFF544348}),
    "a quote": (
        "certify.type.wrong",
        {"type": TPMST.ATTEST_QUOTE, "attested": quote_info(SHA256_0_TO_9)},
    ),
}


@pytest.mark.parametrize(("finding", "changes"), CERTIFICATIONS.values(), ids=CERTIFICATIONS)
def test_a_bent_certification_is_refused_for_it(finding: str, changes: dict[str, object]) -> None:
    """A well-signed certification that is wrong in one way has the one finding for it."""
    with pytest.raises(VerificationError) as caught:
        certify(certification(**changes))
    assert [found.id for found in caught.value.findings] == [finding]


def test_a_certification_by_another_key_is_refused() -> None:
    """Only the attestation key can say what its TPM holds."""
    with pytest.raises(VerificationError) as caught:
        certify(certification(), ec.generate_private_key(ec.SECP256R1()))
    assert [found.id for found in caught.value.findings] == ["certify.signature.invalid"]
