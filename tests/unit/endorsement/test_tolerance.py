"""What vendors get wrong: each deviation by its name, and the signature over the original bytes."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.endorsement import (
    Tolerance,
    TrustedRoots,
    VerifiedEndorsement,
    parse_certificate,
    verify_ek_chain,
)
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Effect
from bootlease.testing.handmade import (
    CA_EXTENSIONS,
    ECDSA_SHA1,
    EK_EXTENSIONS,
    NULL,
    RSAES_OAEP,
    Handmade,
    alternative_name,
    basic_constraints,
    common_name,
    endorsement_key,
    extended_key_usage,
    key_usage,
    name,
    oid,
    sequence,
    tlv,
    utf8,
)

NOW = 1_700_000_000
CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME = common_name("Handmade CA")
CA = Handmade(CA_KEY.public_key(), CA_NAME, CA_NAME, CA_EXTENSIONS).signed(CA_KEY)
EK = ec.generate_private_key(ec.SECP256R1()).public_key()
LEAF = Handmade(EK, CA_NAME)
FRAME = bytes.fromhex("100100") + b"%b" + bytes.fromhex("1002")


def verify(leaf: bytes, *, root: bytes = CA, key: object = EK) -> VerifiedEndorsement:
    """Verify a chain of one certificate."""
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return verify_ek_chain([leaf], TrustedRoots.of([root]), endorsement_key(key), now=NOW)


def framed(certificate: bytes) -> bytes:
    """Return a certificate as an STM TPM's NV index holds it."""
    return FRAME % (len(certificate) + 2).to_bytes(2, "big") + certificate


def unsorted_name() -> bytes:
    """Return a name whose one part has its attributes in Nuvoton's order."""
    return name([("2.5.4.10", utf8("Handmade")), ("2.5.4.6", utf8("TW", 0x13))])


def test_a_sound_certificate_tolerates_nothing() -> None:
    """What is right leaves no note."""
    verified = verify(LEAF.signed(CA_KEY))
    assert verified.notes == ()
    assert verified.endorsement.tolerated == frozenset()


def sound() -> bytes:
    """Return a sound EK certificate."""
    return LEAF.signed(CA_KEY)


@pytest.mark.parametrize(
    ("tolerance", "leaf"),
    [
        (Tolerance.NV_FRAME, lambda: framed(sound())),
        (Tolerance.PADDING, lambda: sound() + b"\xff" * 300),
        (Tolerance.PADDING, lambda: sound() + b"\x11"),
        (
            Tolerance.SET_ORDER,
            lambda: dataclasses.replace(LEAF, subject=unsorted_name()).signed(CA_KEY),
        ),
        (
            Tolerance.ECDSA_PARAMETERS,
            lambda: dataclasses.replace(LEAF, parameters=NULL).signed(CA_KEY),
        ),
        (
            Tolerance.NO_KEY_USAGE,
            lambda: dataclasses.replace(LEAF, extensions=EK_EXTENSIONS[:3]).signed(CA_KEY),
        ),
        (
            Tolerance.SHA1_SIGNATURE,
            lambda: dataclasses.replace(LEAF, algorithm=ECDSA_SHA1).signed(CA_KEY),
        ),
    ],
)
def test_each_deviation_is_told_alone(tolerance: Tolerance, leaf: object) -> None:
    """One thing wrong is one note, by a name that stays, in the record too."""
    assert callable(leaf)
    verified = verify(leaf())
    assert [(note.id, note.effect) for note in verified.notes] == [
        (f"endorsement.tolerated.{tolerance.value}", Effect.NOTES)
    ]
    assert verified.endorsement.tolerated == {tolerance}
    endorsement = verified.endorsement
    assert type(endorsement).from_wire(endorsement.wire()) == endorsement


def test_an_rsa_key_for_oaep_alone_is_told() -> None:
    """STM and Nuvoton named EKs so; the key is an RSA key all the same."""
    key = rsa.generate_private_key(65537, 2048).public_key()
    plain = Handmade(key, CA_NAME).signed(CA_KEY)
    bits = parse_certificate(plain).key_info[-275:]
    oaep = sequence(sequence(oid(RSAES_OAEP), sequence()), bits)
    assert bits[0] == 0x03
    extensions = (*EK_EXTENSIONS[:3], key_usage(2))
    leaf = Handmade(key, CA_NAME, extensions=extensions, key_info=oaep).signed(CA_KEY)
    verified = verify(leaf, key=key)
    assert verified.endorsement.tolerated == {Tolerance.OAEP_KEY}


