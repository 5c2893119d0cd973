"""A simulated node whose quotes and signatures an attacker rewrites on their way out.

What it signs with is a key of its own, so a forgery here has everything that a real one lacks: the
right key, if the attacker had it. What is refused is refused for the one thing that was forged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import AKAlgorithm
from bootlease.node.tpm.signing_templates import attestation_key_template
from bootlease.ports import QuotedState
from bootlease.testing.simulated_node import PrivateKey, SimulatedNode
from bootlease.tpm import (
    TPMAlg,
    TPMSAttest,
    TPMSECCParms,
    TPMSECCPoint,
    TPMSRSAParms,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSignature,
    parse_attest,
)

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RSA_KEY: Final = rsa.generate_private_key(65537, 2048)
"""One for all: making one takes longer than a whole attack."""

_HASHES: Final[Mapping[HashAlg, hashes.HashAlgorithm]] = {
    HashAlg.SHA1: hashes.SHA1(),  # noqa: S303  what is to be refused
    HashAlg.SHA256: hashes.SHA256(),
    HashAlg.SHA384: hashes.SHA384(),
}

Forge = Callable[[TPMSAttest], bytes]
Sign = Callable[[bytes], bytes]


class ForgingNode(SimulatedNode):
    """A node that forges.

    Attributes:
        forge: Rewrites what a quote attests, before it is signed.
        sign: Signs in place of the AK.
    """

    forge: Forge | None = None
    sign: Sign | None = None

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote PCRs as forged."""
        state = super().quote(qualifying_data, selection)
        if self.forge is None:
            return state
        attest = self.forge(parse_attest(state.attest))
        return QuotedState(attest, self.sign_as_ak(attest), state.pcrs)

    def sign_as_ak(self, data: bytes) -> bytes:
        """Sign as forged."""
        return super().sign_as_ak(data) if self.sign is None else self.sign(data)

    def use_ak(self, key: PrivateKey, public: TPMTPublic) -> None:
        """Attest with another key from now on, whatever it is."""
        self._ak_key, self._ak = key, public

    def use_rsa_ak(
        self, scheme: TPMAlg = TPMAlg.RSASSA, hash_alg: HashAlg = HashAlg.SHA256
    ) -> None:
        """Attest with the RSA key of this module, under a scheme."""
        self.use_ak(RSA_KEY, rsa_ak(RSA_KEY, scheme, hash_alg))

    @property
    def ak_key(self) -> Any:
        """The AK's private key, of whichever kind."""
        return self._ak_key

    @property
    def ek_key(self) -> Any:
        """The EK's private key, of whichever kind."""
        return self._ek_key

    @property
    def ak_area(self) -> TPMTPublic:
        """The AK's public area."""
        return self._ak

    def alter_ak(self, **changes: Any) -> bytes:
        """Return TPMT_PUBLIC of the AK with some members changed."""
        return dataclasses.replace(self._ak, **changes).marshal()


def rsa_ak(
    key: rsa.RSAPrivateKey, scheme: TPMAlg = TPMAlg.RSASSA, hash_alg: HashAlg = HashAlg.SHA256
) -> TPMTPublic:
    """Return the public area of an RSA attestation key."""
    template = attestation_key_template(AKAlgorithm.RSA_2048, b"")
    assert isinstance(template.parameters, TPMSRSAParms)
    parameters = dataclasses.replace(
        template.parameters, scheme=TPMTAsymScheme(scheme, hash_alg), key_bits=key.key_size
    )
    modulus = key.public_key().public_numbers().n
    unique = modulus.to_bytes(key.key_size // 8, "big")
    return dataclasses.replace(template, parameters=parameters, unique=unique)


def ecc_ak(key: ec.EllipticCurvePrivateKey, curve: int) -> TPMTPublic:
    """Return the public area of an attestation key on a curve of that number."""
    template = attestation_key_template(AKAlgorithm.ECC_P256, b"")
    point = key.public_key().public_numbers()
    size = (key.key_size + 7) // 8
    unique = TPMSECCPoint(point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big"))
    assert isinstance(template.parameters, TPMSECCParms)
    parameters = dataclasses.replace(template.parameters, curve=curve)
    return dataclasses.replace(template, parameters=parameters, unique=unique)


def rsa_signature(
    data: bytes,
    *,
    header: TPMAlg = TPMAlg.RSASSA,
    body: TPMAlg = TPMAlg.RSASSA,
    hash_alg: HashAlg = HashAlg.SHA256,
    named: HashAlg | None = None,
) -> bytes:
    """Return TPMT_SIGNATURE by the RSA key of this module.

    Args:
        data: What is signed.
        header: The scheme it claims.
        body: The scheme it is made with.
        hash_alg: The hash it is made with.
        named: The hash it claims, if that is another.
    """
    digest = _HASHES[hash_alg]
    fill: padding.AsymmetricPadding = padding.PKCS1v15()
    if body == TPMAlg.RSAPSS:
        fill = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    made = RSA_KEY.sign(data, fill, digest)
    return TPMTSignature(header, TPMSSignatureRSA(named or hash_alg, made)).marshal()


def ecdsa_numbers(
    key: ec.EllipticCurvePrivateKey, data: bytes, hash_alg: HashAlg = HashAlg.SHA256
) -> tuple[int, int]:
    """Return r and s of an ECDSA signature."""
    return decode_dss_signature(key.sign(data, ec.ECDSA(_HASHES[hash_alg])))


def ecc_signature(r: bytes, s: bytes, hash_alg: HashAlg = HashAlg.SHA256) -> bytes:
    """Return TPMT_SIGNATURE of two numbers."""
    return TPMTSignature(TPMAlg.ECDSA, TPMSSignatureECC(hash_alg, r, s)).marshal()


def as_32_bytes(number: int) -> bytes:
    """Return a number as P-256 signatures hold it."""
    return number.to_bytes(32, "big")


def ecdsa_signature(
    key: ec.EllipticCurvePrivateKey,
    data: bytes,
    made_with: HashAlg = HashAlg.SHA256,
    named: HashAlg = HashAlg.SHA256,
) -> bytes:
    """Return TPMT_SIGNATURE of a P-256 key, which may lie about its hash."""
    r, s = ecdsa_numbers(key, data, made_with)
    return ecc_signature(as_32_bytes(r), as_32_bytes(s), named)
