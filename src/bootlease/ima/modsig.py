"""Signatures appended to files, as kernel modules carry them: PKCS#7 without its content.

Specifications: RFC 5652 (CMS) §5.1 SignedData, §5.3 SignerInfo, §5.4 (what is signed), §11.2
(messageDigest); Linux ``security/integrity/ima/ima_modsig.c`` (the content is the file without
signature, marker and trailer; its digest is the field ``d-modsig``).

    ContentInfo ::= SEQUENCE { OID signedData, [0] EXPLICIT SignedData }
    SignedData  ::= SEQUENCE { version, SET OF digestAlgorithm, encapContentInfo,
                               [0] certificates OPTIONAL, [1] crls OPTIONAL, SET OF SignerInfo }
    SignerInfo  ::= SEQUENCE { version, sid, digestAlgorithm, [0] signedAttrs OPTIONAL,
                               signatureAlgorithm, signature, [1] unsignedAttrs OPTIONAL }

Deliberately not handled: certificates within (only keys that are given count), signatures other
than RSA with PKCS #1 v1.5 and ECDSA, BER.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.endorsement import der
from bootlease.errors import MalformedError
from bootlease.model import HashAlg

MAX_MODSIG: Final = 64 * 1024
"""A dozen signatures with their certificates; the kernel's own has one and none."""

MAX_SIGNERS: Final = 16

_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_DATA: Final = "1.2.840.113549.1.7.1"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_CONTEXT_0: Final = 0xA0
_CONTEXT_1: Final = 0xA1
_SKI: Final = 0x80

_DIGESTS: Final = {
    "2.16.840.1.101.3.4.2.1": HashAlg.SHA256,
    "2.16.840.1.101.3.4.2.2": HashAlg.SHA384,
    "2.16.840.1.101.3.4.2.3": HashAlg.SHA512,
    "2.16.840.1.101.3.4.2.8": HashAlg.SHA3_256,
    "2.16.840.1.101.3.4.2.9": HashAlg.SHA3_384,
    "2.16.840.1.101.3.4.2.10": HashAlg.SHA3_512,
    "1.3.14.3.2.26": HashAlg.SHA1,
    "1.2.156.10197.1.401": HashAlg.SM3_256,
}


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signature of a file, unverified.

    Attributes:
        alg: Hash of the file's content and of the signed attributes, ``None`` for another.
        attributes: DER of the signed attributes as it was signed, empty where there are none.
        message_digest: What the attributes say the content's digest is.
        signature: The signature.
    """

    alg: HashAlg | None
    attributes: bytes
    message_digest: bytes
    signature: bytes


def parse_modsig(data: bytes) -> tuple[SignerInfo, ...]:
    """Read a detached PKCS#7 signature.

    Args:
        data: Unverified DER.

    Raises:
        MalformedError: It is none, or has content of its own.
    """
    if len(data) > MAX_MODSIG:
        raise MalformedError(f"an appended signature of more than {MAX_MODSIG} bytes")
    outer = der.parse_one(data, der.SEQUENCE, "the appended signature").inside()
    content_type = outer.take(der.OID, "its content type")
    if der.object_identifier(content_type, "its content type") != _SIGNED_DATA:
        raise MalformedError("the appended signature is no PKCS#7 SignedData")
    wrapped = outer.take(_CONTEXT_0, "its content").inside()
    outer.finish("the appended signature")
    signed = wrapped.take(der.SEQUENCE, "its SignedData").inside()
    wrapped.finish("its content")
    signed.take(der.INTEGER, "its version")
    signed.take(der.SET, "its digest algorithms")
    _check_detached(signed.take(der.SEQUENCE, "its encapsulated content"))
    signed.optional(_CONTEXT_0, "its certificates")
    signed.optional(_CONTEXT_1, "its revocation lists")
    infos = signed.take(der.SET, "its signers")
    signed.finish("its SignedData")
    signers: list[SignerInfo] = []
    for element in infos.inside().rest("a signer"):
        if len(signers) == MAX_SIGNERS:
            raise MalformedError(f"an appended signature by more than {MAX_SIGNERS} signers")
        signers.append(_signer_info(element))
    if not signers:
        raise MalformedError("an appended signature by nobody")
    return tuple(signers)


def _check_detached(content: der.Element) -> None:
    reader = content.inside()
    kind = reader.take(der.OID, "the content's type")
    if der.object_identifier(kind, "the content's type") != _DATA:
        raise MalformedError("an appended signature over something other than data")
    reader.finish("the content, which is the file and not in the signature,")


def _signer_info(element: der.Element) -> SignerInfo:
    if element.tag != der.SEQUENCE:
        raise MalformedError("a signer that is no SignerInfo")
    reader = element.inside()
    reader.take(der.INTEGER, "a signer's version")
    sid = reader.any("a signer's identifier")
    if sid.tag not in (der.SEQUENCE, _SKI):
        raise MalformedError("a signer identified neither by its certificate nor by its key")
    alg = _algorithm(reader.take(der.SEQUENCE, "a signer's digest algorithm"))
    attributes = reader.optional(_CONTEXT_0, "signed attributes")
    reader.take(der.SEQUENCE, "a signature algorithm")
    signature = reader.take(der.OCTET_STRING, "a signature").value
    reader.optional(_CONTEXT_1, "unsigned attributes")
    reader.finish("a signer")
    if attributes is None:
        return SignerInfo(alg, b"", b"", signature)
    # §5.4: what is signed has the tag of a SET where the message has [0].
    signed = bytes([der.SET]) + attributes.encoded[1:]
    return SignerInfo(alg, signed, _message_digest(attributes), signature)


def _algorithm(element: der.Element) -> HashAlg | None:
    oid = element.inside().take(der.OID, "a digest algorithm")
    return _DIGESTS.get(der.object_identifier(oid, "a digest algorithm"))


def _message_digest(attributes: der.Element) -> bytes:
    found = []
    for element in attributes.inside().rest("a signed attribute"):
        if element.tag != der.SEQUENCE:
            raise MalformedError("a signed attribute that is none")
        reader = element.inside()
        oid = der.object_identifier(reader.take(der.OID, "an attribute's type"), "an attribute")
        values = reader.take(der.SET, "an attribute's values").inside()
        if oid == _MESSAGE_DIGEST:
            found.append(values.take(der.OCTET_STRING, "the message digest").value)
            values.finish("the message digest")
    if len(found) != 1:
        raise MalformedError("signed attributes have one message digest")
    return found[0]
