"""What every test of explanations starts from: a node with a history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bootlease.explain import Explained, LookingBack, explain_decision
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import Decided, RecordedHistory
from bootlease.testing.scene import Scene

Boots = Callable[[SimulatedBoot], Decided]


@pytest.fixture(scope="session")
def ca() -> LocalCA:
    """A TPM manufacturer."""
    return LocalCA.create()


@pytest.fixture
def history(ca: LocalCA) -> RecordedHistory:
    """A node that was granted one lease."""
    made = RecordedHistory(Scene.create(ca))
    made.decide()
    return made


@pytest.fixture
def boots(history: RecordedHistory) -> Boots:
    """Lets the node boot something, and ask for a lease."""

    def boot(simulated: SimulatedBoot) -> Decided:
        history.scene.node.boot(simulated)
        history.scene.prior = None
        return history.decide()

    return boot


@pytest.fixture
def shell() -> SimulatedBoot:
    """A boot with one kernel parameter more."""
    description = grub_description()
    return simulate_boot(description.with_command_line(f"{description.command_line} init=/bin/sh"))


def explained(history: RecordedHistory, decided: Decided | None = None) -> Explained:
    """Explain a decision, by default the last one."""
    decided = decided or history.decided[-1]
    return explain_decision(decided.record.digest, LookingBack(history), ("--data", "v"))
