"""Compact JWS, the one signed-JSON form of tokens, statements and proofs.

Specifications: RFC 7515 §3.1 and §7.1, RFC 8725 (best current practice).

joserfc checks the signatures: it holds the keys and knows the algorithms. The three parts are taken
apart here, because joserfc takes the last of several header members of one name and understands
``b64``. A token's signature alone is checked by its ``VerificationKey``, as a CWT's is: a relying
party's check has a budget of 0.7 signature checks beside the signature itself, of which joserfc
would take a tenth, and parsing the header of every token anew a third (bench/token_check.py).

Signing joins two encoded parts and calls the ``Signer`` port. The key may be in a TPM or in another
process; joserfc signs with objects that hold the private key, and its hook for other algorithms
wants such an object all the same, so that it would be longer than the two lines it replaces.

Not handled, and refused: ``crit`` but for the one parameter that a caller names because it acts on
it, unencoded or detached payloads, JSON serialisation, encryption.
``jku``, ``x5u``, ``x5c`` and ``jwk`` never choose a key: a proof's ``jwk`` must *be* the confirmed
key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding
from bootlease.token import base64url, strictjson
from bootlease.token.keys import Algorithm, Signer

_MAX_HEADER: Final = 2048
"""Characters: a proof's header holds its key, which has 1 kB when it is RSA of 4096 bits."""

_MODELS: Final = {
    # "EdDSA" of an Ed25519 key means "Ed25519" (RFC 9864 §2.2), the last of the names; joserfc's
    # own "EdDSA" takes Ed448 as well.
    algorithm: JWSRegistry.algorithms[algorithm.jose_names[-1]]
    for algorithm in Algorithm
}
"""joserfc's implementation of each algorithm; there is no other way in, so no header chooses."""


def header_text(text: str, *, max_bytes: int) -> str:
    """Return the protected header's base64url text from a compact JWS, unverified.

    Raises:
        MalformedError: The JWS or its header is too long.
    """
    if len(text) > max_bytes:
        raise MalformedError(f"JWS is longer than {max_bytes} characters")
    header = text.partition(".")[0]
    if len(header) > _MAX_HEADER:
        raise MalformedError(f"JWS header is longer than {_MAX_HEADER} characters")
    return header


def parse_header(text: str, *, critical: str | None = None) -> dict[str, Any]:
    """Parse a protected header from its base64url text.

    Args:
        text: Unverified base64url text.
        critical: The one parameter that ``crit`` may name; the caller acts on it.

    Raises:
        MalformedError: Not a JSON object with ``alg`` and ``typ``, or with ``b64``, or with
            another ``crit``.
    """
    header = strictjson.parse_object(base64url.decode(text))
    if "b64" in header or ("crit" in header and not _is_understood(header, critical)):
        raise MalformedError("JWS header has critical parameters that are not understood")
    if type(header.get("alg")) is not str or type(header.get("typ")) is not str:
        raise MalformedError("JWS header lacks alg or typ")
    return header


def _is_understood(header: Mapping[str, Any], critical: str | None) -> bool:
    # RFC 7515 §4.1.11: what crit names is there, and is acted upon, or the JWS is invalid.
    return critical is not None and header["crit"] == [critical] and critical in header


def parse_payload(text: str) -> bytes:
    """Return a compact JWS's payload, unverified; its header has passed ``parse_header``.

    Raises:
        MalformedError: Not three base64url parts.
    """
    return split_compact(text)[1]


def verify_compact(text: str, key: Key, algorithm: Algorithm, *, invalid: Finding) -> bytes:
    """Prove that the holder of ``key`` signed a compact JWS, and return its payload.

    Args:
        text: The JWS; its header has passed ``parse_header``.
        key: The key, as joserfc's object.
        algorithm: The algorithm that belongs to the key.
        invalid: What to say of a signature that is not the key's.

    Raises:
        MalformedError: Not three base64url parts.
        VerificationError: The signature is not the key's, or the key not the algorithm's.
    """
    signed, payload, signature = split_compact(text)
    model = _MODELS[algorithm]
    try:
        # Without it, joserfc tries ES256 with a P-384 key, and stumbles over a key of another type.
        model.check_key(key)
        genuine = model.verify(signed, signature, key)
    except (JoseError, ValueError) as exc:
        raise VerificationError(invalid) from exc
    if not genuine:
        raise VerificationError(invalid)
    return payload


def split_compact(text: str) -> tuple[bytes, bytes, bytes]:
    """Return what is signed, the payload and the signature (RFC 7515 §7.1), unverified.

    Raises:
        MalformedError: Not three base64url parts.
    """
    signed, _, signature = text.rpartition(".")
    header, dot, payload = signed.partition(".")
    if not dot or not header.isascii():
        raise MalformedError("JWS is not header.payload.signature")
    # What stands before the payload is ASCII, and so is whatever is base64url.
    decoded = base64url.decode(payload), base64url.decode(signature)
    return signed.encode("ascii"), *decoded


def encode_header(header: Mapping[str, Any]) -> str:
    """Return the base64url text of a protected header."""
    return base64url.encode(strictjson.serialise(header))


def sign_compact(header: str, payload: bytes, signer: Signer) -> str:
    """Return the compact JWS of ``payload`` under a header from ``encode_header``."""
    text = f"{header}.{base64url.encode(payload)}"
    return f"{text}.{base64url.encode(signer.sign(text.encode('ascii')))}"


def join_compact(header: str, payload: bytes, signature: bytes) -> str:
    """Return the compact JWS that ``sign_compact`` made, given its signature."""
    return f"{header}.{base64url.encode(payload)}.{base64url.encode(signature)}"
