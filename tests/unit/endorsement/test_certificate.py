"""Certificates: read as the library reads them, or malformed."""

from __future__ import annotations

import base64
import dataclasses
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.endorsement import (
    TrustedRoots,
    der,
    parse_certificate,
    parse_certificates,
)
from bootlease.endorsement.certificate import MAX_CERTIFICATE
from bootlease.errors import MalformedError
from bootlease.testing.handmade import (
    CA_EXTENSIONS,
    EK_EXTENSIONS,
    Handmade,
    alternative_name,
    common_name,
    extension,
    integer,
    key_usage,
    name,
    oid,
    sequence,
    tlv,
    utf8,
)
from bootlease.testing.local_ca import LocalCA

CA = LocalCA.create()
LEAF = CA.issue_ek_certificate(ec.generate_private_key(ec.SECP256R1()).public_key())
KEY = ec.generate_private_key(ec.SECP256R1())
HANDMADE = Handmade(KEY.public_key(), common_name("CA"))
SHA256, SHA384 = "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2"


def leaf(*extensions: bytes) -> bytes:
    """Return a certificate with these extensions."""
    made = Handmade(KEY.public_key(), common_name("CA"), extensions=extensions)
    return made.signed(KEY)


def test_a_certificate_is_read_as_the_library_reads_it() -> None:
    """Serial number, names, times and key are the same; what is signed too."""
    mine, theirs = parse_certificate(LEAF), x509.load_der_x509_certificate(LEAF)
    assert mine.signed == theirs.tbs_certificate_bytes
    assert int.from_bytes(mine.serial, "big") == theirs.serial_number
    assert (mine.issuer, mine.subject) == (
        theirs.issuer.public_bytes(),
        theirs.subject.public_bytes(),
    )
    assert mine.not_after == int(theirs.not_valid_after_utc.timestamp())
    assert mine.public_key == theirs.public_key()
    assert mine.issuer_text == "CN=Simulated TPM EK CA"


@pytest.mark.parametrize(
    "spoil",
    [
        extension("2.5.29.19", b"\x30\x03\x01\x01\x01"),
        extension("2.5.29.19", b"\x30\x03\x02\x01\xff"),
        extension("2.5.29.15", b"\x03\x01"),
        extension("2.5.29.37", sequence(b"\x05\x00")),
        extension("2.5.29.17", sequence(tlv(0xA4, b"\x30\x02\x31\x00"))),
        extension("2.5.29.17", b"\x30"),
        extension("2.5.29.9", b"\x31\x00"),
        sequence(b"\x06\x01\x2a", b"\x04\x00", b"\x04\x00"),
        tlv(0x31),
    ],
)
def test_an_extension_that_is_none_is_malformed(spoil: bytes) -> None:
    """What decides is read strictly."""
    with pytest.raises(MalformedError):
        parse_certificate(leaf(spoil))


def test_an_extension_that_is_there_twice_is_malformed() -> None:
    """Which of two would count is the reader's choice (RFC 5280 §4.2)."""
    with pytest.raises(MalformedError, match="twice"):
        parse_certificate(leaf(key_usage(4), key_usage(5)))


def test_a_make_is_stated_whole_and_once() -> None:
    """Two directory names, a part that is missing, is empty or does not print state nothing."""
    make = [("2.23.133.2.1", utf8("id:53544D20")), ("2.23.133.2.2", utf8("m"))]
    version = ("2.23.133.2.3", utf8("id:1"))
    nuvoton = alternative_name(directory=name([*make, version]))
    identity = parse_certificate(leaf(nuvoton)).identity
    assert identity is not None
    assert str(identity) == "STM/m/id:1"
    for directory in (
        name(make),
        name([*make, version, version]),
        name([*make, ("2.23.133.2.3", utf8(""))]),
        name([*make, ("2.23.133.2.3", utf8("a\nb"))]),
        name([*make, ("2.23.133.2.3", utf8("x" * 129))]),
        name([*make, ("2.23.133.2.3", tlv(0x04, b"id"))]),
    ):
        assert parse_certificate(leaf(alternative_name(directory=directory))).identity is None
    both = tlv(0xA4, name([*make, version]))
    twice = extension("2.5.29.17", sequence(both, both))
    assert parse_certificate(leaf(twice)).identity is None


