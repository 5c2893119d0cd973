"""Which TPM keys may attest, and which may confirm a token.

Specifications: TPM 2.0 Library part 1 §25 (object attributes), part 2 §6.2 (what a
restricted key signs).

Each ``accept_*`` looks at a public area alone. It shows what the key *would* be if it
lives in a TPM; that it does is shown by credential activation, or by an attestation key
that certifies it. Not handled on purpose: RSA below 2048 bits, exponents other than
65537, curves other than P-256 and P-384, SHA-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.errors import VerificationError
from bootlease.model import Finding, HashAlg
from bootlease.tpm.algorithms import TPMAlg, TPMAObject, TPMECCCurve, hash_name
from bootlease.tpm.key_rules import (
    DECRYPT,
    MIN_RSA_BITS,
    RESIDENT,
    RESTRICTED,
    SIGN,
    attribute_findings,
    curve_finding,
    load_or_raise,
    rsa_size_finding,
    rules,
    scheme_findings,
    strength_findings,
)
from bootlease.tpm.public import TPMSECCParms, TPMTPublic
from bootlease.tpm.schemes import SIGNATURE_HASHES, VerificationKey

if TYPE_CHECKING:
    from bootlease.tpm.signature import TPMTSignature

_AK_REQUIRED: Final = rules(*RESIDENT, RESTRICTED, SIGN)
# TPM2_CertifyX509 has such a key sign a certificate whose content the caller largely chooses.
_X509: Final = (TPMAObject.X509_SIGN, "x509-sign", "also signs certificates")
_AK_FORBIDDEN: Final = rules(
    DECRYPT, (TPMAObject.ST_CLEAR, "st-clear", "is lost at the next TPM reset"), _X509
)
_AK_CURVES: Final = (int(TPMECCCurve.NIST_P256), int(TPMECCCurve.NIST_P384))
_BOUND_REQUIRED: Final = rules(*RESIDENT, SIGN)
_BOUND_FORBIDDEN: Final = rules(
    DECRYPT,
    (TPMAObject.RESTRICTED, "restricted", "signs only what the TPM made itself"),
    _X509,
)
_BARE_CURVES: Final = frozenset({"secp256r1", "secp384r1"})
_BOUND_CURVES: Final = (int(TPMECCCurve.NIST_P256),)


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """A public area with which a TPM can sign nothing but what it made itself.

    Attributes:
        public: The accepted public area.
        name: Its name, recomputed.
        verification: The loaded key, its scheme and hash.
    """

    public: TPMTPublic
    name: bytes
    verification: VerificationKey

    @property
    def qualified_name(self) -> bytes:
        """Its qualified name as a primary of the endorsement hierarchy."""
        return self.public.qualified_name()


@dataclass(frozen=True, slots=True)
class UnsafeBareKey:
    """A signing key of which nothing is known but its numbers.

    Whoever holds it may sign a forged quote in software (B1): a quote under it proves no
    more than that the holder said so. For looking at quotes by hand only.

    Attributes:
        verification: The loaded key, with the scheme and hash assumed for it.
    """

    verification: VerificationKey


@dataclass(frozen=True, slots=True)
class BoundKey:
    """A public area of an unrestricted signing key that cannot leave its TPM.

    Attributes:
        public: The accepted public area.
        name: Its name, recomputed; what a certification must name.
        key: The loaded key.
    """

    public: TPMTPublic
    name: bytes
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def accept_attestation_key(public: TPMTPublic) -> AttestationKey:
    """Accept a public area as that of an attestation key.

    Proves: if the key lives in a TPM, it was made there, never leaves it, and signs
    nothing that starts with TPM_GENERATED but what the TPM attests itself. Does not
    prove that it lives in a TPM, or in which one: the caller must still tie ``name`` to
    an endorsed EK by credential activation, and compare qualified signers.

    Args:
        public: Unverified public area.

    Returns:
        The accepted key, loaded.

    Raises:
        VerificationError: Something about it is not as it must be; all of it is told.
    """
    found = attribute_findings(public, "ak", _AK_REQUIRED, _AK_FORBIDDEN)
    found += strength_findings(public, "ak", _AK_CURVES)
    found += scheme_findings(public, "ak")
    key = load_or_raise(public, "ak", found)
    scheme = public.parameters.scheme
    verification = VerificationKey(key, TPMAlg(scheme.alg), HashAlg(scheme.hash_alg or 0))
    return AttestationKey(public, public.name, verification)


def _bound_scheme(public: TPMTPublic) -> list[Finding]:
    # An unrestricted key may leave its scheme open; then whoever asks it to sign chooses.
    if public.parameters.scheme.alg == TPMAlg.NULL:
        return []
    found = scheme_findings(public, "bound-key")
    if not found and isinstance(public.parameters, TPMSECCParms):
        hash_alg = public.parameters.scheme.hash_alg
        if hash_alg != HashAlg.SHA256:
            return [
                Finding(
                    "bound-key.scheme.hash",
                    "The bound key on P-256 must sign with SHA-256.",
                    expected="sha256",
                    seen=hash_name(hash_alg or 0),
                )
            ]
    return found


def accept_bound_key(public: TPMTPublic) -> BoundKey:
    """Accept a public area as that of a TPM-resident confirmation key.

    Proves: if the key lives in a TPM, it was made there, never leaves it and can sign a
    proof of possession (P-256 with SHA-256, or RSA of 2048 bits and more). Does not
    prove that it lives in a TPM: the caller must still verify a certification of it by
    an attestation key of the same TPM.

    Raises:
        VerificationError: Something about it is not as it must be; all of it is told.
    """
    found = attribute_findings(public, "bound-key", _BOUND_REQUIRED, _BOUND_FORBIDDEN)
    found += strength_findings(public, "bound-key", _BOUND_CURVES)
    found += _bound_scheme(public)
    key = load_or_raise(public, "bound-key", found)
    return BoundKey(public, public.name, key)


def unsafe_bare_key(
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, signature: TPMTSignature
) -> UnsafeBareKey:
    """Take a key without a public area, with the scheme that a signature claims for it.

    Proves nothing about the key. Letting the signature choose scheme and hash is one more
    thing that is unsafe here; what it may choose from is what an attestation key may have.

    Args:
        key: The key.
        signature: Unverified; a scheme that does not fit the key is refused later.

    Returns:
        The key, for looking at quotes by hand.

    Raises:
        VerificationError: The key is too weak, or on a curve that is not supported.
    """
    is_ecc = isinstance(key, ec.EllipticCurvePublicKey)
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _BARE_CURVES:
            raise VerificationError(curve_finding("ak", _AK_CURVES, key.curve.name))
    elif key.key_size < MIN_RSA_BITS:
        raise VerificationError(rsa_size_finding("ak", key.key_size))
    scheme = TPMAlg.ECDSA if is_ecc else TPMAlg.RSASSA
    if not is_ecc and signature.alg == TPMAlg.RSAPSS:
        scheme = TPMAlg.RSAPSS
    claimed = HashAlg.SHA256 if isinstance(signature.body, bytes) else signature.body.hash_alg
    hash_alg = HashAlg(claimed) if claimed in SIGNATURE_HASHES else HashAlg.SHA256
    return UnsafeBareKey(VerificationKey(key, scheme, hash_alg))
