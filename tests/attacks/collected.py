"""What the suite says that it shows, read off its markers without running it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Shown:
    """One claim of one test case.

    Attributes:
        row: Number of the row, as the marker has it.
        findings: What refuses, or what is noted.
        benign: It shows an oddity accepted.
        module: File name of the test's module.
        test: Name of the test's function.
        needs_corpus: It runs only where there is a corpus.
    """

    row: str
    findings: tuple[str, ...]
    benign: bool
    module: str
    test: str
    needs_corpus: bool


class _Collector:
    """A pytest plugin that notes every item before anything deselects it."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.unmarked: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note what an item claims."""
        markers = list(item.iter_markers("attack"))
        name = getattr(item, "originalname", item.name)
        if not markers:
            self.unmarked.append(f"{item.path.name}::{name}")
        for marker in markers:
            row, *findings = marker.args
            self.shown.append(
                Shown(
                    row,
                    tuple(findings),
                    bool(marker.kwargs.get("benign")),
                    item.path.name,
                    name,
                    item.get_closest_marker("corpus") is not None,
                )
            )


def collect() -> tuple[Sequence[Shown], Sequence[str]]:
    """Collect the suite; not to be called within a test run, which it would disturb.

    Returns:
        Every claim, and the tests that make none.

    Raises:
        RuntimeError: A module does not load.
    """
    collector = _Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", str(FOLDER)], plugins=[collector]
        )
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"the attack suite cannot be collected:\n{said.getvalue()[-4000:]}")
    return collector.shown, collector.unmarked
