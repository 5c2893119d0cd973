"""What a node needs of its machine: the time and the TPM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootlease.evidence import CertifiedKey
from bootlease.model import HashAlg, PCRValues


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return seconds since the epoch (wall clock)."""

    def boottime(self) -> float:
        """Return seconds since boot, time asleep included (CLOCK_BOOTTIME)."""


@dataclass(frozen=True, slots=True)
class QuotedState:
    """What TPM2_Quote returned, and the PCR values that agree with it: unverified.

    Attributes:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        pcrs: Values of the selected PCRs.
    """

    attest: bytes
    signature: bytes
    pcrs: PCRValues


class BoundKey(Protocol):
    """A confirmation key inside the TPM."""

    @property
    def certification(self) -> CertifiedKey:
        """The AK's certificate over this key."""

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Somebody's word that a key may be used for a while: unverified.

    Attributes:
        key: The key, of ``TPMDevice.expiring_key``.
        policy_ref: What its policy asks to be signed of.
        seconds: From the start of the session that ``TPMDevice.begin_permits`` began.
        signature: ECDSA with SHA-256, ``r || s``.
    """

    key: BoundKey
    policy_ref: bytes
    seconds: int
    signature: bytes


class TPMDevice(Protocol):
    """The TPM of a node, real or simulated.

    Every method raises ``TransportError`` when the TPM cannot be reached or refuses.
    """

    def ek_chain(self) -> Sequence[bytes]:
        """Return the EK certificate and its intermediates, DER; empty where there is none."""

    def ek_public(self) -> bytes:
        """Return TPMT_PUBLIC of the EK."""

    def ak_public(self) -> bytes:
        """Return TPMT_PUBLIC of the AK, made and kept at the first call."""

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that MakeCredential wrapped for this EK and AK."""

    def quote(
        self, qualifying_data: bytes, selection: Mapping[HashAlg, Sequence[int]]
    ) -> QuotedState:
        """Quote the selected PCRs, with values that agree with the quote."""

    def bound_key(self) -> BoundKey:
        """Return a fresh signing key inside the TPM, certified by the AK."""

    def expiring_key(self, policy: bytes) -> BoundKey:
        """Return a fresh signing key, certified by the AK, whose authPolicy is ``policy``.

        The TPM lets it sign where a permit has been redeemed for it, until that is over.
        """

    def begin_permits(self) -> bytes:
        """Begin a policy session, and end the one before it; return its nonceTPM, 16 bytes."""

    def redeem(self, authority: bytes, permits: Sequence[Permit]) -> None:
        """Let keys be used under permits of the session that began last, and end that.

        Args:
            authority: TPMT_PUBLIC of the key that signed them.
            permits: One for each key.
        """
