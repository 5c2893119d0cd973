"""TPM2_PolicySigned without a TPM: who may permit the use of a key, and what is signed for it.

Specifications: TPM 2.0 Library part 3 §23.3 (TPM2_PolicySigned), §23.2.4 (PolicyUpdate), §23.5
(TPM2_PolicyTicket); part 1 §19.7 (enhanced authorization), §19.7.13 (policy tickets)::

    aHash        = H(nonceTPM || expiration || cpHashA || policyRef)
    policyDigest = H(H(policyDigest || TPM_CC_PolicySigned || authName) || policyRef)

A negative expiration counts seconds from the start of the session that nonceTPM names, and asks
for a ticket, with which later sessions do the same until then.

aHash runs its parts together without their lengths, so one signature could be read in more ways
than one: with no nonceTPM at all, and with bytes of it for expiration and cpHashA. Sizes are
therefore fixed: nonceTPM has 16 bytes, policyRef 32, cpHashA none. Since a nonceTPM has 16 bytes or
more (part 1 §19.6.3) and a cpHashA none or the 32 of SHA-256, no other reading ends in the same
policyRef.

Deliberately not handled: every other policy command, hashes other than SHA-256, permits that are
good for one command only (cpHashA), or in any session (no nonceTPM).
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.errors import VerificationError
from bootlease.model import Finding, HashAlg
from bootlease.tpm.algorithms import TPMAlg, TPMAObject, TPMECCCurve
from bootlease.tpm.keys import BoundKey, accept_bound_key
from bootlease.tpm.public import TPMTAsymScheme, TPMTPublic, ecc_public
from bootlease.tpm.signature import TPMSSignatureECC, TPMTSignature
from bootlease.tpm.wire import u32

NONCE_BYTES: Final = 16
"""Of nonceTPM: the least that a session has, and what it has where the caller's has as many."""

POLICY_REF_BYTES: Final = 32
NAME_BYTES: Final = 34
"""Of a name under SHA-256: the algorithm's number, then the digest."""

MAX_SECONDS: Final = (1 << 31) - 1
RAW_SIGNATURE_BYTES: Final = 64

_CC_POLICY_SIGNED: Final = 0x00000160
_NO_POLICY: Final = bytes(32)
_USER_WITH_AUTH: Final = int(TPMAObject.USER_WITH_AUTH)


def signing_authority(key: ec.EllipticCurvePublicKey) -> TPMTPublic:
    """Return the public area under which TPM2_LoadExternal takes a P-256 key to verify with.

    The key's name is over all of it, so there must be one form: it may sign and nothing else, by
    ECDSA with SHA-256.

    Raises:
        ValueError: The key is on another curve.
    """
    if key.curve.name != "secp256r1":
        raise ValueError(f"an authority's key is on P-256, not on {key.curve.name}")
    numbers = key.public_numbers()
    return ecc_public(
        numbers.x,
        numbers.y,
        TPMECCCurve.NIST_P256,
        attributes=TPMAObject.SIGN_ENCRYPT,
        scheme=TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA256),
    )


def signed_policy(authority: bytes, policy_ref: bytes) -> bytes:
    """Return the authPolicy that TPM2_PolicySigned alone satisfies.

    Args:
        authority: Name of the key that must sign (``signing_authority``).
        policy_ref: What it must sign of, besides nonce and expiration.
    """
    inner = hashlib.sha256(_NO_POLICY + u32(_CC_POLICY_SIGNED) + authority).digest()
    return hashlib.sha256(inner + policy_ref).digest()


def permit_message(nonce: bytes, seconds: int, policy_ref: bytes) -> bytes:
    """Return what the authority signs, with SHA-256, to permit use until ``seconds`` are over.

    Args:
        nonce: nonceTPM of the policy session.
        seconds: Counted from that session's start, at least 1.
        policy_ref: policyRef.

    Raises:
        ValueError: A part has not its size. An expiration of 0 would never come.
    """
    if len(nonce) != NONCE_BYTES or len(policy_ref) != POLICY_REF_BYTES:
        raise ValueError("nonce and policyRef of a permit have 16 and 32 bytes")
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError("a permit is for 1 second or more")
    return nonce + (-seconds).to_bytes(4, "big", signed=True) + policy_ref


def permit_signature(raw: bytes) -> TPMTSignature:
    """Return an authority's signature ``r || s`` as the TPM reads it.

    Raises:
        ValueError: It has not 64 bytes.
    """
    if len(raw) != RAW_SIGNATURE_BYTES:
        raise ValueError(f"a signature on P-256 has {RAW_SIGNATURE_BYTES} bytes")
    half = RAW_SIGNATURE_BYTES // 2
    return TPMTSignature(TPMAlg.ECDSA, TPMSSignatureECC(HashAlg.SHA256, raw[:half], raw[half:]))


def with_policy(template: TPMTPublic, policy: bytes) -> TPMTPublic:
    """Return the template of a key that nobody can use but under ``policy``."""
    attributes = TPMAObject(int(template.object_attributes) & ~_USER_WITH_AUTH)
    return dataclasses.replace(template, object_attributes=attributes, auth_policy=policy)


def accept_expiring_key(public: TPMTPublic, policy: bytes) -> BoundKey:
    """Accept a public area as that of a confirmation key that is used under ``policy`` only.

    Proves, besides what ``accept_bound_key`` does: if the key lives in a TPM, no password lets it
    sign (part 1 §25: USER role commands need its authPolicy where userWithAuth is clear), and its
    authPolicy is ``policy``. Does not prove that the TPM keeps time.

    Raises:
        VerificationError: Something about it is not as it must be; all of it is told.
    """
    found: list[Finding] = []
    if int(public.object_attributes) & _USER_WITH_AUTH:
        found.append(
            Finding(
                "expiring-key.attributes.user-with-auth",
                "The key can be used without its policy: attribute user-with-auth is set.",
                expected="clear",
                seen="set",
            )
        )
    # A policy of another hash is compared by the TPM with other digests than these.
    if public.name_alg != HashAlg.SHA256 or public.auth_policy != policy:
        found.append(
            Finding(
                "expiring-key.policy.mismatch",
                "The key's policy is not that this verifier must permit each of its uses in time.",
                expected=policy.hex(),
                seen=public.auth_policy.hex(),
            )
        )
    try:
        accepted = accept_bound_key(public)
    except VerificationError as exc:
        raise VerificationError(*found, *exc.findings) from exc
    if found:
        raise VerificationError(*found)
    return accepted
