"""Nothing that authorization rests on breaks without requests being refused, and soon.

Every row is a real break of real processes on software TPMs (``rows``), and measures how long after
it the last request was answered. Rows that concern one node run beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.breaks.rows import APART, TOGETHER, Outcome, Row
from tests.breaks.stage import Stage, stage
from tests.breaks.verifier_table import BESIDE

pytestmark = pytest.mark.swtpm

Outcomes = Callable[[Row], Outcome]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What all rows break."""
    with stage(tmp_path_factory.mktemp("breaks")) as made:
        yield made


@pytest.fixture(scope="module")
def outcomes(shared: Stage) -> Iterator[Outcomes]:
    """Break what concerns one node, several at once."""
    with ThreadPoolExecutor(BESIDE) as pool:
        made: dict[str, Future[Outcome]] = {row.name: pool.submit(row.run, shared) for row in APART}
        yield lambda row: made[row.name].result()


@pytest.mark.parametrize("row", APART, ids=lambda row: row.name)
def test_a_node_is_refused(row: Row, outcomes: Outcomes) -> None:
    """Whatever breaks at one node ends what it may do, within its time."""
    outcome = outcomes(row)
    assert row.held(outcome), outcome


@pytest.mark.parametrize("row", TOGETHER, ids=lambda row: row.name)
def test_everybody_is_refused(row: Row, shared: Stage) -> None:
    """Whatever breaks at the verifier ends what anybody may do, within its time."""
    outcome = row.run(shared)
    assert row.held(outcome), outcome
