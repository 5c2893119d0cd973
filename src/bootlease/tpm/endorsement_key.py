"""Endorsement keys: the public areas of the TCG's EK templates.

Specification: TCG EK Credential Profile 2.6 §B (templates, PolicyA, PolicyB): RSA of
2048 to 4096 bits and P-256, P-384, P-521, low and high range. Not handled on purpose:
SM2 templates, signing EKs, and policies of a vendor's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.model import Finding, HashAlg
from bootlease.tpm.algorithms import TPMAlg, TPMAObject, TPMECCCurve, algorithm_name
from bootlease.tpm.key_rules import (
    RESIDENT,
    attribute_findings,
    load_or_raise,
    rules,
    strength_findings,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from bootlease.tpm.public import TPMTPublic

_REQUIRED: Final = rules(
    *RESIDENT,
    (TPMAObject.RESTRICTED, "restricted", "would decrypt anything it is given"),
    (TPMAObject.DECRYPT, "decrypt", "cannot activate a credential"),
    (TPMAObject.ADMIN_WITH_POLICY, "admin-with-policy", "activates without its policy"),
)
_FORBIDDEN: Final = rules((TPMAObject.SIGN_ENCRYPT, "sign", "may sign"))
_CURVES: Final = tuple(
    map(int, (TPMECCCurve.NIST_P256, TPMECCCurve.NIST_P384, TPMECCCurve.NIST_P521))
)

POLICY_A: Final[dict[int, bytes]] = {
    HashAlg.SHA256: bytes.fromhex(
        "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    ),
    HashAlg.SHA384: bytes.fromhex(
        "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e"
        "143e8bb1133824ccb431053871c6db53"
    ),
    HashAlg.SHA512: bytes.fromhex(
        "1e3b76502c8a1425aa0b7b3fc646a1b0fae063b03b5368f9c4cddecaff0891dd"
        "682bac1a85d4d832b781ea451915de5fc5bf0dc4a1917cd42fa041e3f998e0ee"
    ),
}
"""PolicyA: PolicySecret(TPM_RH_ENDORSEMENT) (EK Credential Profile 2.6 §B.6.2)."""

POLICY_B: Final[dict[int, bytes]] = {
    HashAlg.SHA256: bytes.fromhex(
        "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
    ),
    HashAlg.SHA384: bytes.fromhex(
        "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca"
        "cb47ba09699646150f9fc000f3f80e12"
    ),
    HashAlg.SHA512: bytes.fromhex(
        "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a4"
        "29c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea"
    ),
}
"""PolicyB: PolicyOR(PolicyA, PolicyC), of the high range templates (§B.6.4)."""


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """A public area of the TCG's EK templates.

    Attributes:
        public: The accepted public area.
        name: Its name, recomputed.
        key: The loaded key.
    """

    public: TPMTPublic
    name: bytes
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def _ek_policy(public: TPMTPublic) -> list[Finding]:
    policy = public.auth_policy
    if policy and policy == POLICY_B.get(public.name_alg):
        return []
    if not policy or policy != POLICY_A.get(public.name_alg):
        return [
            Finding(
                "ek.policy.unknown",
                "The ek is not used under the endorsement hierarchy's authorization.",
                expected="PolicyA or PolicyB of the EK Credential Profile",
                seen=policy.hex(),
            )
        ]
    # Templates of the low range clear it; set, anybody could activate credentials (B21).
    if public.object_attributes & TPMAObject.USER_WITH_AUTH:
        return [
            Finding(
                "ek.attributes.user-with-auth",
                "The ek activates credentials for anybody: attribute user-with-auth is set.",
                expected="clear",
                seen="set",
            )
        ]
    return []


def _ek_storage(public: TPMTPublic) -> list[Finding]:
    found = []
    symmetric, scheme = public.parameters.symmetric, public.parameters.scheme
    if (
        symmetric.alg != TPMAlg.AES
        or symmetric.key_bits not in {128, 256}
        or symmetric.mode != TPMAlg.CFB
    ):
        found.append(
            Finding(
                "ek.symmetric.unsupported",
                "The ek protects credentials with something other than AES-CFB.",
                expected="AES-128-CFB or AES-256-CFB",
                seen=f"{algorithm_name(symmetric.alg)}-{symmetric.key_bits}",
            )
        )
    if scheme.alg != TPMAlg.NULL:
        found.append(
            Finding(
                "ek.scheme.set",
                "The ek is no storage key: it has a scheme of its own.",
                expected="NULL",
                seen=algorithm_name(scheme.alg),
            )
        )
    return found


def accept_endorsement_key(public: TPMTPublic) -> EndorsementKey:
    """Accept a public area as that of an endorsement key.

    Proves: the key, if a TPM has it, is a storage key that only activates credentials,
    and only under the authorization of the endorsement hierarchy (PolicyA; or PolicyB,
    whose templates also allow user authorization). Does not prove that a TPM has it: the
    caller must still verify its certificate and compare the certificate's key with this.

    Raises:
        VerificationError: Something about it is not as it must be; all of it is told.
    """
    found = attribute_findings(public, "ek", _REQUIRED, _FORBIDDEN)
    found += strength_findings(public, "ek", _CURVES)
    found += _ek_storage(public)
    found += _ek_policy(public)
    key = load_or_raise(public, "ek", found)
    return EndorsementKey(public, public.name, key)
