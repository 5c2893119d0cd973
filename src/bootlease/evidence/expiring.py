"""Confirmation keys that the TPM lets nobody use after the lease's end, and permits to use them.

Layout: docs/protocol.md, "Expiring keys". The key's authPolicy is TPM2_PolicySigned by the
verifier's leash key with a policyRef that says what the key is for: node, wish and a salt. Each
answer brings a permit, good in the one policy session that the evidence named. So a permit for one
lease lets no key of another be used, of this node or of any.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.token.publickey import PublicKey
from bootlease.tpm.policy import (
    MAX_SECONDS,
    NAME_BYTES,
    NONCE_BYTES,
    RAW_SIGNATURE_BYTES,
    permit_message,
    signing_authority,
)
from bootlease.tpm.public import TPMTPublic

SALT_BYTES: Final = 16
MEMBERS: Final = 6
_LABEL: Final = "bootlease/expiring-key/1"
_MAX_TPM_STRUCTURE: Final = 4096


@dataclass(frozen=True, slots=True)
class ExpiringKey:
    """A confirmation key in the TPM that needs the verifier's permit, certified by the AK.

    Attributes:
        public: TPMT_PUBLIC of the key.
        attest: TPMS_ATTEST of type certify over it.
        signature: TPMT_SIGNATURE of the AK over ``attest``.
        salt: Sets it apart from another key for the same.
        session: nonceTPM of the policy session in which the permit is to be good.
        authority: Name of the leash key that its policy asks for.
    """

    public: bytes
    attest: bytes
    signature: bytes
    salt: bytes
    session: bytes
    authority: bytes

    def wire(self) -> dict[str, bytes]:
        """Return the wire form."""
        return {
            "public": self.public,
            "attest": self.attest,
            "signature": self.signature,
            "salt": self.salt,
            "session": self.session,
            "authority": self.authority,
        }


def parse_expiring_key(fields: Fields) -> ExpiringKey:
    """Read the wire form into unverified values.

    Raises:
        MalformedError: It has not the form of one.
    """
    key = ExpiringKey(
        public=fields.octets("public", at_most=_MAX_TPM_STRUCTURE),
        attest=fields.octets("attest", at_most=_MAX_TPM_STRUCTURE),
        signature=fields.octets("signature", at_most=_MAX_TPM_STRUCTURE),
        salt=fields.octets("salt", at_most=SALT_BYTES),
        session=fields.octets("session", at_most=NONCE_BYTES),
        authority=fields.octets("authority", at_most=NAME_BYTES),
    )
    sizes = len(key.salt), len(key.session), len(key.authority)
    # With a nonce of another size, what is signed could be read in another way (tpm.policy).
    if sizes != (SALT_BYTES, NONCE_BYTES, NAME_BYTES):
        raise MalformedError("expiring key needs salt, session and authority of 16, 16, 34 bytes")
    return key


def policy_ref(node: bytes, purpose: bytes, salt: bytes) -> bytes:
    """Return the policyRef of a key: what a permit for it is for.

    Args:
        node: Node id.
        purpose: The wish, as ``request.encode_purpose`` writes it.
        salt: The key's.
    """
    return hashlib.sha256(cbor.encode([_LABEL, node, purpose, salt])).digest()


def authority_name(key: PublicKey) -> bytes:
    """Return the name under which a TPM knows a leash key.

    Raises:
        ValueError: It is no key on P-256.
    """
    return leash_authority(key).name


def leash_authority(key: PublicKey) -> TPMTPublic:
    """Return the public area under which a TPM loads a leash key.

    Raises:
        ValueError: It is no key on P-256.
    """
    loaded = key.load()
    if not isinstance(loaded, ec.EllipticCurvePublicKey):
        raise ValueError("a leash key is on P-256")  # noqa: TRY004 - a value that is read
    return signing_authority(loaded)


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """What a verified key needs a permit for.

    Attributes:
        session: nonceTPM of the policy session.
        policy_ref: The key's policyRef.
    """

    session: bytes
    policy_ref: bytes

    def message(self, seconds: int) -> bytes:
        """Return what the leash key signs for use until ``seconds`` after the session's start.

        Raises:
            ValueError: There is no second left.
        """
        return permit_message(self.session, seconds, self.policy_ref)


def permitted_seconds(expires_at: int, now: int) -> int:
    """Return how long a permit lasts that is given now; below 1 where there is no time for one.

    The TPM counts from the start of a session that is older than the decision. ``now`` is a whole
    second that has begun, so one more is taken off: the TPM's end is never after the lease's, as
    long as its clock keeps pace.

    Args:
        expires_at: First second at which the lease is over.
        now: The verifier's time of decision, in whole seconds.
    """
    return expires_at - now - 1


@dataclass(frozen=True, slots=True)
class KeyPermit:
    """The leash key's word that a key may be used for a while. Unverified; the TPM verifies it.

    Attributes:
        seconds: From the start of the policy session.
        signature: ECDSA with SHA-256, ``r || s``.
    """

    seconds: int
    signature: bytes

    def wire(self) -> list[Any]:
        """Return the wire form."""
        return [self.seconds, self.signature]


def parse_permit(values: tuple[Any, ...]) -> KeyPermit:
    """Read the wire form.

    Raises:
        MalformedError: It is no permit.
    """
    if len(values) != 2:  # noqa: PLR2004 - a pair
        raise MalformedError("key permit is not seconds and a signature")
    seconds, signature = values
    if type(seconds) is not int or not 0 < seconds <= MAX_SECONDS:
        raise MalformedError("key permit is for no possible time")
    if type(signature) is not bytes or len(signature) != RAW_SIGNATURE_BYTES:
        raise MalformedError(f"key permit needs a signature of {RAW_SIGNATURE_BYTES} bytes")
    return KeyPermit(seconds, signature)
