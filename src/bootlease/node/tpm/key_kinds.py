"""The kinds of endorsement and attestation keys that a node can use.

Specification: TCG EK Credential Profile for TPM Family 2.0 v2.5 §B.3 and §B.4 (EK algorithms).
"""

from __future__ import annotations

import enum


class EKAlgorithm(enum.Enum):
    """Kind of an endorsement key."""

    RSA_2048 = "rsa-2048"
    ECC_P256 = "ecc-p256"
    ECC_P384 = "ecc-p384"


class AKAlgorithm(enum.Enum):
    """Kind of an attestation key; it signs with SHA-256 by ECDSA or RSASSA."""

    ECC_P256 = "ecc-p256"
    RSA_2048 = "rsa-2048"
