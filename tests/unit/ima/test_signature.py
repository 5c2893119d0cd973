"""Signatures of measured files, and the keys that count."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections.abc import Callable
from functools import cache
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from bootlease.errors import MalformedError, VerificationError
from bootlease.ima import (
    FileSigner,
    FileSigners,
    VerifiedSignature,
    parse_file_signature,
    verify_signature,
)
from bootlease.ima.entry import parse_template_data
from bootlease.ima.modsig import MAX_SIGNERS, parse_modsig
from bootlease.model import HashAlg
from bootlease.testing.handmade import integer, oid, sequence, tlv
from bootlease.testing.ima_list import field
from bootlease.testing.ima_templates import (
    SigningKey,
    evm_sig,
    ima_modsig,
    ima_ng,
    ima_ngv2,
    ima_sig,
    key_id,
    portable_digest,
    sign_file,
)

CONTENT = b"#!/bin/sh\n"
DIGEST = hashlib.sha256(CONTENT).digest()
FILE = ima_ng(b"/bin/x", DIGEST)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """A key of the operator."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """Another key of the operator."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def strange_key() -> ec.EllipticCurvePrivateKey:
    """A key that nobody gave."""
    return ec.generate_private_key(ec.SECP256R1())


KEYS: Final[dict[str, Callable[[], SigningKey]]] = {
    "rsa": rsa_key,
    "ec": ec_key,
    "strange": strange_key,
}


def spki(key: SigningKey) -> bytes:
    """The DER of a public key."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def signers() -> FileSigners:
    """The keys that count."""
    return FileSigners(
        [FileSigner.of_key("rsa", spki(rsa_key())), FileSigner.of_key("ec", spki(ec_key()))]
    )


def verify(template: str, data: bytes) -> VerifiedSignature:
    """Verify what an entry carries."""
    return verify_signature(parse_template_data(template.encode(), data), signers())


def refused(template: str, data: bytes) -> list[str]:
    """What is found where no signature verifies."""
    with pytest.raises(VerificationError) as caught:
        verify(template, data)
    return [finding.id.removeprefix("ima.signature.") for finding in caught.value.findings]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["rsa", "ec"])
def test_a_signed_file(name: str, version: int) -> None:
    """A signature over the measured digest, or over its file id, by a given key."""
    key = rsa_key() if name == "rsa" else ec_key()
    data = ima_sig(FILE, sign_file(key, DIGEST, version=version))
    assert verify("ima-sig", data) == VerifiedSignature(name, HashAlg.SHA256)


@pytest.mark.parametrize("alg", ["sha384", "sha512"])
def test_other_hashes(alg: str) -> None:
    """The signature's hash is the one that the file was measured by."""
    digest = hashlib.new(alg, CONTENT).digest()
    data = ima_sig(ima_ng(b"/x", digest, alg), sign_file(ec_key(), digest, alg=alg))
    assert verify("ima-sig", data).alg.label == alg


def test_a_signed_verity_digest() -> None:
    """A signature over an fs-verity digest, which only version 3 has."""
    data = ima_ngv2(b"/x", DIGEST, kind="verity")
    signed = ima_sig(data, sign_file(ec_key(), DIGEST, kind=6, version=3))
    assert verify("ima-sigv2", signed).signer == "ec"
    old = ima_sig(data, sign_file(ec_key(), DIGEST, kind=6, version=2))
    assert refused("ima-sigv2", old) == ["malformed"]


def test_a_file_and_its_verity_digest_are_not_signed_alike() -> None:
    """E11: a signature over one kind of digest says nothing of another kind."""
    verity = ima_ngv2(b"/x", DIGEST, kind="verity")
    as_file = sign_file(ec_key(), DIGEST, version=2)
    assert refused("ima-sigv2", ima_sig(verity, as_file)) == ["other-digest"]
    as_verity = sign_file(ec_key(), DIGEST, kind=6, version=3)
    assert refused("ima-sig", ima_sig(FILE, as_verity)) == ["other-digest"]


