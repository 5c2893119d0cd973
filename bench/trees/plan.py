"""What chance decides about a run: how long its lease lives, what its tree is, how it ends."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Final

SHORTEST, LONGEST = 0.25, 1.5
"""Seconds of a lease once its tree stands."""

_KINDS: Final = (
    *("plain", "daemon", "double-fork", "stopped", "traced", "deaf", "busy", "threads"),
    *("closed", "setuid", "setuid-file", "static", "nested"),
)
_MOST_BRANCHES: Final = 6
_MOST_RENEWALS: Final = 3
_BOMBS: Final = 0.04
"""How often a fork bomb is among the branches, in a cgroup of its own."""


class End(enum.Enum):
    """How a lease ends."""

    SILENCE = "the agent renews no more"
    DEATH = "the agent dies"
    REFUSAL = "the verifier refuses"
    GUARD_STOPPED = "the guard is stopped"
    LEASH_STOPPED = "the leash is stopped"
    BOTH_STOPPED = "guard and leash are stopped"


_ENDS: Final = {
    End.SILENCE: 45,
    End.DEATH: 20,
    End.REFUSAL: 15,
    End.GUARD_STOPPED: 8,
    End.LEASH_STOPPED: 6,
    End.BOTH_STOPPED: 6,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        number: Which.
        lives: Seconds of each lease: the first, and its renewals.
        kinds: The branches of the tree.
        bomb: A fork bomb is among them.
        end: How the last lease ends.
    """

    number: int
    lives: tuple[float, ...]
    kinds: tuple[str, ...]
    bomb: bool
    end: End

    @classmethod
    def draw(cls, number: int, chance: random.Random) -> Plan:
        """Draw one."""
        renewals = chance.randint(0, _MOST_RENEWALS)
        lives = tuple(chance.uniform(SHORTEST, LONGEST) for _ in range(renewals + 1))
        kinds = tuple(chance.choices(_KINDS, k=chance.randint(1, _MOST_BRANCHES)))
        bomb = chance.random() < _BOMBS
        (end,) = chance.choices(list(_ENDS), weights=list(_ENDS.values()))
        return cls(number, lives, kinds, bomb, end)
