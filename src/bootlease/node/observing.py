"""Who is told what an agent's attempts bring: log and status, metrics, workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bootlease.errors import BootleaseError
from bootlease.model import Finding
from bootlease.node.lease import EndReason, HeldLease
from bootlease.node.wishbook import WishId


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one step brought.

    Attributes:
        wait: Seconds until the next step is due.
        granted: The lease, if one was granted.
        error: Why there is none.
        denied: Which wishes were denied alone, and why; also where nothing else was granted.
        seconds: How long the step took.
        quote_seconds: How long TPM and logs took for evidence; None where none was made.
    """

    wait: float
    granted: HeldLease | None = None
    error: BootleaseError | None = None
    denied: Mapping[WishId, tuple[Finding, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    quote_seconds: float | None = None

    @property
    def idle(self) -> bool:
        """There was nothing to ask for."""
        return self.granted is None and self.error is None and not self.denied


class Observer(Protocol):
    """Is told what happens, in the thread where it happens; must not wait for anybody."""

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Learn what a step brought."""

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Learn that a lease ended, once for each."""


class Observers:
    """Tells several, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def stepped(self, outcome: Outcome, node: bytes | None) -> None:
        """Tell what a step brought."""
        for observer in self._observers:
            observer.stepped(outcome, node)

    def ended(self, reason: EndReason, lease: HeldLease) -> None:
        """Tell that a lease ended."""
        for observer in self._observers:
            observer.ended(reason, lease)