def test_a_signature_under_another_hash() -> None:
    """E11: the digest was made by one algorithm, the signature is for another."""
    data = ima_sig(ima_ng(b"/x", DIGEST, "sm3"), sign_file(ec_key(), DIGEST))
    assert refused("ima-sig", data) == ["other-digest"]


def test_a_file_without_signature() -> None:
    """E9: an empty signature field is no signature."""
    assert refused("ima-sig", ima_sig(FILE, b"")) == ["missing"]
    assert refused("ima-ng", FILE) == ["missing"]


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_a_signature_of_another_file(key: str) -> None:
    """E9: a genuine signature, copied from another file, does not verify."""
    made = sign_file(rsa_key() if key == "rsa" else ec_key(), bytes(32))
    assert refused("ima-sig", ima_sig(FILE, made)) == ["invalid"]


def test_a_key_that_nobody_gave() -> None:
    """E9: a signature that verifies, by a key in no list."""
    assert refused("ima-sig", ima_sig(FILE, sign_file(strange_key(), DIGEST))) == ["unknown-key"]


def test_a_key_id_that_lies() -> None:
    """E9: four bytes name a key, they do not prove it."""
    signature = bytearray(sign_file(strange_key(), DIGEST))
    signature[3:7] = key_id(ec_key())
    assert refused("ima-sig", ima_sig(FILE, bytes(signature))) == ["invalid"]


def test_two_keys_with_one_id() -> None:
    """Of several keys with a signature's id each is tried."""
    same = key_id(ec_key())
    both = FileSigners(
        FileSigner(name, key.public_key(), frozenset({same}))
        for name, key in (("first", strange_key()), ("second", ec_key()))
    )
    measured = parse_template_data(b"ima-sig", ima_sig(FILE, sign_file(ec_key(), DIGEST)))
    assert verify_signature(measured, both).signer == "second"


def test_sha1() -> None:
    """A signature over a SHA-1 can be made for two files."""
    digest = HashAlg.SHA1.digest(CONTENT)
    data = ima_sig(ima_ng(b"/x", digest, "sha1"), sign_file(rsa_key(), digest, alg="sha1"))
    assert refused("ima-sig", data) == ["weak-hash"]


XATTRS = {b"security.selinux": b"label\0", b"security.ima": b"\4\4" + DIGEST}
OWNER = (0, 0, 0o100755)


def portable(
    xattrs: dict[bytes, bytes] = XATTRS, owner: tuple[int, int, int] = OWNER, version: int = 2
) -> bytes:
    """A portable signature."""
    return sign_file(ec_key(), portable_digest(xattrs, owner), kind=5, version=version)


@pytest.mark.parametrize("version", [2, 3])
def test_a_portable_signature(version: int) -> None:
    """Owner, mode and extended attributes are signed too, the file's digest among them."""
    data = evm_sig(b"/x", DIGEST, portable(version=version), XATTRS, OWNER)
    assert verify("evm-sig", data) == VerifiedSignature("ec", HashAlg.SHA256, portable=True)


def test_other_attributes() -> None:
    """A portable signature does not verify for another owner, mode or label."""
    for owner in ((1, 0, 0o100755), (0, 1, 0o100755), (0, 0, 0o104755)):
        data = evm_sig(b"/x", DIGEST, portable(), XATTRS, owner)
        assert refused("evm-sig", data) == ["invalid"]
    other = XATTRS | {b"security.selinux": b"other\0"}
    assert refused("evm-sig", evm_sig(b"/x", DIGEST, portable(), other, OWNER)) == ["invalid"]


