"""An agent in memory: simulated TPM, scripted verifier, clocks set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from bootlease.model import Finding
from bootlease.node.confirm import Confirmation
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.memory import Memory, Sent, parse_memory
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.scripted_verifier import ScriptedVerifier
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from bootlease.testing.boot import SimulatedBoot
    from bootlease.testing.ima_list import SimulatedIMA
from bootlease.testing.local_ca import LocalCA

WISH = LeaseWish(("tool:search",), "https://tools.example")


@dataclass
class Handed:
    """What was handed to the workload."""

    tokens: list[HeldLease] = field(default_factory=list)
    out: bool = False
    over: list[tuple[EndReason, tuple[Finding, ...]]] = field(default_factory=list)

    def granted(self, lease: HeldLease) -> None:
        """Take a lease."""
        self.tokens.append(lease)
        self.out = True

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Give everything back."""
        self.over.append((reason, findings))
        self.out = False


@dataclass
class Kept:
    """An agent's memory that outlives the agent."""

    memory: Memory = field(default_factory=lambda: Memory("boot-1"))
    sent: Sent | None = None

    def load(self) -> Memory:
        """Return what is remembered."""
        return self.memory

    def save(self, memory: Memory) -> None:
        """Remember, by way of the file's form."""
        self.memory = parse_memory(memory.encode())

    def load_sent(self) -> Sent | None:
        """Return what was sent last."""
        return self.sent

    def save_sent(self, sent: Sent) -> None:
        """Remember it, by way of the file's form."""
        self.sent = Sent.parse(sent.encode())


class NodeLog:
    """The event log of a simulated node's last boot."""

    def __init__(self, node: SimulatedNode) -> None:
        """Follow ``node``."""
        self.node = node

    def read(self) -> bytes:
        """Return the log."""
        return self.node.event_log


class Rig:
    """One node, one verifier, and what lies between."""

    def __init__(self, node: SimulatedNode, life: int = 120) -> None:
        """Put the parts together; ``start`` makes the agent."""
        self.clock = SetClock()
        self.verifier_clock = self.clock
        self.node = node
        self.verifier = ScriptedVerifier(self.verifier_clock, life=life)
        self.handed = Handed()
        self.kept = Kept()
        self.ended: list[EndReason] = []
        self.said: list[str] = []
        self.jitter = 0.0
        self.ima: SimulatedIMA | None = None

    def start(
        self,
        *wishes: LeaseWish,
        confirmation: Confirmation = Confirmation.PROCESS,
        jitter: Callable[[], float] | None = None,
        book: Wishes | None = None,
    ) -> NodeAgent:
        """Start an agent, as after a restart of its process."""
        self.keeper = LeaseKeeper(
            self.clock, self.handed, lambda reason, _: self.ended.append(reason)
        )
        return NodeAgent(
            Settings(self.verifier.bundle, wishes or (WISH,), confirmation),
            device=self.node,
            log=NodeLog(self.node),
            verifier=self.verifier,
            keeper=self.keeper,
            store=self.kept,
            clock=self.clock,
            jitter=jitter or (lambda: self.jitter),
            say=self.said.append,
            ima=self.ima,
            wishes=book,
        )


@pytest.fixture(scope="session")
def good_boot() -> SimulatedBoot:
    """A boot whose log, PCRs and quote agree."""
    return simulate_boot(grub_description())


@pytest.fixture
def rig(local_ca: LocalCA, good_boot: SimulatedBoot) -> Rig:
    """A booted node and a verifier that grants it what it asks for."""
    return Rig(SimulatedNode(local_ca, boot=good_boot))
