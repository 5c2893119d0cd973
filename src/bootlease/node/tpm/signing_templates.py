"""Templates of the keys a node makes for itself: attestation key and confirmation key.

Specification: TPM 2.0 Library part 1 §27 (creation), part 2 §8.3 (TPMA_OBJECT).

Both are primary keys of the endorsement hierarchy, where the TPM does not obfuscate its clock
and counters (part 1 §36.7). ``unique`` is filled with random bytes: a primary key is derived from
its template, so that the same template would give the same key for ever.
"""

from __future__ import annotations

from typing import Final

from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import AKAlgorithm
from bootlease.tpm import (
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    TPMSECCParms,
    TPMSECCPoint,
    TPMSRSAParms,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSymDefObject,
)
from bootlease.tpm.policy import with_policy

ENTROPY_BYTES: Final = 32

_RESIDENT: Final = (
    TPMAObject.FIXED_TPM
    | TPMAObject.FIXED_PARENT
    | TPMAObject.SENSITIVE_DATA_ORIGIN
    | TPMAObject.USER_WITH_AUTH
    | TPMAObject.SIGN_ENCRYPT
)
# Neither key has a secret to guess: a dictionary-attack lockout must not stop renewals.
_AK_ATTRIBUTES: Final = _RESIDENT | TPMAObject.RESTRICTED | TPMAObject.NO_DA
_SIGNING_ATTRIBUTES: Final = _RESIDENT | TPMAObject.NO_DA


def attestation_key_template(algorithm: AKAlgorithm, entropy: bytes) -> TPMTPublic:
    """Return the template of a new attestation key; ``entropy`` makes it one of a kind."""
    if algorithm is AKAlgorithm.ECC_P256:
        return _p256(_AK_ATTRIBUTES, entropy)
    scheme = TPMTAsymScheme(TPMAlg.RSASSA, HashAlg.SHA256)
    parameters = TPMSRSAParms(TPMTSymDefObject(), scheme, 2048)
    return TPMTPublic(HashAlg.SHA256, _AK_ATTRIBUTES, b"", parameters, entropy)


def signing_key_template(entropy: bytes) -> TPMTPublic:
    """Return the template of a new confirmation key: P-256, signs any digest."""
    return _p256(_SIGNING_ATTRIBUTES, entropy)


def expiring_key_template(entropy: bytes, policy: bytes) -> TPMTPublic:
    """Return the template of a confirmation key that signs under ``policy`` and no password."""
    return with_policy(signing_key_template(entropy), policy)


def _p256(attributes: TPMAObject, entropy: bytes) -> TPMTPublic:
    scheme = TPMTAsymScheme(TPMAlg.ECDSA, HashAlg.SHA256)
    parameters = TPMSECCParms(TPMTSymDefObject(), scheme, TPMECCCurve.NIST_P256, TPMTAsymScheme())
    unique = TPMSECCPoint(entropy, b"")
    return TPMTPublic(HashAlg.SHA256, attributes, b"", parameters, unique)
