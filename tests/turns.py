"""In which order files of tests are begun, so that workers end together and few only wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LONG_FIRST: Final = (
    "tests/unit/token/test_delegation.py",
    "tests/unit/audit/test_proof.py",
)
"""Files that take long: begun first, so that no worker ends alone with one."""

MOSTLY_WAITING: Final = ("tests/integration/leash/", "tests/breaks/")
"""What waits for leases to end: spread over the run, so that one waits while others compute."""


def in_turn(tests: Mapping[str, int]) -> list[str]:
    """Return files in the order in which workers are to begin them.

    Args:
        tests: How many tests each has.
    """
    first = [file for file in LONG_FIRST if file in tests]
    waiting = [file for file in tests if file.startswith(MOSTLY_WAITING)]
    waiting.sort(key=lambda file: -tests[file])
    rest = [file for file in tests if file not in {*first, *waiting}]
    # Well before the end: what is begun last has to be short.
    apart = max(1, len(rest) * 2 // 3 // max(1, len(waiting)))
    for number, file in enumerate(waiting):
        rest.insert(number * (apart + 1), file)
    return [*first, *rest]