def test_frame_and_padding_do_not_make_another_certificate() -> None:
    """What nobody signs is no part of what is named (B12)."""
    plain, wrapped = sound(), b""
    wrapped = framed(plain) + b"\xff" * 17
    assert parse_certificate(wrapped).fingerprint == parse_certificate(plain).fingerprint
    assert parse_certificate(wrapped).tolerated == {Tolerance.NV_FRAME, Tolerance.PADDING}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda der: der + b"\xff\xfe",
        lambda der: der + der,
        lambda der: b"\x10\x01\x01" + framed(der)[3:],
        lambda der: framed(der)[:5] + b"\x10\x03" + der,
        lambda der: framed(der)[:4] + b"\0" + framed(der)[5:],
        lambda der: framed(der)[:7],
        lambda der: framed(framed(der)),
        lambda der: b"\xff" + der,
        lambda der: der[:-1],
    ],
)
def test_what_is_framed_or_padded_otherwise_is_malformed(spoil: object) -> None:
    """A tolerance is as narrow as what it was made for."""
    assert callable(spoil)
    with pytest.raises(MalformedError):
        parse_certificate(spoil(sound()))


def test_a_tolerated_name_is_covered_by_the_signature() -> None:
    """Sorting it, as a re-encoder would, is a change that the signature finds (B13)."""
    leaf = dataclasses.replace(LEAF, subject=unsorted_name()).signed(CA_KEY)
    parts = [
        sequence(oid("2.5.4.10"), utf8("Handmade")),
        sequence(oid("2.5.4.6"), utf8("TW", 0x13)),
    ]
    unsorted, repaired = (tlv(0x31, *order) for order in (parts, parts[::-1]))
    assert leaf.count(unsorted) == 1
    mended = leaf.replace(unsorted, repaired)
    assert Tolerance.SET_ORDER not in parse_certificate(mended).tolerated
    with pytest.raises(VerificationError) as refused:
        verify(mended)
    assert [each.id for each in refused.value.findings] == ["endorsement.chain.untrusted"]


def test_every_byte_that_is_signed_counts() -> None:
    """Whatever byte of a deviating certificate's content is changed, it endorses nothing (B13)."""
    leaf = dataclasses.replace(LEAF, subject=unsorted_name()).signed(CA_KEY)
    signed = parse_certificate(leaf).signed
    start = leaf.index(signed)
    for place in range(start, start + len(signed)):
        changed = leaf[:place] + bytes([leaf[place] ^ 1]) + leaf[place + 1 :]
        with pytest.raises((MalformedError, VerificationError)):
            verify(changed)


def test_sha1_under_a_pinned_issuer_is_not_relied_on() -> None:
    """What is pinned is trusted as it is: its own signature proves nothing to anybody."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = common_name("Root")
    middle = Handmade(CA_KEY.public_key(), root_name, CA_NAME, CA_EXTENSIONS, ECDSA_SHA1)
    root = Handmade(root_key.public_key(), root_name, root_name, CA_EXTENSIONS).signed(root_key)
    signed = middle.signed(root_key)
    assert verify(sound(), root=signed).endorsement.tolerated == frozenset()
    chain = [sound(), signed]
    below = verify_ek_chain(chain, TrustedRoots.of([root]), endorsement_key(EK), now=NOW)
    assert below.endorsement.tolerated == {Tolerance.SHA1_SIGNATURE}


def test_nothing_else_is_tolerated() -> None:
    """A name with an empty part, two makes in one name, a NULL that holds something."""
    empty = sequence(tlv(0x31))
    double = name([("2.23.133.2.1", utf8("id:53544D20")), ("2.23.133.2.1", utf8("id:4E544300"))])
    for leaf in (
        dataclasses.replace(LEAF, subject=empty),
        dataclasses.replace(LEAF, parameters=b"\x05\x01\x00"),
        dataclasses.replace(LEAF, parameters=NULL + NULL),
        dataclasses.replace(LEAF, inner_algorithm=sequence(oid(ECDSA_SHA1))),
        dataclasses.replace(LEAF, extensions=(*EK_EXTENSIONS, extended_key_usage())),
        dataclasses.replace(LEAF, version=1),
    ):
        with pytest.raises(MalformedError):
            verify(leaf.signed(CA_KEY))
    twice = (alternative_name(directory=double), *EK_EXTENSIONS[1:])
    with pytest.raises(VerificationError, match="does not name"):
        verify(dataclasses.replace(LEAF, extensions=twice).signed(CA_KEY))
    assert basic_constraints() in CA
