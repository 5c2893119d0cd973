"""The calls that an agent makes to its verifier, whatever carries them."""

from __future__ import annotations

from typing import Protocol

from bootlease.errors import TransportError
from bootlease.evidence import (
    Activation,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
    LeaseAnswer,
)


class UnavailableError(TransportError):
    """The verifier gave no usable answer.

    Attributes:
        retry_after: Seconds that it asks to wait, if it said.
        sent: The request may have reached it: what it asked for may have been done.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.sent = sent


class Verifier(Protocol):
    """The calls that an agent makes; ``VerifierClient`` carries them over HTTP.

    Each raises ``VerificationError`` for a refusal, ``MalformedError`` where the verifier cannot
    read the request, and ``TransportError`` for everything that is no answer.
    """

    def enrol(self, request: EnrolmentRequest) -> CredentialChallenge:
        """Ask to be known."""

    def activate(self, enrolment: bytes, activation: Activation) -> EnrolmentReceipt:
        """Prove that AK and EK are in one TPM."""

    def challenge(self, node: bytes) -> Challenge:
        """Ask for a challenge."""

    def lease(self, node: bytes, evidence: bytes) -> LeaseAnswer:
        """Present evidence."""

    def rotations(self) -> tuple[str, ...]:
        """Ask which token keys named which; unverified (``token.keyrotation``)."""
