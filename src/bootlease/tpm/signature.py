"""TPMT_SIGNATURE: a signature with its scheme and hash.

Specification: TPM 2.0 Library part 2 §11.3.4 (TPMT_SIGNATURE), §11.3.1
(TPMS_SIGNATURE_RSA), §11.3.2 (TPMS_SIGNATURE_ECC)::

    sigAlg u16 | RSASSA, RSAPSS: hash u16, sig 2B
               | ECDSA:          hash u16, r 2B, s 2B

Every other scheme (NULL, HMAC, ECDAA, ECSCHNORR, SM2, unknown) is kept as opaque
bytes and refused, with a finding, by whatever verifies it (attack A18).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from bootlease.tpm.algorithms import TPMAlg
from bootlease.tpm.wire import Reader, sized, u16

MAX_RSA_BYTES: Final = 512
"""RSA keys up to 4096 bits."""
MAX_ECC_BYTES: Final = 128
"""MAX_ECC_KEY_BYTES of tpm2-tss; the exact bound is the curve's, checked on use."""

_ECDSA: Final = int(TPMAlg.ECDSA)
_P256_BYTES: Final = 32
_PLAIN_ECDSA: Final = struct.Struct(f">HHH{_P256_BYTES}sH{_P256_BYTES}s")
"""A signature on P-256 whose numbers are padded to their full size, as most TPMs write them."""
_RSA_SCHEMES: Final = frozenset({int(TPMAlg.RSASSA), int(TPMAlg.RSAPSS)})


class TPMSSignatureRSA(NamedTuple):
    """TPMS_SIGNATURE_RSA."""

    hash_alg: int
    sig: bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        return u16(self.hash_alg) + sized(self.sig)


class TPMSSignatureECC(NamedTuple):
    """TPMS_SIGNATURE_ECC; ``r`` and ``s`` as the bytes that were read."""

    hash_alg: int
    r: bytes
    s: bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        return u16(self.hash_alg) + sized(self.r) + sized(self.s)


class TPMTSignature(NamedTuple):
    """TPMT_SIGNATURE, unverified.

    Attributes:
        alg: The scheme's TPM_ALG_ID.
        body: Its content; bytes where the scheme is of a refused kind.
    """

    alg: int
    body: TPMSSignatureRSA | TPMSSignatureECC | bytes

    def marshal(self) -> bytes:
        """Return the wire form."""
        return u16(self.alg) + (self.body if isinstance(self.body, bytes) else self.body.marshal())


def parse_signature(data: bytes) -> TPMTSignature:
    """Parse TPMT_SIGNATURE.

    Args:
        data: Untrusted bytes.

    Returns:
        The unverified structure.

    Raises:
        MalformedError: The bytes have another form, or more follow.
    """
    if len(data) == _PLAIN_ECDSA.size:
        alg, hash_alg, r_size, r, s_size, s = _PLAIN_ECDSA.unpack(data)
        if (alg, r_size, s_size) == (_ECDSA, _P256_BYTES, _P256_BYTES):
            return TPMTSignature(alg, TPMSSignatureECC(hash_alg, r, s))
    reader = Reader(data)
    alg = reader.u16()
    body: TPMSSignatureRSA | TPMSSignatureECC | bytes
    if alg == _ECDSA:
        body = TPMSSignatureECC(
            reader.u16(), reader.sized(MAX_ECC_BYTES), reader.sized(MAX_ECC_BYTES)
        )
    elif alg in _RSA_SCHEMES:
        body = TPMSSignatureRSA(reader.u16(), reader.sized(MAX_RSA_BYTES))
    else:
        body = reader.rest()
    reader.finish()
    return TPMTSignature(alg, body)