def parts(data: bytes) -> list[bytes]:
    """Return the elements of a SEQUENCE."""
    inside = der.parse_one(data, der.SEQUENCE, "it").inside()
    return [each.encoded for each in inside.rest("it")]


def test_nothing_stands_behind_what_a_certificate_has() -> None:
    """Behind its signature, its extensions and their list: none of it would be read."""
    more = tlv(0x04, b"more")
    content, algorithm, signature = parts(HANDMADE.signed(KEY))
    with pytest.raises(MalformedError, match="the certificate has 6 bytes too many"):
        parse_certificate(sequence(content, algorithm, signature, more))
    *fields, extensions = parts(content)
    listed = der.parse_one(extensions, 0xA3, "it").value
    for spoilt, why in (
        (sequence(*fields, extensions, more), "the certificate's content has 6"),
        (sequence(*fields, tlv(0xA3, listed, more)), "the extensions has 6"),
    ):
        with pytest.raises(MalformedError, match=why):
            parse_certificate(sequence(spoilt, algorithm, signature))


def test_versions_that_there_are_not_are_malformed() -> None:
    """Neither a fourth one nor the first in words, extensions or not."""
    for version in (3, -1):
        made = dataclasses.replace(HANDMADE, version=version, extensions=())
        with pytest.raises(MalformedError, match="version that there is not"):
            parse_certificate(made.signed(KEY))


def test_two_statements_of_a_family_state_another() -> None:
    """Which of two would count is the reader's choice, so neither does."""
    stated = [
        sequence(oid("2.23.133.2.16"), tlv(0x31, sequence(utf8(family), integer(0))))
        for family in ("2.0", "1.2")
    ]
    for listed in (stated, stated[::-1]):
        parsed = parse_certificate(leaf(extension("2.5.29.9", sequence(*listed))))
        assert parsed.extensions.family == "?"


def with_key(encoded: bytes) -> bytes:
    """Return a certificate of this SubjectPublicKeyInfo."""
    return dataclasses.replace(HANDMADE, key_info=encoded).signed(KEY)


def test_a_key_in_another_form_is_malformed() -> None:
    """One form of a point, and of RSA keys those alone that can be computed with at once."""
    curve = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    with pytest.raises(MalformedError, match="uncompressed"):
        parse_certificate(with_key(sequence(curve, tlv(0x03, b"\0", point))))
    kind = sequence(oid("1.2.840.113549.1.1.1"), tlv(0x05, b""))
    for modulus, exponent in (((1 << 8192) + 1, 65537), ((1 << 2047) + 1, (1 << 33) + 1)):
        key = sequence(integer(modulus), integer(exponent))
        with pytest.raises(MalformedError, match="larger than any"):
            parse_certificate(with_key(sequence(kind, tlv(0x03, b"\0", key))))


@pytest.mark.parametrize(
    ("mask_hash", "trailer", "known"),
    [(SHA256, None, True), (SHA256, 1, True), (SHA256, 2, False), (SHA384, None, False)],
)
def test_a_scheme_of_rsassa_pss(mask_hash: str, trailer: int | None, *, known: bool) -> None:
    """One hash for all of it and the one trailer; what else there could be is not known."""
    parameters = sequence(
        tlv(0xA0, sequence(oid(SHA256))),
        tlv(0xA1, sequence(oid("1.2.840.113549.1.1.8"), sequence(oid(mask_hash)))),
        tlv(0xA2, integer(32)),
        b"" if trailer is None else tlv(0xA3, integer(trailer)),
    )
    made = dataclasses.replace(HANDMADE, algorithm="1.2.840.113549.1.1.10", parameters=parameters)
    scheme = parse_certificate(made.signed(KEY)).scheme
    assert (scheme is not None) is known
    if scheme is not None:
        assert (scheme.hash.name, scheme.salt) == ("sha256", 32)


