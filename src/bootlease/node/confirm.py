"""Confirmation keys: whom a lease is for.

A key lives as long as its lineage: a new lineage is a new start, and what held the old key holds
nothing of the new. Neither kind is ever written to disk by this module.
"""

from __future__ import annotations

import enum
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.evidence import CertifiedKey, PlainKey
from bootlease.ports import BoundKey, TPMDevice
from bootlease.token import PublicKey
from bootlease.tpm import accept_bound_key, parse_public


class Confirmation(enum.Enum):
    """Where the private half of a confirmation key lives."""

    PROCESS = "process"
    TPM = "tpm"


class ConfirmationKey(Protocol):
    """A key whose holder a lease is for."""

    @property
    def public(self) -> PublicKey:
        """What the token's ``cnf`` must hold."""

    @property
    def request(self) -> PlainKey | CertifiedKey:
        """The key as evidence presents it."""

    def export(self) -> bytes | None:
        """Return the private key as PEM; None where it cannot leave its place."""


class ProcessKey:
    """A P-256 key in this process: fast, and gone with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = PublicKey.from_cryptography(self._key.public_key())
        self.request = PlainKey(cbor.encode(self.public.cose()))

    def export(self) -> bytes:
        """Return the private key as PEM (PKCS #8)."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


class TPMKey:
    """A P-256 key inside the TPM, certified by the AK: it cannot be copied."""

    def __init__(self, key: BoundKey) -> None:
        self._key = key
        self.request = key.certification
        accepted = accept_bound_key(parse_public(self.request.public))
        self.public = PublicKey.from_cryptography(accepted.key)

    def export(self) -> None:
        """Return None: the key stays in the TPM."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""
        return self._key.sign(data)


def make_key(kind: Confirmation, device: TPMDevice) -> ConfirmationKey:
    """Make a new confirmation key.

    Raises:
        TransportError: The TPM cannot be reached or refuses.
    """
    return TPMKey(device.bound_key()) if kind is Confirmation.TPM else ProcessKey()
