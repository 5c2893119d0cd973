"""Endorsement-key templates and where a TPM keeps the certificates that belong to them.

Specification: TCG EK Credential Profile for TPM Family 2.0 v2.5: §2.2.1.4 (low range NV indices),
§2.2.1.5 (high range), §2.2.1.5.2 (certificate chains), §B.3 (templates L-1, L-2), §B.4 (H-1 to
H-3), §B.6 (policies).

Deliberately not handled: RSA-3072, RSA-4096, P-521 and SM2 endorsement keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import EKAlgorithm
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
from bootlease.tpm.endorsement_key import POLICY_A, POLICY_B

EK_CHAIN_FIRST_INDEX: Final = 0x01C00100
EK_CHAIN_LAST_INDEX: Final = 0x01C001FF

POLICY_C: Final = {
    HashAlg.SHA256: bytes.fromhex(
        "3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"
    ),
    HashAlg.SHA384: bytes.fromhex(
        "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5"
        "b4947c2d73e63005eed2dc2b3593d165"
    ),
}
"""PolicyC: PolicyAuthorizeNV of the high range templates (§B.6.5)."""

_LOW: Final = (
    TPMAObject.FIXED_TPM
    | TPMAObject.FIXED_PARENT
    | TPMAObject.SENSITIVE_DATA_ORIGIN
    | TPMAObject.ADMIN_WITH_POLICY
    | TPMAObject.RESTRICTED
    | TPMAObject.DECRYPT
)
_HIGH: Final = _LOW | TPMAObject.USER_WITH_AUTH


@dataclass(frozen=True, slots=True)
class EKProfile:
    """One endorsement key that the profile defines.

    Attributes:
        certificate_index: NV index of its certificate.
        template_index: NV index of a template of the maker's own, if there is one.
        nonce_index: NV index of a nonce that goes into ``unique``; low range only.
        template: The profile's template.
    """

    certificate_index: int
    template_index: int
    nonce_index: int | None
    template: TPMTPublic

    @property
    def policy_hash(self) -> HashAlg:
        """Hash of the policy session that the key asks for."""
        return HashAlg(self.template.name_alg)


def _aes_cfb(bits: int) -> TPMTSymDefObject:
    return TPMTSymDefObject(TPMAlg.AES, bits, TPMAlg.CFB)


def _rsa_2048(attributes: TPMAObject, policy: bytes, unique: bytes) -> TPMTPublic:
    parameters = TPMSRSAParms(_aes_cfb(128), TPMTAsymScheme(), 2048)
    return TPMTPublic(HashAlg.SHA256, attributes, policy, parameters, unique)


def _p256(attributes: TPMAObject, policy: bytes, unique: TPMSECCPoint) -> TPMTPublic:
    parameters = TPMSECCParms(
        _aes_cfb(128), TPMTAsymScheme(), TPMECCCurve.NIST_P256, TPMTAsymScheme()
    )
    return TPMTPublic(HashAlg.SHA256, attributes, policy, parameters, unique)


def _p384() -> TPMTPublic:
    parameters = TPMSECCParms(
        _aes_cfb(256), TPMTAsymScheme(), TPMECCCurve.NIST_P384, TPMTAsymScheme()
    )
    unique = TPMSECCPoint(b"", b"")
    return TPMTPublic(HashAlg.SHA384, _HIGH, POLICY_B[HashAlg.SHA384], parameters, unique)


_PROFILES: Final = {
    EKAlgorithm.RSA_2048: (
        EKProfile(
            0x01C00002,
            0x01C00004,
            0x01C00003,
            _rsa_2048(_LOW, POLICY_A[HashAlg.SHA256], bytes(256)),
        ),
        EKProfile(0x01C00012, 0x01C00013, None, _rsa_2048(_HIGH, POLICY_B[HashAlg.SHA256], b"")),
    ),
    EKAlgorithm.ECC_P256: (
        EKProfile(
            0x01C0000A,
            0x01C0000C,
            0x01C0000B,
            _p256(_LOW, POLICY_A[HashAlg.SHA256], TPMSECCPoint(bytes(32), bytes(32))),
        ),
        EKProfile(
            0x01C00014,
            0x01C00015,
            None,
            _p256(_HIGH, POLICY_B[HashAlg.SHA256], TPMSECCPoint(b"", b"")),
        ),
    ),
    EKAlgorithm.ECC_P384: (EKProfile(0x01C00016, 0x01C00017, None, _p384()),),
}


def ek_profiles(algorithm: EKAlgorithm) -> tuple[EKProfile, ...]:
    """Return the profiles of ``algorithm``, low range first: at least one."""
    return _PROFILES[algorithm]


def with_nonce(template: TPMTPublic, nonce: bytes) -> TPMTPublic:
    """Return ``template`` with the maker's nonce in ``unique`` (§B.3.2: padded with zeros)."""
    if isinstance(template.unique, bytes):
        unique: bytes | TPMSECCPoint = nonce.ljust(len(template.unique), b"\0")
    else:
        size = len(template.unique.x)
        unique = TPMSECCPoint(nonce.ljust(size, b"\0"), bytes(size))
    return TPMTPublic(
        template.name_alg,
        template.object_attributes,
        template.auth_policy,
        template.parameters,
        unique,
    )


def trimmed_certificate(data: bytes) -> bytes:
    """Return an NV index's content without the padding behind a DER certificate.

    What does not begin as DER is returned as it is: how to read it is the verifier's decision.
    """
    length = der_length(data)
    return data if length is None or length > len(data) else data[:length]


def split_chain(data: bytes) -> list[bytes]:
    """Split concatenated certificates, as the chain indices hold them; padding is skipped."""
    certificates = []
    offset = 0
    while offset < len(data):
        length = der_length(data[offset : offset + 6])
        if length is None:
            offset += 1
        elif offset + length > len(data):
            break
        else:
            certificates.append(data[offset : offset + length])
            offset += length
    return certificates


def der_length(data: bytes) -> int | None:
    """Return the length of the DER SEQUENCE at the start of ``data``, header included."""
    header, long_form, most = 2, 0x80, 4
    if len(data) < header or data[0] != 0x30:  # noqa: PLR2004  tag of a SEQUENCE
        return None
    if data[1] < long_form:
        return header + data[1]
    count = data[1] - long_form
    if not 0 < count <= most or len(data) < header + count:
        return None
    return header + count + int.from_bytes(data[header : header + count], "big")
