"""Identifiers of TPM 2.0: algorithms, structure tags, curves, handles, attributes.

Specifications: TCG Algorithm Registry 1.34 (TPM_ALG_ID, TPM_ECC_CURVE); TPM 2.0
Library part 2 §6.2 (TPM_GENERATED), §6.9 (TPM_ST), §7.4 (TPM_RH), §8.3 (TPMA_OBJECT).

Only identifiers that some structure here reads or refuses by name are listed; any
other stays the integer that it is.
"""

from __future__ import annotations

import enum
from typing import Final

from bootlease.model import HashAlg

TPM_GENERATED: Final = 0xFF544347
"""First word of what a TPM attests; a restricted key signs no outside data that starts so."""


class TPMAlg(enum.IntEnum):
    """TPM_ALG_ID, apart from the hash algorithms, which are ``model.HashAlg``."""

    RSA = 0x0001
    TDES = 0x0003
    HMAC = 0x0005
    AES = 0x0006
    MGF1 = 0x0007
    KEYEDHASH = 0x0008
    NULL = 0x0010
    SM4 = 0x0013
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDH = 0x0019
    ECDAA = 0x001A
    SM2 = 0x001B
    ECSCHNORR = 0x001C
    ECMQV = 0x001D
    KDF1_SP800_56A = 0x0020
    KDF2 = 0x0021
    KDF1_SP800_108 = 0x0022
    ECC = 0x0023
    SYMCIPHER = 0x0025
    CAMELLIA = 0x0026
    CFB = 0x0043


class TPMST(enum.IntEnum):
    """TPM_ST: what an attestation structure attests."""

    ATTEST_NV = 0x8014
    ATTEST_COMMAND_AUDIT = 0x8015
    ATTEST_SESSION_AUDIT = 0x8016
    ATTEST_CERTIFY = 0x8017
    ATTEST_QUOTE = 0x8018
    ATTEST_TIME = 0x8019
    ATTEST_CREATION = 0x801A
    ATTEST_NV_DIGEST = 0x801C


class TPMECCCurve(enum.IntEnum):
    """TPM_ECC_CURVE."""

    NIST_P192 = 0x0001
    NIST_P224 = 0x0002
    NIST_P256 = 0x0003
    NIST_P384 = 0x0004
    NIST_P521 = 0x0005
    BN_P256 = 0x0010
    BN_P638 = 0x0011
    SM2_P256 = 0x0020


class TPMRH(enum.IntEnum):
    """TPM_RH: the permanent handles under which primary keys are made."""

    OWNER = 0x40000001
    NULL = 0x40000007
    ENDORSEMENT = 0x4000000B
    PLATFORM = 0x4000000C


class TPMAObject(enum.IntFlag):
    """TPMA_OBJECT: the attributes of a key."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


def algorithm_name(value: int) -> str:
    """Return a name for messages: ``ECDSA``, or the number where none is known."""
    try:
        return TPMAlg(value).name
    except ValueError:
        return f"0x{value:04x}"


def attest_name(value: int) -> str:
    """Return a name for an attestation type: ``quote``, or the number."""
    try:
        return TPMST(value).name.removeprefix("ATTEST_").lower().replace("_", "-")
    except ValueError:
        return f"0x{value:04x}"


def hash_name(value: int) -> str:
    """Return a name for messages: ``sha256``, or the number where none is known."""
    try:
        return HashAlg(value).label
    except ValueError:
        return f"0x{value:04x}"
