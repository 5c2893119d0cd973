"""A verifier with one enrolled node, without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootlease.eventlog import parse_event_log, replay
from bootlease.evidence import (
    Activation,
    Binding,
    Challenge,
    EnrolmentRequest,
    Evidence,
    LeaseRequest,
    confirmation_digest,
    log_digest,
    scope_digest,
)
from bootlease.evidence.binding import qualifying_data
from bootlease.evidence.enrolment import node_id
from bootlease.model import HashAlg
from bootlease.reference import DEFAULT_PCRS, learn, serialise_reference
from bootlease.store import SQLStore
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.keys import fresh_keys
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import REFERENCE
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.tpm import accept_endorsement_key, parse_public
from bootlease.verifier.keys import Keys
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.service import Service, build_service

ISSUER = "https://v.example"
AUTHOR = "operator:test"


@dataclass
class World:
    """A verifier, a clock and a node."""

    service: Service
    clock: SetClock
    device: SimulatedNode
    store: SQLStore
    keys: Keys

    @property
    def node(self) -> bytes:
        """Node id."""
        return node_id(accept_endorsement_key(parse_public(self.device.ek_public())).spki)

    async def enrol(self) -> None:
        """Enrol the node."""
        request = EnrolmentRequest(
            self.device.ek_public(), self.device.ak_public(), tuple(self.device.ek_chain())
        )
        offer = await self.service.enrolling.begin(request.encode())
        secret = self.device.activate_credential(offer.id_object, offer.encrypted_secret)
        await self.service.enrolling.finish(offer.enrolment, Activation(secret).encode())

    def attest(self, challenge: Challenge, *, leases: Sequence[LeaseRequest]) -> bytes:
        """Make evidence that begins a lineage."""
        wishes, log = tuple(leases), self.device.event_log
        binding = Binding(
            challenge.nonce,
            None,
            scope_digest(wishes),
            confirmation_digest(wishes),
            {"tcg": log_digest(log)},
        )
        encoded = binding.encode()
        state = self.device.quote(qualifying_data(encoded), challenge.pcrs)
        return Evidence(
            *(binding, encoded, wishes, state.attest, state.signature, state.pcrs),
            logs={"tcg": log},
        ).encode()


async def make_world(
    folder: Path, local_ca: LocalCA, *, policy: str, limits: Limits = DEFAULT_LIMITS
) -> World:
    """Return a verifier with one enrolled node; the caller closes its store."""
    keys = fresh_keys(ISSUER)
    store = SQLStore.open(folder / "verifier.db", keys.ledger, keys.ledger.key.name)
    boot = simulate_boot(grub_description())
    clock = SetClock(int(local_ca.root.not_valid_before_utc.timestamp()) + 2 * 86_400)
    learned = learn(
        replay(parse_event_log(boot.event_log)),
        None,
        name=REFERENCE,
        version="1",
        bank=HashAlg.SHA256,
        pcrs=DEFAULT_PCRS,
        match_events=(),
    )
    service = await build_service(store, keys, ISSUER, clock=clock, limits=limits)
    await service.registry.add_roots(local_ca.roots_pem, author=AUTHOR)
    await service.registry.register_reference(serialise_reference(learned), author=AUTHOR)
    await service.registry.activate_policy(policy.encode(), author=AUTHOR)
    made = World(service, clock, SimulatedNode(local_ca, boot=boot), store, keys)
    await made.enrol()
    return made
