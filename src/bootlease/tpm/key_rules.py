"""Rules that keys of every role share: attributes, strength, signing scheme.

Specifications: TPM 2.0 Library part 1 §25 (object attributes), part 2 §8.3.3
(TPMA_OBJECT). Every function returns findings; which rules a role has is said where the
role is (``keys``, ``endorsement_key``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootlease.errors import VerificationError
from bootlease.model import Finding
from bootlease.tpm.algorithms import TPMAlg, TPMAObject, TPMECCCurve, algorithm_name, hash_name
from bootlease.tpm.public import DEFAULT_EXPONENT, TPMSECCParms, TPMTPublic
from bootlease.tpm.schemes import SIGNATURE_HASHES, SIGNATURE_SCHEMES, load_public_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

MIN_RSA_BITS: Final = 2048

Rules = tuple[tuple[int, str, str], ...]
"""Attribute, its label, and what a key is or does that breaks the rule."""

RESIDENT: Final = (
    (TPMAObject.FIXED_TPM, "fixed-tpm", "could be duplicated to another TPM"),
    (TPMAObject.FIXED_PARENT, "fixed-parent", "could be moved to another parent"),
    (TPMAObject.SENSITIVE_DATA_ORIGIN, "sensitive-data-origin", "may have been made outside"),
)
RESTRICTED: Final = (TPMAObject.RESTRICTED, "restricted", "would also sign what it did not make")
SIGN: Final = (TPMAObject.SIGN_ENCRYPT, "sign", "may not sign")
DECRYPT: Final = (TPMAObject.DECRYPT, "decrypt", "may decrypt")


def rules(*entries: tuple[TPMAObject, str, str]) -> Rules:
    """Prepare rules: plain integers, for IntFlag arithmetic costs more than all the rest."""
    return tuple((int(flag), label, why) for flag, label, why in entries)


def attribute_findings(
    public: TPMTPublic, role: str, required: Rules, forbidden: Rules
) -> list[Finding]:
    """Find attributes that are clear though required, or set though forbidden."""
    value = int(public.object_attributes)
    found = []
    for flag, label, why in required:
        if not value & flag:
            message = f"The {role} {why}: attribute {label} is clear."
            found.append(
                Finding(f"{role}.attributes.{label}", message, expected="set", seen="clear")
            )
    for flag, label, why in forbidden:
        if value & flag:
            message = f"The {role} {why}: attribute {label} is set."
            found.append(
                Finding(f"{role}.attributes.{label}", message, expected="clear", seen="set")
            )
    return found


def curve_finding(role: str, curves: tuple[int, ...], seen: str) -> Finding:
    """Tell of a curve that is not among ``curves``."""
    return Finding(
        f"{role}.curve.unsupported",
        f"The {role} is on a curve that is not supported.",
        expected=" or ".join(TPMECCCurve(curve).name for curve in curves),
        seen=seen,
    )


def rsa_size_finding(role: str, bits: int) -> Finding:
    """Tell of an RSA key that is too short."""
    return Finding(
        f"{role}.rsa.size",
        f"The {role} is an RSA key of {bits} bits, which is too short.",
        expected=f"at least {MIN_RSA_BITS}",
        seen=str(bits),
    )


def strength_findings(public: TPMTPublic, role: str, curves: tuple[int, ...]) -> list[Finding]:
    """Find a weak name hash, RSA size or exponent, or a curve not among ``curves`` (B17, B20)."""
    found = []
    if public.name_alg not in SIGNATURE_HASHES:
        found.append(
            Finding(
                f"{role}.name-alg.weak",
                f"The {role} is named by a hash that cannot be relied on.",
                expected="sha256, sha384 or sha512",
                seen=hash_name(public.name_alg),
            )
        )
    parameters = public.parameters
    if isinstance(parameters, TPMSECCParms):
        if parameters.curve not in curves:
            found.append(curve_finding(role, curves, f"0x{parameters.curve:04x}"))
        return found
    if parameters.key_bits < MIN_RSA_BITS:
        found.append(rsa_size_finding(role, parameters.key_bits))
    if parameters.public_exponent != DEFAULT_EXPONENT:
        found.append(
            Finding(
                f"{role}.rsa.exponent",
                f"The {role} has an unusual RSA exponent.",
                expected=str(DEFAULT_EXPONENT),
                seen=str(parameters.public_exponent),
            )
        )
    return found


def scheme_findings(public: TPMTPublic, role: str) -> list[Finding]:
    """Find a signing scheme that is missing, not supported, or over a weak hash (A16)."""
    scheme = public.parameters.scheme
    if scheme.alg == TPMAlg.NULL:
        return [
            Finding(
                f"{role}.scheme.missing",
                f"The {role} has no signing scheme; a restricted key of a TPM always has one.",
            )
        ]
    is_ecc = isinstance(public.parameters, TPMSECCParms)
    if scheme.alg not in SIGNATURE_SCHEMES or (scheme.alg == TPMAlg.ECDSA) != is_ecc:
        return [
            Finding(
                f"{role}.scheme.unsupported",
                f"The {role} signs with a scheme that is not supported.",
                expected="ECDSA" if is_ecc else "RSASSA or RSAPSS",
                seen=algorithm_name(scheme.alg),
            )
        ]
    if scheme.hash_alg not in SIGNATURE_HASHES:
        return [
            Finding(
                f"{role}.scheme.hash",
                f"The {role} signs with a hash that cannot be relied on.",
                expected="sha256, sha384 or sha512",
                seen=hash_name(scheme.hash_alg or 0),
            )
        ]
    return []


def load_or_raise(
    public: TPMTPublic, role: str, found: list[Finding]
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Load the key, or raise everything found so far together with why it does not load."""
    try:
        key = load_public_key(public, role)
    except VerificationError as exc:
        known = {finding.id for finding in found}
        raise VerificationError(
            *found, *(finding for finding in exc.findings if finding.id not in known)
        ) from exc
    if found:
        raise VerificationError(*found)
    return key