def test_a_certificate_beyond_bounds_is_malformed() -> None:
    """Lengths are compared before anything is read."""
    with pytest.raises(MalformedError, match="more than"):
        parse_certificate(bytes(MAX_CERTIFICATE + 1))
    many = [extension(f"1.2.{arc}", b"") for arc in range(65)]
    with pytest.raises(MalformedError, match="more than 64"):
        parse_certificate(leaf(*many))


def pem(label: str, body: bytes) -> bytes:
    """Return a PEM block."""
    return f"-----BEGIN {label}-----\n".encode() + body + f"\n-----END {label}-----\n".encode()


def test_a_bundle_is_taken_apart() -> None:
    """Text around the blocks, blank lines, no newline at the end, one twice."""
    block = pem("CERTIFICATE", base64.b64encode(CA.intermediate_der))
    key = pem("PRIVATE KEY", b"AAAA")
    bundle = b"# STM\n" + block + b"text\r\n" + key + block.replace(b"\n", b"\r\n") + block.strip()
    assert parse_certificates(bundle) == (CA.intermediate_der,)
    assert parse_certificates(CA.intermediate_der + b"\xff" * 9) == (CA.intermediate_der,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\n",
        pem("CERTIFICATE", b"!!!!"),
        pem("CERTIFICATE", b"AAA"),
        pem("CERTIFICATE", b""),
        pem("X509 CRL", b"MAA="),
        pem("CERTIFICATE", base64.b64encode(CA.intermediate_der))
        + b"-----BEGIN CERTIFICATE-----\n",
    ],
)
def test_a_bundle_that_is_damaged_is_malformed(data: bytes) -> None:
    """Nothing is left out silently."""
    with pytest.raises(MalformedError):
        parse_certificates(data)


def test_a_block_of_nothing_but_blanks_is_refused_at_once() -> None:
    """Each blank is looked at once: twice as many must not take four times as long."""
    with pytest.raises(MalformedError, match="does not end"):
        parse_certificates(b"-----BEGIN CERTIFICATE-----" + b"\n" * (1 << 20))


def test_a_root_is_filed_under_its_fingerprint() -> None:
    """A set with another certificate in a name's place cannot be made."""
    with pytest.raises(ValueError, match="fingerprint"):
        TrustedRoots({bytes(32): CA.intermediate_der})


def test_handmade_certificates_are_the_librarys_too() -> None:
    """What other tests deviate from is sound."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for extensions in (EK_EXTENSIONS, CA_EXTENSIONS):
            made = Handmade(KEY.public_key(), common_name("CA"), common_name("x"), extensions)
            theirs = x509.load_der_x509_certificate(made.signed(KEY))
            assert len(theirs.extensions) == len(extensions)


@given(st.data())
def test_a_damaged_certificate_is_malformed_or_another(data: st.DataObject) -> None:
    """Whatever byte is changed, the answer is the one error or a certificate."""
    der = bytearray(LEAF)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse_certificate(bytes(der))
    except MalformedError:
        return
    assert len(parsed.fingerprint) == 32


@settings(max_examples=500)
@given(st.data())
def test_a_damaged_certificate_is_read_as_the_library_reads_it(data: st.DataObject) -> None:
    """What both can read, both read alike: nobody is told another story by the same bytes."""
    der = bytearray(LEAF)
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        mine = parse_certificate(bytes(der))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = x509.load_der_x509_certificate(bytes(der))
            key, extensions = theirs.public_key(), theirs.extensions
    except Exception:  # noqa: BLE001 - the library raises a dozen kinds
        return
    assert mine.signed == theirs.tbs_certificate_bytes
    assert mine.public_key is None or mine.public_key == key
    basic = [e.value for e in extensions if isinstance(e.value, x509.BasicConstraints)]
    assert mine.is_ca == any(each.ca for each in basic)
    purposes = [e.value for e in extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
    assert mine.extensions.extended_key_usage == (
        frozenset(each.dotted_string for each in purposes[0]) if purposes else None
    )


@given(st.binary(max_size=512))
def test_random_bytes_are_malformed(data: bytes) -> None:
    """The parsers raise MalformedError and nothing else."""
    for parse in (parse_certificate, parse_certificates):
        with pytest.raises(MalformedError):
            parse(data)