def test_a_portable_signature_of_other_content() -> None:
    """E9: signed attributes that name another digest, or none, leave the content unsigned."""
    data = evm_sig(b"/x", bytes(32), portable(), XATTRS, OWNER)
    assert refused("evm-sig", data) == ["other-digest"]
    without = {b"security.selinux": b"label\0"}
    data = evm_sig(b"/x", DIGEST, portable(without), without, OWNER)
    assert refused("evm-sig", data) == ["other-digest"]
    for value in (b"", b"\4", b"\1" + DIGEST[:20], b"\4\5" + DIGEST):
        odd = XATTRS | {b"security.ima": value}
        data = evm_sig(b"/x", DIGEST, portable(odd), odd, OWNER)
        assert refused("evm-sig", data) == ["other-digest"]


def test_a_portable_signature_without_its_attributes() -> None:
    """Where the template lacks what is signed, nothing can be verified."""
    assert refused("ima-sig", ima_sig(FILE, portable())) == ["unverifiable"]


@cache
def certificate(key_name: str, *, identifier: bytes | None = None) -> x509.Certificate:
    """A self-signed certificate of a key."""
    key = KEYS[key_name]()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, key_name)])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
    )
    if identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
    return builder.sign(key, hashes.SHA256())


def pkcs7_of(
    key_name: str, content: bytes = CONTENT, *, attributes: bool = False, detached: bool = True
) -> bytes:
    """An appended signature, as ``sign-file`` writes it."""
    key = KEYS[key_name]()
    options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts]
    if detached:
        options.append(pkcs7.PKCS7Options.DetachedSignature)
    if not attributes:
        options.append(pkcs7.PKCS7Options.NoAttributes)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    builder = builder.add_signer(certificate(key_name), key, hashes.SHA256())
    return builder.sign(Encoding.DER, options)


def modsig(signature: bytes, content: bytes = DIGEST) -> bytes:
    """The data of a file with an appended signature."""
    return ima_modsig(b"/x.ko", bytes(32), content, signature)


@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_an_appended_signature(key: str, *, attributes: bool) -> None:
    """It is over the content before it, directly or through signed attributes."""
    data = modsig(pkcs7_of(key, attributes=attributes))
    assert verify("ima-modsig", data) == VerifiedSignature(key, HashAlg.SHA256)


@pytest.mark.parametrize("attributes", [False, True])
def test_an_appended_signature_of_other_content(*, attributes: bool) -> None:
    """E9: a genuine one, appended to another file, does not verify."""
    data = modsig(pkcs7_of("ec", b"other", attributes=attributes))
    assert set(refused("ima-modsig", data)) == {"invalid"}


def test_an_appended_signature_by_a_key_that_nobody_gave() -> None:
    """E9: certificates within, or none, make no difference."""
    assert refused("ima-modsig", modsig(pkcs7_of("strange"))) == ["invalid"]


def test_an_appended_signature_over_another_kind_of_digest() -> None:
    """The digest of the content must be of the signature's hash."""
    fields = (b"", b"sm3:\0" + DIGEST, pkcs7_of("ec"))
    data = ima_ng(b"/x.ko", bytes(32)) + b"".join(map(field, fields))
    assert refused("ima-modsig", data) == ["other-digest"]


def test_malformed_appended_signatures() -> None:
    """What is no detached PKCS#7 is found malformed."""
    good = pkcs7_of("ec")
    for bad in (b"x", good[:-1], good + b"\0", pkcs7_of("ec", detached=False), b"0" * 70_000):
        with pytest.raises(MalformedError):
            parse_modsig(bad)
        assert refused("ima-modsig", modsig(bad)) == ["malformed"]


@pytest.mark.parametrize(("count", "sound"), [(0, False), (1, True), (2, False)])
def test_signed_attributes_have_one_message_digest(count: int, *, sound: bool) -> None:
    """Of two, which of them counts would be the reader's choice; without one, none would."""
    digest = sequence(oid("1.2.840.113549.1.9.4"), tlv(0x31, tlv(0x04, DIGEST)))
    signer = sequence(
        integer(1),
        sequence(),
        sequence(oid("2.16.840.1.101.3.4.2.1")),
        tlv(0xA0, sequence(oid("1.2.3"), tlv(0x31)), *[digest] * count),
        sequence(),
        tlv(0x04, b"signature"),
    )
    data = sequence(oid("1.2.840.113549.1.7.1"))
    signed = sequence(integer(1), tlv(0x31), data, tlv(0x31, signer))
    message = sequence(oid("1.2.840.113549.1.7.2"), tlv(0xA0, signed))
    if sound:
        assert parse_modsig(message)[0].message_digest == DIGEST
        return
    with pytest.raises(MalformedError, match="one message digest"):
        parse_modsig(message)


