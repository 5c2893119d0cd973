"""What an agent knows of itself while it runs, kept true in the store at every change."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from bootlease.node.logs import EventLogSource
from bootlease.node.memory import Enrolment, Lineage, Memory, Sent
from bootlease.node.renewal.pending import Pending, orphan
from bootlease.ports import Clock


class MemoryStore(Protocol):
    """Where the agent's memory outlives it; ``StateDirectory`` keeps it in files."""

    def load(self) -> Memory:
        """Return what is remembered and still true in this boot."""

    def save(self, memory: Memory) -> None:
        """Remember ``memory``."""

    def load_sent(self) -> Sent | None:
        """Return the renewal that was sent last in this boot, whether or not it was answered."""

    def save_sent(self, sent: Sent) -> None:
        """Remember what is about to be sent."""


class Recall:
    """An agent's memory.

    Args:
        store: Where it outlives the agent.
        clock: Both clocks.
    """

    def __init__(self, store: MemoryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sent = store.load_sent()
        self.memory = store.load()

    @property
    def node(self) -> bytes | None:
        """The node id, once enrolled."""
        enrolment = self.memory.enrolment
        return None if enrolment is None else enrolment.node

    def live_lineage(self) -> Lineage | None:
        """Return the lineage to continue, if its last lease has not lapsed."""
        lineage = self.memory.lineage
        if lineage is None:
            return None
        # Design section 4 step 6: a lapsed lease ends the lineage.
        if self._clock.boottime() >= lineage.deadline or self._clock.now() >= lineage.expires_at:
            self.change(lineage=None)
            return None
        return lineage

    def enrolled(self, enrolment: Enrolment) -> None:
        """Remember a verifier that knows this TPM."""
        self._keep(self.memory.enrolled(enrolment))

    def change(self, **changes: object) -> None:
        """Remember something else of these."""
        self._keep(dataclasses.replace(self.memory, **changes))  # type: ignore[arg-type]

    def sending(self, pending: Pending, sent_at: float) -> None:
        """Remember what is about to be sent, where its loss would end a lineage."""
        sent = pending.to_remember(self.memory.boot_id, sent_at)
        if sent is not None:
            self._store.save_sent(sent)

    def orphan(self, log: EventLogSource) -> Pending | None:
        """Return, once, what an agent that ended may have been answered.

        Raises:
            TransportError: The event log cannot be read.
        """
        sent = self._sent
        lineage = None if sent is None else self.live_lineage()
        found = None if sent is None or lineage is None else orphan(sent, lineage, log)
        # Where the log could not be read, it is due still: what is quoted instead would be a fork.
        self._sent = None
        return found

    def _keep(self, memory: Memory) -> None:
        if memory != self.memory:
            self.memory = memory
            self._store.save(memory)
