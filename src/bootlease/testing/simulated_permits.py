"""Policy sessions, permits and tickets of a simulated TPM.

Specification: TPM 2.0 Library part 3 §23.3 (PolicySigned), §23.5 (PolicyTicket). Not simulated: a
TPM's own clock; time is CLOCK_MONOTONIC.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from bootlease.errors import TransportError
from bootlease.evidence import CertifiedKey
from bootlease.ports import Permit
from bootlease.tpm import parse_public
from bootlease.tpm.policy import NONCE_BYTES, permit_message, signed_policy
from bootlease.tpm.schemes import load_public_key

_P256_BYTES = 32


class SimulatedBoundKey:
    """A confirmation key of a ``SimulatedNode``."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certification: CertifiedKey) -> None:
        """Hold ``key``."""
        self._key = key
        self._certification = certification

    @property
    def certification(self) -> CertifiedKey:
        """The AK's certificate over this key."""
        return self._certification

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` (ES256: SHA-256, raw ``r || s``)."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")


class SimulatedExpiringKey(SimulatedBoundKey):
    """One that signs until its permit is over.

    Attributes:
        until: CLOCK_MONOTONIC; before the first permit, long ago.
    """

    until = float("-inf")

    def sign(self, data: bytes) -> bytes:
        """Sign ``data``.

        Raises:
            TransportError: No permit is good now, as a TPM would say.
        """
        if time.monotonic() > self.until:
            raise TransportError("TPM2_PolicyTicket failed: the policy has expired")
        return super().sign(data)


class SimulatedSession:
    """The session that permits are asked for.

    Attributes:
        nonce: Its nonceTPM.
    """

    def __init__(self) -> None:
        """Start it."""
        self.nonce = os.urandom(NONCE_BYTES)
        self._started = time.monotonic()

    def redeem(self, authority: bytes, permits: Sequence[Permit]) -> None:
        """Do what PolicySigned does with each.

        Raises:
            TransportError: One is not for this session, or for another key.
        """
        area = parse_public(authority)
        key = load_public_key(area, "authority")
        for permit in permits:
            half = len(permit.signature) // 2
            r, s = permit.signature[:half], permit.signature[half:]
            der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            message = permit_message(self.nonce, permit.seconds, permit.policy_ref)
            policy = parse_public(permit.key.certification.public).auth_policy
            try:
                if not isinstance(key, ec.EllipticCurvePublicKey):
                    raise TransportError("TPM2_PolicySigned failed: a scheme of another key")
                key.verify(der, message, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature as exc:
                raise TransportError("TPM2_PolicySigned failed: invalid signature") from exc
            if policy != signed_policy(area.name, permit.policy_ref):
                raise TransportError("TPM2_Sign failed: a policy check failed")
            if not isinstance(permit.key, SimulatedExpiringKey):
                raise TypeError("a permit is for an expiring key")
            permit.key.until = self._started + permit.seconds