def test_one_good_signature_is_enough() -> None:
    """Of several, the first that verifies counts; where none does, each says why."""
    good = sign_file(ec_key(), bytes(32))
    bad = sign_file(strange_key(), bytes(32))
    appended = pkcs7_of("strange")
    both = ima_modsig(b"/x", bytes(32), DIGEST, pkcs7_of("rsa"), bad)
    assert verify("ima-modsig", both).signer == "rsa"
    assert verify("ima-modsig", ima_modsig(b"/x", bytes(32), DIGEST, appended, good)).signer == "ec"
    neither = ima_modsig(b"/x", bytes(32), DIGEST, appended, bad)
    assert refused("ima-modsig", neither) == ["unknown-key", "invalid"]


GOOD = sign_file(ec.derive_private_key(7, ec.SECP256R1()), DIGEST)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:9],
        GOOD[:-1],
        GOOD + b"\0",
        b"\1" + GOOD[1:],
        b"\4\4" + DIGEST,
        GOOD[:1] + b"\1" + GOOD[2:],
        GOOD[:1] + b"\4" + GOOD[2:],
        b"\3\2\4" + bytes(4) + b"\x10\0" + bytes(4096),
    ],
    ids=itertools.count(),
)
def test_malformed_signatures(data: bytes) -> None:
    """A value that is no signature of version 2 or 3 to the last byte is malformed."""
    with pytest.raises(MalformedError):
        parse_file_signature(data)
    if data:
        assert refused("ima-sig", ima_sig(FILE, data)) == ["malformed"]


def test_what_a_signature_says() -> None:
    """Type, version, hash, key id and the signature itself."""
    parsed = parse_file_signature(sign_file(rsa_key(), DIGEST))
    assert (parsed.type.name, parsed.version, parsed.alg) == ("FILE", 2, HashAlg.SHA256)
    assert parsed.key_id == key_id(rsa_key())
    assert len(parsed.signature) == 256


def test_a_signer_from_a_certificate() -> None:
    """The key counts under its own id and under the certificate's, whenever it expired."""
    other = certificate("ec", identifier=b"chosen id")
    signer = FileSigner.of_certificate("cert", other.public_bytes(Encoding.DER))
    assert signer.key_ids == {key_id(ec_key()), b"n id"}
    plain = FileSigner.of_certificate("cert", certificate("ec").public_bytes(Encoding.DER))
    assert plain.key_ids == {key_id(ec_key())}


def test_keys_that_cannot_count() -> None:
    """Neither a short RSA key, nor one of another kind, nor something that is no key."""
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - is what must be refused
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    encoded = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    weak = ec.generate_private_key(ec.SECP192R1())
    cases = (
        (spki(short), "1024"),
        (spki(weak), "192"),
        (encoded, "neither"),
        (b"x", "cannot be read"),
    )
    for data, message in cases:
        with pytest.raises(MalformedError, match=message):
            FileSigner.of_key("bad", data)
    with pytest.raises(MalformedError, match="cannot be read"):
        FileSigner.of_certificate("bad", b"x")


def test_many_signers_of_one_file() -> None:
    """An appended signature by more than a handful of signers is malformed, and not tried."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(CONTENT)
    for _ in range(MAX_SIGNERS + 1):
        builder = builder.add_signer(certificate("ec"), ec_key(), hashes.SHA256())
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.NoAttributes]
    with pytest.raises(MalformedError, match="more than 16"):
        parse_modsig(builder.sign(Encoding.DER, [*options, pkcs7.PKCS7Options.Binary]))
