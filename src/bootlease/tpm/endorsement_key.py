"""Endorsement keys: the public areas of the TCG's EK templates.

Specification: TCG EK Credential Profile 2.6 §B.3 (templates L-1, L-2), §B.4 (H-1 to H-4,
H-6, H-7) and §B.6 (policies): RSA of 2048 to 4096 bits and P-256, P-384, P-521.

A template is accepted whole or not at all. Only the key and the AK's name go into a
credential, so a TPM opens one that was made for another public area with its key: what
is not compared here would be the sender's to choose.

Not handled on purpose: SM2 templates, signing EKs, EKs limited to a firmware, and
policies of a vendor's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bootlease.model import Finding, HashAlg
from bootlease.tpm.algorithms import (
    TPMAlg,
    TPMAObject,
    TPMECCCurve,
    algorithm_name,
    hash_name,
)
from bootlease.tpm.key_rules import (
    MIN_RSA_BITS,
    RESIDENT,
    attribute_findings,
    load_or_raise,
    rules,
    strength_findings,
)
from bootlease.tpm.public import TPMSECCParms

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
_LOW_ATTRIBUTES: Final = sum(flag for flag, _, _ in _REQUIRED)
_USER_WITH_AUTH: Final = int(TPMAObject.USER_WITH_AUTH)
_EXPLAINED: Final = _LOW_ATTRIBUTES | sum(flag for flag, _, _ in _FORBIDDEN) | _USER_WITH_AUTH
"""Attributes with a finding of their own."""


@dataclass(frozen=True, slots=True)
class _Template:
    """What the templates for one kind of key have in common."""

    name_alg: HashAlg
    aes_bits: int
    low_range: bool


_RSA_TEMPLATES: Final = {
    2048: _Template(HashAlg.SHA256, 128, low_range=True),
    3072: _Template(HashAlg.SHA384, 256, low_range=False),
    4096: _Template(HashAlg.SHA384, 256, low_range=False),
}
_ECC_TEMPLATES: Final = {
    TPMECCCurve.NIST_P256.value: _Template(HashAlg.SHA256, 128, low_range=True),
    TPMECCCurve.NIST_P384.value: _Template(HashAlg.SHA384, 256, low_range=False),
    TPMECCCurve.NIST_P521.value: _Template(HashAlg.SHA512, 256, low_range=False),
}

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

    @property
    def spki(self) -> bytes:
        """The key alone, as DER SubjectPublicKeyInfo: its certificate holds these bytes too."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _template_of(public: TPMTPublic) -> _Template | None:
    parameters = public.parameters
    if isinstance(parameters, TPMSECCParms):
        return _ECC_TEMPLATES.get(parameters.curve)
    return _RSA_TEMPLATES.get(parameters.key_bits)


def _ek_range(public: TPMTPublic, template: _Template) -> list[Finding]:
    """Demand policy and userWithAuth of one range, and no attribute besides."""
    attributes, policy = int(public.object_attributes), public.auth_policy
    found = []
    high = policy == POLICY_B[template.name_alg]
    if not high and not (template.low_range and policy == POLICY_A[template.name_alg]):
        found.append(
            Finding(
                "ek.policy.unknown",
                "The ek is not used under the endorsement hierarchy's authorization.",
                expected="PolicyA or PolicyB, as its template in the EK Credential Profile has it",
                seen=policy.hex(),
            )
        )
    elif bool(attributes & _USER_WITH_AUTH) != high:
        # In the low range, set, anybody could activate credentials (B21).
        found.append(
            Finding(
                "ek.attributes.user-with-auth",
                "The ek's attribute user-with-auth is not as its policy's template has it.",
                expected="set" if high else "clear",
                seen="clear" if high else "set",
            )
        )
    if unexplained := attributes & ~_EXPLAINED:
        found.append(
            Finding(
                "ek.attributes.unexpected",
                "The ek has attributes that no template has.",
                expected="0x00000000",
                seen=f"0x{unexplained:08x}",
            )
        )
    return found


def _ek_storage(public: TPMTPublic, template: _Template) -> list[Finding]:
    found = []
    if public.name_alg != template.name_alg:
        found.append(
            Finding(
                "ek.name-alg.mismatch",
                "The ek is named by another hash than its template's.",
                expected=template.name_alg.label,
                seen=hash_name(public.name_alg),
            )
        )
    symmetric, scheme = public.parameters.symmetric, public.parameters.scheme
    expected = (TPMAlg.AES, template.aes_bits, TPMAlg.CFB)
    if (symmetric.alg, symmetric.key_bits, symmetric.mode) != expected:
        found.append(
            Finding(
                "ek.symmetric.unsupported",
                "The ek protects credentials with another cipher than its template's.",
                expected=f"AES-{template.aes_bits}-CFB",
                seen=f"{algorithm_name(symmetric.alg)}-{symmetric.key_bits}",
            )
        )
    kdf = [public.parameters.kdf] if isinstance(public.parameters, TPMSECCParms) else []
    found += [
        Finding(
            "ek.scheme.set",
            "The ek is no storage key: it has a scheme of its own.",
            expected="NULL",
            seen=algorithm_name(each.alg),
        )
        for each in (scheme, *kdf)
        if each.alg != TPMAlg.NULL
    ]
    return found


def _ek_template(public: TPMTPublic) -> list[Finding]:
    template = _template_of(public)
    if template is not None:
        return _ek_range(public, template) + _ek_storage(public, template)
    if isinstance(public.parameters, TPMSECCParms) or public.parameters.key_bits < MIN_RSA_BITS:
        return []
    return [
        Finding(
            "ek.rsa.size",
            "The ek is an RSA key of a size that no template has.",
            expected=" or ".join(map(str, _RSA_TEMPLATES)),
            seen=str(public.parameters.key_bits),
        )
    ]


def accept_endorsement_key(public: TPMTPublic) -> EndorsementKey:
    """Accept a public area as that of an endorsement key.

    Proves: the key, if a TPM has it, is a storage key that only activates credentials,
    and only under the authorization of the endorsement hierarchy (PolicyA; or PolicyB,
    whose templates also allow user authorization). Whoever sends it had no choice in it
    beyond the template's range. Does not prove that a TPM has it: the
    caller must still verify its certificate and compare the certificate's key with this.

    Raises:
        VerificationError: Something about it is not as it must be; all of it is told.
    """
    found = attribute_findings(public, "ek", _REQUIRED, _FORBIDDEN)
    found += strength_findings(public, "ek", _CURVES)
    found += _ek_template(public)
    key = load_or_raise(public, "ek", found)
    return EndorsementKey(public, public.name, key)
