"""Keys that a known flaw of their maker gives away.

Source: CVE-2017-15361 (ROCA): Nemec et al., "The Return of Coppersmith's Attack", CCS 2017,
§3: primes of the faulty generator have the form k·M + (65537^a mod M), so the modulus is a power
of 65537 modulo every small prime that divides M.

Not handled: weaknesses of a chip that its key does not show (TPM-FAIL, faulTPM): policies list the
firmware.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.model import Finding

_GENERATOR: Final = 65537
_PRIMES: Final = (
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
)  # fmt: skip
"""Primes modulo which few residues are powers of 65537: a sound key passes all of them by chance
once in 2^27."""


def _powers(prime: int) -> frozenset[int]:
    found = {1}
    value = _GENERATOR % prime
    while value not in found:
        found.add(value)
        value = value * _GENERATOR % prime
    return frozenset(found)


_RESIDUES: Final = {prime: _powers(prime) for prime in _PRIMES}


def is_roca(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bool:
    """Tell whether an RSA modulus has the form of the faulty generator."""
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    modulus = key.public_numbers().n
    return all(modulus % prime in residues for prime, residues in _RESIDUES.items())


def weak_key(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> tuple[Finding, ...]:
    """Return a finding if the key itself shows that its private half can be computed (B15)."""
    if not is_roca(key):
        return ()
    return (
        Finding(
            "endorsement.key.roca",
            "The EK was made by the faulty generator of CVE-2017-15361; its private key can be"
            " computed.",
        ),
    )
