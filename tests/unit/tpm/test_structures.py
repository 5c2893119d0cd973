"""Structures read from bytes that are written out here, field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.model import ClockInfo, HashAlg
from bootlease.tpm import (
    TPM_GENERATED,
    TPMRH,
    TPMST,
    PCRSelection,
    TPMAlg,
    TPMECCCurve,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSECCParms,
    TPMSQuoteInfo,
    TPMSRSAParms,
    TPMSSignatureECC,
    TPMTSignature,
    parse_attest,
    parse_header,
    parse_public,
    parse_public_2b,
    parse_public_either,
    parse_signature,
)
from bootlease.tpm.algorithms import algorithm_name, attest_name, hash_name
from bootlease.tpm.attest import _read_any_quote as read_any_quote
from bootlease.tpm.attest import read_quote
from bootlease.tpm.public import _parse_any as parse_any_public

HEAD: Final = bytes.fromhex(
    "ff544347 8018"
    "0002 000b"  # qualifiedSigner
    "0003 616263"  # extraData
    "0000000000000102 00000003 00000004 01"  # clockInfo
    "2024000000000001"  # firmwareVersion
)
QUOTE: Final = HEAD + bytes.fromhex(
    "00000002"
    "0004 03 800000"  # sha1: PCR 7
    "7777 04 01008000"  # unknown bank: PCR 0 and 23
    "0002 dddd"
)
ECC: Final = bytes.fromhex(
    "0023 000b 00050072 0000"
    "0010"  # symmetric NULL
    "0018 000b"  # ECDSA, SHA-256
    "0003"  # P-256
    "0010"  # KDF NULL
    "0001 aa 0002 bbcc"
)
RSA_EK: Final = bytes.fromhex(
    "0001 000c 000300b2 0001 99"
    "0006 0080 0043"  # AES-128-CFB
    "0010"  # scheme NULL
    "0800 00000000"
    "0002 abcd"
)


def test_a_quote_is_read_field_by_field() -> None:
    """Every field of TPMS_ATTEST has its place; an unknown bank keeps its number."""
    attest = parse_attest(QUOTE)
    assert attest.type == TPMST.ATTEST_QUOTE
    assert attest.qualified_signer == b"\0\x0b"
    assert attest.extra_data == b"abc"
    assert attest.clock_info == ClockInfo(0x102, 3, 4, safe=True)
    assert attest.firmware_version == 0x2024000000000001
    assert attest.attested == TPMSQuoteInfo(
        (PCRSelection(HashAlg.SHA1, (7,), 3), PCRSelection(0x7777, (0, 23), 4)), b"\xdd\xdd"
    )
    assert parse_header(QUOTE).attested == QUOTE[len(HEAD) :]


def test_a_certification_is_read_field_by_field() -> None:
    """Name and qualified name follow the header."""
    data = HEAD.replace(b"\x80\x18", b"\x80\x17") + bytes.fromhex("0001aa 0002bbcc")
    assert parse_attest(data).attested == TPMSCertifyInfo(b"\xaa", b"\xbb\xcc")


def test_another_body_stays_bytes() -> None:
    """Bodies of other types, and anything a TPM did not make, are not interpreted."""
    assert parse_attest(HEAD.replace(b"\x80\x18", b"\x80\x19") + b"time").attested == b"time"
    assert parse_attest(QUOTE.replace(b"\xff\x54", b"\xff\x55")).attested == QUOTE[len(HEAD) :]


@pytest.mark.parametrize(
    "data",
    [
        QUOTE + b"\0",
        QUOTE[:-1],
        b"",
        HEAD + b"\x00\x00\x00\x11" + 17 * bytes.fromhex("0004 03 000000") + b"\0\0",
        HEAD + bytes.fromhex("00000001 0004 05 0000000000 0000"),
        HEAD + bytes.fromhex("00000000 0041") + bytes(65),
        b"\xff\x54\x43\x47\x80\x18\xff\xff" + bytes(70000),
    ],
    ids=["trailing", "cut", "empty", "17 banks", "sizeofSelect 5", "digest 65", "signer 65535"],
)
def test_an_attestation_out_of_bounds_is_malformed(data: bytes) -> None:
    """Every count and length is bounded before it is used (A19, A20)."""
    with pytest.raises(MalformedError):
        parse_attest(data)


def test_public_areas_are_read_field_by_field() -> None:
    """RSA and ECC keys, storage and signing, have their fields in their places."""
    ecc = parse_public(ECC)
    assert (ecc.type, ecc.name_alg) == (TPMAlg.ECC, HashAlg.SHA256)
    assert isinstance(ecc.parameters, TPMSECCParms)
    assert ecc.parameters.curve == TPMECCCurve.NIST_P256
    assert ecc.parameters.scheme.hash_alg == HashAlg.SHA256
    assert ecc.marshal() == ECC
    ek = parse_public(RSA_EK)
    assert (ek.type, ek.name_alg, ek.auth_policy) == (TPMAlg.RSA, HashAlg.SHA384, b"\x99")
    assert isinstance(ek.parameters, TPMSRSAParms)
    assert (ek.parameters.symmetric.key_bits, ek.parameters.public_exponent) == (128, 65537)
    assert ek.unique == b"\xab\xcd"


def test_a_public_area_is_read_with_and_without_its_length() -> None:
    """TPM2B_PUBLIC and TPMT_PUBLIC are told apart by their first two bytes."""
    with_length = parse_public(ECC).marshal_2b()
    assert parse_public_2b(with_length) == parse_public(ECC)
    assert parse_public_either(with_length) == parse_public_either(ECC) == parse_public(ECC)
    for data in (with_length + b"\0", with_length[:-1], ECC, b"\0\0", b"\0"):
        with pytest.raises(MalformedError):
            parse_public_2b(data)


@pytest.mark.parametrize(
    "data",
    [
        ECC.replace(b"\x00\x23", b"\x00\x08", 1),
        ECC.replace(b"\x00\x05\x00\x72", b"\x80\x05\x00\x72"),
        ECC.replace(b"\x00\x18\x00\x0b", b"\x77\x77\x00\x0b"),
        ECC.replace(b"\x00\x10\x00\x18", b"\x00\x0a\x00\x18"),
        ECC.replace(b"\x00\x03\x00\x10", b"\x00\x03\x00\x77"),
        ECC + b"\0",
        RSA_EK[:-3] + b"\xff\xff" + bytes(700),
    ],
    ids=["keyedhash", "reserved bit", "scheme", "symmetric", "kdf", "trailing", "modulus 65535"],
)
def test_a_public_area_of_another_form_is_malformed(data: bytes) -> None:
    """What cannot be read to its end is malformed, never guessed."""
    with pytest.raises(MalformedError):
        parse_public(data)


def test_names_follow_the_name_algorithm() -> None:
    """A name is the algorithm and its digest; the qualified name chains from the parent."""
    ecc, ek = parse_public(ECC), parse_public(RSA_EK)
    assert ecc.name == b"\x00\x0b" + HashAlg.SHA256.digest(ECC)
    assert ek.name == b"\x00\x0c" + HashAlg.SHA384.digest(RSA_EK)
    primary = ek.qualified_name(TPMRH.ENDORSEMENT)
    assert primary[2:] == HashAlg.SHA384.digest(bytes.fromhex("4000000b") + ek.name)
    child = ecc.qualified_name(primary)
    assert child == b"\x00\x0b" + HashAlg.SHA256.digest(primary + ecc.name)


def test_a_key_named_by_an_unknown_hash_has_no_name() -> None:
    """Asking for such a name is malformed input, not a crash."""
    public = parse_public(ECC.replace(b"\x00\x0b", b"\x77\x77", 1))
    with pytest.raises(MalformedError, match="0x7777"):
        _ = public.name


def test_signatures_are_read_field_by_field() -> None:
    """ECDSA has two numbers; what is refused is kept as it came."""
    signature = parse_signature(bytes.fromhex("0018 000b 0001 aa 0002 bbcc"))
    assert signature.body == TPMSSignatureECC(HashAlg.SHA256, b"\xaa", b"\xbb\xcc")
    assert parse_signature(b"\x00\x10").body == b""
    for data in (b"\x00", b"\x00\x18\x00\x0b\x00\x01\xaa", b"\x00\x14\x00\x0b\xff\xff"):
        with pytest.raises(MalformedError):
            parse_signature(data)


def test_numbers_without_a_name_are_shown_as_numbers() -> None:
    """Messages name what is known and show the rest."""
    assert (algorithm_name(0x18), algorithm_name(0x7777)) == ("ECDSA", "0x7777")
    assert (attest_name(0x8018), attest_name(1)) == ("quote", "0x0001")
    assert (hash_name(0x0B), hash_name(0x10)) == ("sha256", "0x0010")


@pytest.mark.parametrize(("r", "s"), [(32, 32), (31, 33), (33, 31), (31, 31), (48, 48)])
def test_numbers_of_a_signature_may_have_any_size(r: int, s: int) -> None:
    """Those of P-256 in full are read in one step; the same total of other sizes is not that."""
    signature = TPMTSignature(
        TPMAlg.ECDSA, TPMSSignatureECC(HashAlg.SHA256, b"\x01" * r, b"\x02" * s)
    )
    assert parse_signature(signature.marshal()) == signature


@pytest.mark.parametrize(("signer", "extra"), [(34, 32), (32, 34), (35, 31), (0, 0), (50, 48)])
@pytest.mark.parametrize(("digest", "select"), [(32, 3), (31, 4), (33, 2), (48, 3)])
def test_a_quote_may_have_names_and_digests_of_any_size(
    signer: int, extra: int, digest: int, select: int
) -> None:
    """SHA-256 throughout is read in one step; the same total of other sizes is not that."""
    info = TPMSQuoteInfo((PCRSelection(HashAlg.SHA256, (0, 7), select),), b"\x03" * digest)
    clock = ClockInfo(1, 2, 3, safe=True)
    attest = TPMSAttest(
        TPM_GENERATED, TPMST.ATTEST_QUOTE, b"\x01" * signer, b"\x02" * extra, clock, 9, info
    )
    assert parse_attest(attest.marshal()) == attest
    assert read_quote(attest.marshal())[-2:] == (info.selections, info.pcr_digest)
    with pytest.raises(MalformedError, match="after the end"):
        parse_attest(attest.marshal() + b"\0")
    with pytest.raises(MalformedError, match="after the end"):
        read_quote(attest.marshal() + b"\0")


PLAIN: Final = TPMSAttest(
    TPM_GENERATED,
    TPMST.ATTEST_QUOTE,
    b"\x00\x0b" + bytes(32),
    bytes(range(32)),
    ClockInfo(1, 2, 3, safe=True),
    9,
    TPMSQuoteInfo((PCRSelection(HashAlg.SHA256, (0, 7)),), bytes(range(32, 64))),
).marshal()


def outcome(read: Callable[[bytes], object], data: bytes) -> object:
    """Return what a reader makes of bytes, or that they are malformed."""
    try:
        return read(data)
    except MalformedError:
        return MalformedError


@given(st.integers(0, len(PLAIN)), st.integers(0, 4), st.binary(max_size=4))
def test_the_step_that_reads_a_usual_quote_reads_what_the_reader_reads(
    at: int, removed: int, inserted: bytes
) -> None:
    """Whatever the bytes, the layout of nearly all quotes changes neither values nor refusals."""
    data = PLAIN[:at] + inserted + PLAIN[at + removed :]
    assert outcome(read_quote, data) == outcome(read_any_quote, data)


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255))
def test_a_usual_quote_with_one_byte_changed_is_read_alike(at: int, byte: int) -> None:
    """No length or count of the layout is taken on trust."""
    data = PLAIN[:at] + bytes((byte,)) + PLAIN[at + 1 :]
    assert outcome(read_quote, data) == outcome(read_any_quote, data)


def test_a_usual_quote_is_read_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quote of a P-256 or RSA key with a SHA-256 name never reaches the reader."""
    expected = read_any_quote(PLAIN)
    monkeypatch.setattr("bootlease.tpm.attest._read_any_quote", None)
    assert read_quote(PLAIN) == expected


