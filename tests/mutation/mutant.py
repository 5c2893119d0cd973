"""A mutant, and what became of it: what the steps of a run hand on to one another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SURVIVED: Final = "survived"
UNREACHED: Final = "no test"
TIMEOUT: Final = "timeout"
NOT_TRIED: Final = "not tried"
"""Something of ours failed. Counts as not noticed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one function.

    Attributes:
        module: Dotted name.
        function: Qualified name within the module.
        number: Counts the mutants of this function.
        first: First line of the statement that is changed.
        last: Its last line; where it has a body, that of its head.
        before: The changed lines as they are, without layout.
        after: What they become.
        source: The changed function, within its class if it has one.
        words: Whether only the words of a message change.
        same: Whether Python takes it for the same.
    """

    module: str
    function: str
    number: int
    first: int
    last: int
    before: str
    after: str
    source: str
    words: bool
    same: bool

    @property
    def name(self) -> str:
        """Names it in one run."""
        return f"{self.module}:{self.function}#{self.number}"

    @property
    def is_tried(self) -> bool:
        """Whether a test could notice it."""
        return not self.words and not self.same


def was_noticed(result: str) -> bool:
    """Tell whether a test failed, or the mutant did not come to its end."""
    return "::" in result or result == TIMEOUT


def write_mutants(path: Path, mutants: Iterable[Mutant]) -> None:
    """Write them for the next step."""
    path.write_text(json.dumps([asdict(each) for each in mutants]))


def read_mutants(path: Path) -> list[Mutant]:
    """Read what ``write_mutants`` wrote."""
    return [Mutant(**each) for each in json.loads(path.read_text())]
