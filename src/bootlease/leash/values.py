"""What is asked of a guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

LONGEST: Final = 86_400
"""Seconds of any term; no lease lives for nearly as long."""


class Log(Protocol):
    """Where a guard says what happens."""

    def note(self, event: str, message: str, **facts: int) -> None:
        """Say one thing.

        Args:
            event: What happened, for programs.
            message: The same for people, one line.
            facts: More for programs.
        """


@dataclass(frozen=True, slots=True)
class Terms:
    """How a guard is to go about the end.

    Attributes:
        grace: Seconds before the end at which the workload gets SIGTERM; 0 for none.
        freeze: Seconds for which a workload whose lease has lapsed is kept, frozen; 0 for none.
        wait: Seconds that the first lease may take.
    """

    grace: float = 0.0
    freeze: float = 0.0
    wait: float = 30.0

    def __post_init__(self) -> None:
        # As timers take them: no NaN, nothing beyond their range, is to be met at the end.
        if not all(0 <= each <= LONGEST for each in (self.grace, self.freeze, self.wait)):
            raise ValueError(f"seconds are 0 to {LONGEST}")