USUAL_ECC: Final = ECC[:-7] + b"\x00\x20" + bytes(range(1, 33)) + b"\x00\x20" + bytes(range(33, 65))


@given(st.sampled_from([USUAL_ECC, RSA_EK[:-4] + USUAL_ECC[-68:], ECC]), st.data())
def test_the_step_that_reads_a_usual_key_reads_what_the_reader_reads(
    key: bytes, data: st.DataObject
) -> None:
    """Whatever the bytes, cutting off the point changes neither values nor refusals."""
    at = data.draw(st.integers(0, len(key)))
    removed, inserted = data.draw(
        st.tuples(st.integers(0, 4), st.binary(max_size=4))
        | st.tuples(st.just(1), st.binary(min_size=1, max_size=1))
    )
    changed = key[:at] + inserted + key[at + removed :]
    general = outcome(parse_any_public, changed)
    assert outcome(parse_public, changed) == general
    if general is not MalformedError:
        assert parse_public(changed).marshal() == changed


def test_a_usual_key_is_read_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of keys of one kind, only the first reaches the reader."""
    expected = parse_any_public(USUAL_ECC[:-1] + b"\xff")
    parse_public(USUAL_ECC)
    monkeypatch.setattr("bootlease.tpm.public._parse_any", None)
    assert parse_public(USUAL_ECC[:-1] + b"\xff") == expected
