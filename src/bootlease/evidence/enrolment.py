"""The messages of enrolment: EK and AK go in, a credential comes back, its secret proves both.

Layout: docs/protocol.md, "Enrolment".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.evidence.request import MAX_TPM_STRUCTURE

MAX_ENROLMENT: Final = 64 * 1024
MAX_CERTIFICATE: Final = 8 * 1024
MAX_CHAIN: Final = 6
MAX_JOIN_TOKEN: Final = 128


def node_id(ek_spki: bytes) -> bytes:
    """Derive the node id from the EK: another TPM cannot take it over, nor this one have two.

    Args:
        ek_spki: The EK's key alone, DER SubjectPublicKeyInfo. Not TPMT_PUBLIC: a credential
            opens whatever attributes and policy its public area was sent with, so that each
            variation would be a node of its own, without the history of the first.
    """
    return hashlib.sha256(b"bootlease/node/1\0" + ek_spki).digest()


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A node's wish to be known: unverified.

    Attributes:
        ek_public: TPMT_PUBLIC of the EK.
        ak_public: TPMT_PUBLIC of the AK.
        ek_chain: DER certificates, the EK's first; empty where the EK has none.
        join_token: The secret that lets it in, where the policy asks for one.
    """

    ek_public: bytes
    ak_public: bytes
    ek_chain: tuple[bytes, ...]
    join_token: str | None = None

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        message = {
            "v": 1,
            "ek": self.ek_public,
            "ak": self.ak_public,
            "chain": list(self.ek_chain),
        }
        return cbor.encode(message | ({"join": self.join_token} if self.join_token else {}))

    @classmethod
    def parse(cls, data: bytes) -> EnrolmentRequest:
        """Parse an encoded request.

        Raises:
            MalformedError: The bytes are not an enrolment request.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_ENROLMENT), "enrolment request")
        fields.version("v", 1)
        chain = fields.array("chain", at_most=MAX_CHAIN)
        if any(type(der) is not bytes or len(der) > MAX_CERTIFICATE for der in chain):
            raise MalformedError(f"enrolment request needs certificates of {MAX_CERTIFICATE} bytes")
        request = cls(
            ek_public=fields.octets("ek", at_most=MAX_TPM_STRUCTURE),
            ak_public=fields.octets("ak", at_most=MAX_TPM_STRUCTURE),
            ek_chain=chain,
            join_token=fields.text("join", at_most=MAX_JOIN_TOKEN) if fields.has("join") else None,
        )
        fields.end()
        return request


@dataclass(frozen=True, slots=True)
class CredentialChallenge:
    """MakeCredential's output: only the TPM that holds both keys can open it.

    Attributes:
        enrolment: Id of the pending enrolment, 32 bytes.
        id_object: TPM2B_ID_OBJECT.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET.
    """

    enrolment: bytes
    id_object: bytes
    encrypted_secret: bytes

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode(
            {"enrolment": self.enrolment, "object": self.id_object, "secret": self.encrypted_secret}
        )

    @classmethod
    def parse(cls, data: bytes) -> CredentialChallenge:
        """Parse an encoded credential challenge.

        Raises:
            MalformedError: The bytes are not a credential challenge.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_ENROLMENT), "credential challenge")
        return cls(
            enrolment=fields.digest("enrolment"),
            id_object=fields.octets("object", at_most=MAX_TPM_STRUCTURE),
            encrypted_secret=fields.octets("secret", at_most=MAX_TPM_STRUCTURE),
        )


@dataclass(frozen=True, slots=True)
class Activation:
    """The opened secret: proof that AK and EK are in one TPM.

    Attributes:
        secret: 32 bytes.
    """

    secret: bytes

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode({"secret": self.secret})

    @classmethod
    def parse(cls, data: bytes) -> Activation:
        """Parse an encoded activation.

        Raises:
            MalformedError: The bytes are not an activation.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_ENROLMENT), "activation")
        message = cls(secret=fields.digest("secret"))
        fields.end()
        return message


@dataclass(frozen=True, slots=True)
class EnrolmentReceipt:
    """The verifier's word that the node is enrolled.

    Attributes:
        node: Node id, 32 bytes.
    """

    node: bytes

    def encode(self) -> bytes:
        """Return the deterministic CBOR."""
        return cbor.encode({"node": self.node})

    @classmethod
    def parse(cls, data: bytes) -> EnrolmentReceipt:
        """Parse an encoded receipt.

        Raises:
            MalformedError: The bytes are not an enrolment receipt.
        """
        fields = Fields(cbor.decode(data, max_bytes=MAX_ENROLMENT), "enrolment receipt")
        return cls(node=fields.digest("node"))
