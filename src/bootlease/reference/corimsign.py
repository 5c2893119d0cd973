"""Signed CoRIM: a COSE_Sign1 around an unsigned one.

Specification: draft-ietf-rats-corim-11, ``signed-corim``, ``protected-corim-header-map`` and
``corim-meta-map``; RFC 9052 §4.2 and §4.4; RFC 9597 (CWT claims in headers). Written is
``18([<< {1: alg, 3: "application/rim+cbor", 4: key id, 8: << {0: {0: signer}} >>} >>, {},
<< 501(…) >>, signature])``.

The key comes from the operator, never from the message. The unprotected header is nobody's word and
is not read.

Not handled, and refused: a payload that is detached or only hashed (258), ``crit``, signature
algorithms other than those of tokens, and times with fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bootlease import cbor
from bootlease.cbor import CBORTag
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.reference.corim import MAX_CORIM
from bootlease.token import base64url
from bootlease.token.cose import ALG, CRIT, KID, to_be_signed
from bootlease.token.keys import Signer, VerificationKey

CONTENT_TYPE: Final = "application/rim+cbor"
MAX_SIGNER_NAME: Final = 256
_SIGN1: Final = 18
_TYPE, _META, _CWT_CLAIMS, _HASH_ENVELOPE = 3, 8, 15, 258
_MAX_PROTECTED: Final = 64 * 1024
_TIME: Final = 1
_TAGS: Final = frozenset({_SIGN1})
_META_TAGS: Final = frozenset({_TIME, 32})
_FRAME: Final = 64 * 1024
_MAX_ITEMS: Final = 4096
"""Items around the payload, which is a string and counts as one."""


@dataclass(frozen=True, slots=True)
class SignedCoRIM:
    """A signed CoRIM, unverified.

    Attributes:
        protected: Encoded protected header.
        algorithm: COSE id of the signature's algorithm.
        signer: Who is said to have signed: a name of ``corim-meta``, or the issuer.
        not_before: First second at which the signature counts, if limited.
        not_after: Last second at which it counts, if limited.
        payload: The unsigned CoRIM.
        signature: The signature.
    """

    protected: bytes
    algorithm: int
    signer: str
    not_before: int | None
    not_after: int | None
    payload: bytes
    signature: bytes


def sign_corim(payload: bytes, signer: Signer, *, name: str) -> bytes:
    """Sign an unsigned CoRIM.

    Args:
        payload: What ``encode_corim`` made.
        signer: The key.
        name: What people call whoever signs.

    Raises:
        ValueError: The name is empty, too long or not printable.
    """
    if not 0 < len(name) <= MAX_SIGNER_NAME or not name.isprintable():
        raise ValueError(f"the signer's name has 1 to {MAX_SIGNER_NAME} printable characters")
    protected = cbor.encode(
        {
            ALG: signer.algorithm.cose_id,
            _TYPE: CONTENT_TYPE,
            KID: base64url.decode(signer.key_id),
            _META: cbor.encode({0: {0: name}}),
        }
    )
    signature = signer.sign(to_be_signed(protected, payload))
    return cbor.encode(CBORTag(_SIGN1, [protected, {}, payload, signature]), tags=_TAGS)


def is_signed(data: bytes) -> bool:
    """Tell whether the bytes begin as a signed CoRIM does: what to ask for a key for."""
    return data[:1] == b"\xd2"


def parse_signed_corim(data: bytes) -> SignedCoRIM:
    """Parse a signed CoRIM, whose payload says nothing until ``verify_corim`` proves its signature.

    Raises:
        MalformedError: It is none, or of a form that is not handled.
    """
    if len(data) <= MAX_CORIM + _FRAME:
        cbor.demand_few(data, at_most=_MAX_ITEMS)
    tagged = cbor.decode_foreign(data, max_bytes=MAX_CORIM + _FRAME, tags=_TAGS)
    if not isinstance(tagged, CBORTag) or tagged.tag != _SIGN1:
        raise MalformedError("not a signed CoRIM (tag 18)")
    match tagged.value:
        case [bytes() as protected, Mapping(), bytes() as payload, bytes() as signature]:
            pass
        case _:
            raise MalformedError("signed CoRIM: its content is not in it, or it is no COSE_Sign1")
    header = _header(protected)
    algorithm, signer = header.get(ALG), None
    if type(algorithm) is not int:
        raise MalformedError("signed CoRIM: its algorithm is not said under its signature")
    start: int | None = None
    end: int | None = None
    if _META in header:
        signer, start, end = _meta(header[_META])
    if _CWT_CLAIMS in header:
        issuer, first, last = _claims(header[_CWT_CLAIMS])
        signer = signer or issuer
        # Both may be there; the narrower of two validities holds.
        start = max((each for each in (start, first) if each is not None), default=None)
        end = min((each for each in (end, last) if each is not None), default=None)
    if signer is None:
        raise MalformedError("signed CoRIM: nothing under its signature says who signed")
    return SignedCoRIM(protected, algorithm, signer, start, end, payload, signature)


def verify_corim(signed: SignedCoRIM, key: VerificationKey, *, now: int) -> bytes:
    """Verify a signed CoRIM and return the unsigned one in it.

    Proves that the holder of ``key`` signed it. Does not prove that the key is ``signed.signer``'s,
    nor that it may speak for a name: whoever gave the key says so.

    Args:
        signed: Unverified.
        key: The operator's idea of who may sign.
        now: Seconds since the epoch.

    Raises:
        VerificationError: Another key or algorithm, another content, or outside its validity.
    """
    findings = []
    if signed.algorithm not in key.algorithm.cose_ids:
        findings.append(
            Finding(
                "corim.algorithm.mismatch",
                "The CoRIM is signed by another algorithm than the key's.",
                expected=key.algorithm.value,
                seen=str(signed.algorithm),
            )
        )
    else:
        try:
            key.verify(signed.signature, to_be_signed(signed.protected, signed.payload))
        except VerificationError:
            findings.append(
                Finding(
                    "corim.signature.invalid",
                    "The CoRIM's signature is not this key's, or its content was changed.",
                )
            )
    start, end = signed.not_before, signed.not_after
    if (start is not None and now < start) or (end is not None and end < now):
        findings.append(
            Finding(
                "corim.signature.not-valid",
                "The CoRIM's signature is outside its validity.",
                expected=f"{start or 0} to {'any time' if end is None else end}",
                seen=str(now),
            )
        )
    if findings:
        raise VerificationError(*findings)
    return signed.payload


def _header(protected: bytes) -> Mapping[Any, Any]:
    header = cbor.decode_foreign(protected, max_bytes=_MAX_PROTECTED)
    if not isinstance(header, Mapping):
        raise MalformedError("signed CoRIM: its protected header is no map")
    if CRIT in header:
        raise MalformedError("signed CoRIM: it has critical parameters that are not understood")
    if _HASH_ENVELOPE in header:
        raise MalformedError("signed CoRIM: only a hash of its content is in it")
    if header.get(_TYPE) != CONTENT_TYPE:
        raise MalformedError(f"signed CoRIM: its content type is not {CONTENT_TYPE}")
    return header


def _meta(value: object) -> tuple[str, int | None, int | None]:
    """Return signer, first and last second of ``corim-meta``."""
    if type(value) is not bytes:
        raise MalformedError("signed CoRIM: corim-meta is not bytes")
    meta = cbor.decode_foreign(value, max_bytes=_MAX_PROTECTED, tags=_META_TAGS)
    signer = meta.get(0) if isinstance(meta, Mapping) else None
    name = signer.get(0) if isinstance(signer, Mapping) else None
    if type(name) is not str or not name:
        raise MalformedError("signed CoRIM: corim-meta does not name a signer")
    validity = meta.get(1, {})
    if not isinstance(validity, Mapping) or not {0, 1} >= validity.keys():
        raise MalformedError("signed CoRIM: its signature's validity is not understood")
    return name, _time(validity.get(0)), _time(validity.get(1))


def _time(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, CBORTag) and value.tag == _TIME and type(value.value) is int:
        return value.value
    raise MalformedError("signed CoRIM: a time is not whole seconds (tag 1)")


def _claims(value: object) -> tuple[str, int | None, int | None]:
    """Return issuer, first and last second of CWT claims."""
    claims = value if isinstance(value, Mapping) else {}
    issuer, end, start = claims.get(1), claims.get(4), claims.get(5)
    if type(issuer) is not str or not issuer:
        raise MalformedError("signed CoRIM: its CWT claims name no issuer")
    for time in (start, end):
        if time is not None and type(time) is not int:
            raise MalformedError("signed CoRIM: a time of its CWT claims is not whole seconds")
    return issuer, start, end
