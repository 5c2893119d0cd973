"""A verifier's folder with a history in it: nodes that enrolled, renewed and were refused.

The verifier is the real one without HTTP, on its real store, so what is in the folder is what any
verifier leaves behind. Its clock is moved by hand: a history of months takes a moment.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from bootlease.eventlog import parse_event_log
from bootlease.eventlog import replay as replay_log
from bootlease.evidence import (
    Activation,
    Binding,
    Challenge,
    EnrolmentRequest,
    Evidence,
    IssuedLease,
    LeaseAnswer,
    LeaseRequest,
    TokenEncoding,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.evidence.enrolment import node_id
from bootlease.model import HashAlg
from bootlease.node.renewal.attest import with_list
from bootlease.ports import OperatorStore, RevokedKind, Role
from bootlease.reference import DEFAULT_PCRS, AnyReference, learn, serialise_any_reference
from bootlease.relyingparty.exchange import grant_child
from bootlease.store import SQLStore
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.token import Signer, TokenFormat, make_proof
from bootlease.tpm import accept_endorsement_key, parse_public
from bootlease.verifier.datadir import DATABASE, load_keys
from bootlease.verifier.delegation.exchanges import ExchangeRequest
from bootlease.verifier.keys import Keys
from bootlease.verifier.leasing import Decided
from bootlease.verifier.service import Service, SystemClock, build_service
from bootlease.verifier.setup import Founding, found

T = TypeVar("T")

ISSUER: Final = "https://verifier.example"
AUTHOR: Final = "operator:auditor"
RENEWAL: Final = 40
"""Seconds from one renewal of a node to its next."""

JWT: Final = replace(default_lease(), encoding=TokenEncoding.JWT)


@dataclass(slots=True)
class HandClock:
    """A clock that is moved by hand.

    Attributes:
        time: What it shows.
    """

    time: int

    def now(self) -> int:
        """Return the time set."""
        return self.time

    def boottime(self) -> float:
        """Return the same."""
        return float(self.time)


@dataclass(slots=True)
class RecordedNode:
    """One node of the history.

    Attributes:
        device: Its TPM.
        node: Its id.
        head: Head of its lineage, if it has one.
        challenge: What it answers next.
        leases: What it was granted, in order.
        decisions: Digests of the grants.
    """

    device: SimulatedNode
    node: bytes
    head: bytes | None = None
    challenge: Challenge | None = None
    leases: list[IssuedLease] = field(default_factory=list)
    decisions: list[bytes] = field(default_factory=list)


class RecordedVerifier:
    """A verifier in a folder, and what happens to it; see ``recorded_verifier``.

    Attributes:
        folder: The folder.
        keys: What it signs with.
        clock: Its clock.
        service: The verifier.
    """

    def __init__(
        self, folder: Path, keys: Keys, clock: HandClock, ca: LocalCA, boot: SimulatedBoot
    ) -> None:
        self.folder = folder
        self.keys = keys
        self.clock = clock
        self._ca = ca
        self._boot = boot
        self._runner = asyncio.Runner()
        self._store = SQLStore.open(folder / DATABASE, keys.ledger, keys.ledger.key.name)
        self.service: Service = self._runner.run(
            build_service(self._store, keys, ISSUER, clock=clock)
        )

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()
        self._runner.close()

    def enrol(self) -> RecordedNode:
        """Enrol a new node that has booted well."""
        device = SimulatedNode(self._ca, boot=self._boot)
        self._enrol(device)
        ek = accept_endorsement_key(parse_public(device.ek_public()))
        return RecordedNode(device, node_id(ek.spki))

    def enrol_again(self, node: RecordedNode) -> None:
        """Enrol a node once more, a second later; it does not know that this ends its lineage."""
        self.clock.time += 1
        self._enrol(node.device)

    def _enrol(self, device: SimulatedNode) -> None:
        request = EnrolmentRequest(
            device.ek_public(), device.ak_public(), tuple(device.ek_chain())
        ).encode()
        offer = self._runner.run(self.service.enrolling.begin(request))
        secret = device.activate_credential(offer.id_object, offer.encrypted_secret)
        opened = Activation(secret).encode()
        self._runner.run(self.service.enrolling.finish(offer.enrolment, opened))

    def decide(self, node: RecordedNode, wishes: Sequence[LeaseRequest] = ()) -> bool:
        """Let a node renew, or begin; tell whether it was granted what it asked for."""
        return self._runner.run(self._decide(node, tuple(wishes) or (default_lease(),)))

    async def _decide(self, node: RecordedNode, wishes: tuple[LeaseRequest, ...]) -> bool:
        leasing = self.service.leasing
        if node.challenge is None:
            node.challenge = await leasing.challenge(node.node)
        evidence = evidence_for(node, node.challenge, wishes)
        decided = await leasing.lease(node.node, evidence)
        node.challenge = None
        if not decided.answer.granted:
            node.head = None
            return False
        answer = LeaseAnswer.parse(decided.answer.body)
        node.head, node.challenge = answer.head, answer.challenge
        node.leases += answer.leases
        node.decisions.append(answer.decision)
        return True

    def pass_on(
        self,
        parent: str,
        holder: Signer,
        to: Signer,
        *,
        depth: int = 0,
        scope: Sequence[str] | None = None,
        form: TokenFormat | None = None,
    ) -> str:
        """Let a lease's holder pass it on, and the other key exchange the grant for a token.

        Args:
            parent: The lease's token, as HTTP carries it.
            holder: Signs with the key that it confirms.
            to: Signs with the key granted to.
            depth: How often the child may be passed on.
            scope: Scope names; all by default.
            form: ``JWT`` for one; by default the parent's form.

        Raises:
            ExchangeError: The verifier refuses.
        """
        delegating = self.service.delegating
        grant = grant_child(
            parent, holder, to.public, scope=scope, depth=depth, clock=self.clock.now
        )
        proof = make_proof(
            to,
            htm="POST",
            htu=delegating.url,
            iat=self.clock.time,
            jti=hashlib.sha256(grant.encode()).hexdigest(),
            access_token=None,
        )
        request = ExchangeRequest(parent, grant, form, None, None, proof)
        return self._runner.run(delegating.exchange(request)).token

    def challenge(self, node: RecordedNode) -> Challenge:
        """Return a challenge for a node."""
        return self._runner.run(self.service.leasing.challenge(node.node))

    def present(self, node: RecordedNode, evidence: bytes) -> Decided:
        """Present evidence in a node's name.

        Raises:
            MalformedError: As ``Leasing.lease``.
            VerificationError: As ``Leasing.lease``.
            ProblemError: As ``Leasing.lease``.
        """
        return self._runner.run(self.service.leasing.lease(node.node, evidence))

    def lapse(self, node: RecordedNode) -> None:
        """Let a node forget its lineage, as an agent does whose lease is over."""
        node.head = node.challenge = None

    def use_policy(self, text: str) -> None:
        """Activate another policy."""
        self._runner.run(self.service.registry.activate_policy(text.encode(), author=AUTHOR))

    def register(self, reference: AnyReference) -> None:
        """Register a reference set."""
        document = serialise_any_reference(reference)
        self._runner.run(self.service.registry.register_reference(document, author=AUTHOR))

    def revoke(self, kind: RevokedKind, subject: str) -> None:
        """Revoke something."""
        revoking = self.service.revoking
        self._runner.run(revoking.revoke(kind, subject, reason="a test", author=AUTHOR))

    def add_join_token(self, secret: bytes) -> None:
        """Let a join token be good for an hour."""
        now = self.clock.time
        digest = hashlib.sha256(secret).digest()
        work = self._store.add_join_token(digest, now=now, expires_at=now + 3600, author=AUTHOR)
        self._runner.run(work)

    def add_credential(self, digest: bytes, label: str, *, maker: bytes | None = None) -> None:
        """Make a credential of every role."""
        now = self.clock.time
        work = self._store.add_credential(
            digest, label=label, now=now, author=AUTHOR, roles=tuple(Role), maker=maker
        )
        self._runner.run(work)

    def operate(self, act: Callable[[OperatorStore, int], Coroutine[Any, Any, T]]) -> T:
        """Let an operator do something now."""
        return self._runner.run(act(self._store.operators, self.clock.time))

    def prune(self, before: int) -> None:
        """Let go of evidence that only decisions before a second need."""
        work = self._store.prune(before=before, now=self.clock.time, author=AUTHOR)
        self._runner.run(work)

    def record(self, nodes: int, renewals: int) -> list[RecordedNode]:
        """Let new nodes enrol and renew, all of them in turn."""
        made = [self.enrol() for _ in range(nodes)]
        for _ in range(renewals):
            for node in made:
                self.decide(node)
            self.clock.time += RENEWAL
        return made


def evidence_for(
    node: RecordedNode,
    challenge: Challenge,
    wishes: tuple[LeaseRequest, ...],
    *,
    first: int | None = None,
) -> bytes:
    """Return a node's evidence, in full where it begins a lineage.

    Args:
        node: The node.
        challenge: What it answers.
        wishes: What it asks for.
        first: First entry of its IMA list to send, other than the one asked for.
    """
    log = node.device.event_log
    binding = Binding(
        challenge.nonce,
        node.head,
        scope_digest(wishes),
        confirmation_digest(wishes),
        {"tcg": log_digest(log)},
    )
    encoded = binding.encode()
    state = node.device.quote(qualifying_data(encoded), challenge.pcrs)
    logs = {"tcg": log} if node.head is None else {}
    evidence = Evidence(binding, encoded, wishes, state.attest, state.signature, state.pcrs, logs)
    if challenge.ima is not None and node.device.ima is not None:
        asked = 0 if node.head is None else challenge.ima
        evidence = with_list(evidence, node.device.ima, asked if first is None else first)
    return evidence.encode()


@contextmanager
def recorded_verifier(
    folder: Path, ca: LocalCA, *, policy: str = POLICY, references: Sequence[AnyReference] = ()
) -> Iterator[RecordedVerifier]:
    """Found a verifier in a new folder, as ``bootlease verifier init`` does, and lend it.

    Args:
        folder: The folder.
        ca: Certifies the TPMs of its nodes.
        policy: Its first policy.
        references: Sets that the policy accepts besides the one of a good boot.
    """
    boot = simulate_boot(grub_description())
    learned = learn(
        replay_log(parse_event_log(boot.event_log)),
        None,
        name=REFERENCE,
        version="1",
        bank=HashAlg.SHA256,
        pcrs=DEFAULT_PCRS,
        match_events=(),
    )
    documents = tuple(serialise_any_reference(each) for each in (learned, *references))
    found(folder, Founding(ISSUER, policy.encode(), (ca.roots_pem,), documents), SQLStore.open)
    clock = HandClock(SystemClock().now())
    made = RecordedVerifier(folder, load_keys(folder, ISSUER), clock, ca, boot)
    try:
        yield made
    finally:
        made.close()
