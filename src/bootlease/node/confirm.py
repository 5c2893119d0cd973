"""Confirmation keys: whom a lease is for.

A key that the agent makes lives as long as its lineage: a new lineage is a new start, and what held
the old key holds nothing of the new. No kind is ever written to disk by this module.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import ConfirmationRequest, ExpiringKey, KeyPermit, PlainKey
from bootlease.evidence.expiring import SALT_BYTES, leash_authority, policy_ref
from bootlease.ports import BoundKey, Permit, TPMDevice
from bootlease.token import PrivateKeySigner, PublicKey, Signer, base64url
from bootlease.token.keys import algorithms_of
from bootlease.tpm import TPMTPublic, accept_bound_key, parse_public
from bootlease.tpm.policy import signed_policy


class Confirmation(enum.Enum):
    """Where the private half of a confirmation key lives."""

    PROCESS = "process"
    TPM = "tpm"
    TPM_EXPIRING = "tpm-expiring"
    """In the TPM, which lets nobody use it after the lease's end."""


class ConfirmationKey(Protocol):
    """A key whose holder a lease is for."""

    @property
    def public(self) -> PublicKey:
        """What the token's ``cnf`` must hold."""

    @property
    def request(self) -> ConfirmationRequest:
        """The key as evidence presents it."""

    @property
    def signer(self) -> Signer | None:
        """Signs with the private key; None where only its owner can."""

    def export(self) -> bytes | None:
        """Return the private key as PEM; None where it cannot leave its place."""


class ProcessKey:
    """A P-256 key in this process: fast, and gone with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.signer: Signer = PrivateKeySigner(self._key)
        self.public = self.signer.public
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
        accepted = accept_bound_key(parse_public(key.certification.public))
        self.public = PublicKey.from_cryptography(accepted.key)
        self.key_id = base64url.encode(self.public.thumbprint())
        self.algorithm = algorithms_of(self.public.kind)[0]

    @property
    def request(self) -> ConfirmationRequest:
        """The key as evidence presents it."""
        return self._key.certification

    @property
    def signer(self) -> Signer:
        """The key itself: the TPM signs, which takes a while and may fail."""
        return self

    def export(self) -> None:
        """Return None: the key stays in the TPM."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""
        return self._key.sign(data)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What an expiring key is for: all of it is in the key's policy.

    Attributes:
        leash_key: Who permits its use.
        node: Node id.
        wish: The wish, as ``LeaseWish.purpose`` writes it.
    """

    leash_key: PublicKey
    node: bytes
    wish: bytes


class ExpiringTPMKey(TPMKey):
    """A key inside the TPM that needs the verifier's permit, which each lease brings anew.

    Args:
        device: The TPM that makes it.
        purpose: What it is for.

    Attributes:
        authority: The leash key as the TPM loads it.
        session: nonceTPM of the session that the next permit is for.
    """

    def __init__(self, device: TPMDevice, purpose: Purpose) -> None:
        self.authority: TPMTPublic = leash_authority(purpose.leash_key)
        self._salt = os.urandom(SALT_BYTES)
        self._ref = policy_ref(purpose.node, purpose.wish, self._salt)
        self.session = b""
        super().__init__(device.expiring_key(signed_policy(self.authority.name, self._ref)))

    @property
    def request(self) -> ExpiringKey:
        """The key as evidence presents it, in the session that began last."""
        certified = self._key.certification
        return ExpiringKey(
            *(certified.public, certified.attest, certified.signature),
            *(self._salt, self.session, self.authority.name),
        )

    def permit(self, given: KeyPermit) -> Permit:
        """Return what the TPM is to be shown of a permit for it."""
        return Permit(self._key, self._ref, given.seconds, given.signature)


class OwnKey:
    """A key of the workload's own: it goes along in evidence, and the agent cannot use it.

    Args:
        public: Its public half.
    """

    signer: None = None

    def __init__(self, public: PublicKey) -> None:
        self.public = public
        self.request = PlainKey(cbor.encode(public.cose()))

    def export(self) -> None:
        """Return None: the agent never had it."""


def make_key(
    kind: Confirmation, device: TPMDevice, purpose: Purpose | None = None
) -> ConfirmationKey:
    """Make a new confirmation key.

    Args:
        kind: Where it is to live.
        device: The TPM.
        purpose: What an expiring key is for.

    Raises:
        TransportError: The TPM cannot be reached or refuses.
        MalformedError: An expiring key has no purpose: the join bundle names no leash key.
    """
    if kind is Confirmation.TPM_EXPIRING:
        if purpose is None:
            raise MalformedError(
                "the join bundle names no leash_key, without which no key expires: make a new one"
            )
        return ExpiringTPMKey(device, purpose)
    return TPMKey(device.bound_key()) if kind is Confirmation.TPM else ProcessKey()
