"""A node's side of the protocol, one step at a time, so that a test can lie at any of them.

Unlike the agent of ``bootlease.node`` it checks nothing, retries nothing and keeps only what it
is told to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx2

from bootlease.evidence import (
    Activation,
    Binding,
    Challenge,
    CredentialChallenge,
    EnrolmentReceipt,
    EnrolmentRequest,
    Evidence,
    LeaseAnswer,
    LeaseRequest,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.node.renewal.attest import with_list
from bootlease.testing.simulated_node import SimulatedNode

_MEDIA: Final = "application/vnd.bootlease.{}+cbor"


@dataclass(slots=True)
class AttestingClient:
    """One node that talks to a verifier.

    Attributes:
        http: Carries requests; its base URL is the verifier's.
        device: The node's TPM and log.
        leases: What it asks for.
        node: Node id, once enrolled.
        head: Head of its lineage, once it has one.
        challenge: The challenge to answer next.
    """

    http: httpx2.Client
    device: SimulatedNode
    leases: Sequence[LeaseRequest]
    node: bytes = b""
    head: bytes | None = None
    challenge: Challenge | None = None
    answers: list[LeaseAnswer] = field(default_factory=list)

    def send(self, path: str, kind: str, body: bytes) -> httpx2.Response:
        """Send one message."""
        headers = {"content-type": _MEDIA.format(kind)}
        return self.http.post(path, content=body, headers=headers)

    def request_enrolment(self, join_token: str | None = None, **changes: Any) -> httpx2.Response:  # noqa: ANN401 - any field
        """Send an enrolment request, with some of its fields changed."""
        request = EnrolmentRequest(
            self.device.ek_public(),
            self.device.ak_public(),
            tuple(self.device.ek_chain()),
            join_token,
        )
        return self.send("/v1/enrolments", "enrolment", replace(request, **changes).encode())

    def activate(
        self, credential: CredentialChallenge, secret: bytes | None = None
    ) -> httpx2.Response:
        """Send the secret back; the right one unless another is given."""
        if secret is None:
            secret = self.device.activate_credential(
                credential.id_object, credential.encrypted_secret
            )
        path = f"/v1/enrolments/{credential.enrolment.hex()}/activation"
        return self.send(path, "activation", Activation(secret).encode())

    def enrol(self, join_token: str | None = None) -> bytes:
        """Enrol and return the node id."""
        asked = self.request_enrolment(join_token)
        asked.raise_for_status()
        done = self.activate(CredentialChallenge.parse(asked.content))
        done.raise_for_status()
        self.node = EnrolmentReceipt.parse(done.content).node
        return self.node

    def ask(self) -> Challenge:
        """Ask for a challenge and keep it as the next to answer."""
        answer = self.http.post(f"/v1/nodes/{self.node.hex()}/challenges")
        answer.raise_for_status()
        self.challenge = Challenge.parse(answer.content)
        return self.challenge

    def attest(
        self,
        challenge: Challenge | None = None,
        *,
        full: bool | None = None,
        log: bytes | None = None,
        leases: Sequence[LeaseRequest] | None = None,
        first: int | None = None,
    ) -> Evidence:
        """Make evidence.

        Args:
            challenge: What to answer; the next challenge, asked for if need be.
            full: Send the log; by default, only to begin a lineage.
            log: Another log than the node's.
            leases: Other wishes than the usual ones.
            first: First entry of the IMA list to send, other than the one asked for.
        """
        challenge = challenge or self.challenge or self.ask()
        log = self.device.event_log if log is None else log
        wishes = tuple(self.leases if leases is None else leases)
        binding = Binding(
            challenge.nonce,
            self.head,
            scope_digest(wishes),
            confirmation_digest(wishes),
            {"tcg": log_digest(log)},
        )
        encoded = binding.encode()
        state = self.device.quote(qualifying_data(encoded), challenge.pcrs)
        send_log = self.head is None if full is None else full
        logs = {"tcg": log} if send_log else {}
        evidence = Evidence(
            binding, encoded, wishes, state.attest, state.signature, state.pcrs, logs
        )
        if challenge.ima is None or self.device.ima is None:
            return evidence
        asked = 0 if self.head is None else challenge.ima
        return with_list(evidence, self.device.ima, asked if first is None else first)

    def present(self, evidence: Evidence | bytes, node: bytes | None = None) -> httpx2.Response:
        """Present evidence, in another node's name if one is given."""
        body = evidence if isinstance(evidence, bytes) else evidence.encode()
        return self.send(f"/v1/nodes/{(node or self.node).hex()}/leases", "evidence", body)

    def renew(self) -> LeaseAnswer:
        """Attest, and keep what a good answer brings."""
        response = self.present(self.attest())
        response.raise_for_status()
        return self.keep(response)

    def keep(self, response: httpx2.Response) -> LeaseAnswer:
        """Continue from an answer."""
        answer = LeaseAnswer.parse(response.content)
        self.head, self.challenge = answer.head, answer.challenge
        self.answers.append(answer)
        return answer


def finding_ids(response: httpx2.Response) -> set[str]:
    """Return the ids of the findings that refuse in a problem document."""
    findings = response.json().get("findings", [])
    return {finding["id"] for finding in findings if finding["effect"] == "refuses"}
