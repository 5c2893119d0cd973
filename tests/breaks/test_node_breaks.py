"""Whatever breaks on the node, nothing runs on without a lease, and nothing ends before it.

Every row is a real break of real processes (``node_rows``), and measures when the last process of
the tree ended. In a test run other things run beside it, so it may take ``SLACK`` longer;
``make breaks`` gives nothing.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.breaks import node_rows
from tests.breaks.node_rows import LAST, REAL, REAL_CLOCK, SHAPES, NodeOutcome, NodeRow
from tests.breaks.node_stage import NodeStage, node_stage
from tests.breaks.node_table import BESIDE, rows

pytestmark = pytest.mark.swtpm

SLACK: Final = 0.25

Outcomes = Callable[[NodeRow], NodeOutcome]

CASES: Final = [
    pytest.param(row, marks=[pytest.mark.root] if row.for_root else [], id=row.name)
    for row in rows()
    if row not in LAST
]


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeStage]:
    """What all rows break."""
    with tempfile.TemporaryDirectory(prefix="blb-") as folder:
        Path(folder).chmod(0o755)
        with node_stage(Path(folder)) as made:
            yield made


@pytest.fixture(scope="module")
def outcomes(shared: NodeStage) -> Iterator[Outcomes]:
    """Break what leaves the others alone, several at once."""
    mine = [row for row in rows() if os.geteuid() == 0 or not row.for_root]
    apart = [row for row in mine if row not in LAST]
    with ThreadPoolExecutor(BESIDE) as pool:
        made: dict[str, Future[NodeOutcome]] = {
            row.name: pool.submit(row.run, shared) for row in apart
        }
        yield lambda row: made[row.name].result()


@pytest.mark.parametrize("row", CASES)
def test_a_tree_ends_with_its_lease(row: NodeRow, outcomes: Outcomes) -> None:
    """Whatever breaks, the tree is gone when its lease is over, or at once, and not before."""
    outcome = outcomes(row)
    assert row.held(outcome, slack=SLACK), outcome


@pytest.mark.parametrize("row", LAST, ids=lambda row: row.name)
def test_every_tree_ends_with_its_lease(row: NodeRow, shared: NodeStage) -> None:
    """Where the verifier breaks, the tree is gone when its lease is over, and not before."""
    outcome = row.run(shared)
    assert row.held(outcome, slack=SLACK), outcome


def test_every_break_is_a_row() -> None:
    """No break is left out of the rows, and no two rows have one name."""
    every = [*REAL, *SHAPES, *LAST, *REAL_CLOCK]
    breaks = {
        each
        for name, each in vars(node_rows).items()
        if inspect.isfunction(each)
        and each.__module__ == node_rows.__name__
        and not name.startswith("_")
    }
    assert {row.run for row in every} == breaks
    assert len({row.name for row in every}) == len(every)
