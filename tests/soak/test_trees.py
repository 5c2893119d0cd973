"""Trees on leashes end with their leases on a loaded machine. ``make soak`` grows 1,000."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from bench.trees.__main__ import TITLE, section
from bench.trees.load import load
from bench.trees.plan import LONGEST, SHORTEST, End, Plan
from bench.trees.runs import OUTLIVES, Verdict, run_all

RUNS = 12


def test_no_tree_outlives_its_lease() -> None:
    """Under load no process runs on without a lease, and none ends before its lease does."""
    with tempfile.TemporaryDirectory(prefix="bll-") as folder, load() as what:
        Path(folder).chmod(0o755)
        verdict = run_all(Path(folder), RUNS, seed=7, beside=2)
    verdict.load = what
    assert verdict.complaints == []
    counts = verdict.counts()
    assert counts["runs"] == RUNS == len(verdict.outlived())
    assert counts["processes"] > 3 * RUNS
    assert counts["ended before their lease"] == 0
    assert f"{RUNS} trees of random shape" in section(verdict, 2)


def test_a_tree_that_runs_on_is_complained_of() -> None:
    """The test has teeth: leases that end earlier than the guard was told are outlived."""
    with tempfile.TemporaryDirectory(prefix="bll-") as folder:
        Path(folder).chmod(0o755)
        verdict = run_all(Path(folder), 2, seed=1, beside=2, told_longer_by=2 * OUTLIVES)
    assert len(verdict.complaints) == 2
    assert "ms after the lease" in verdict.complaints[0]


def drawn() -> list[Plan]:
    """Draw the first runs of many seeds."""
    return [Plan.draw(seed, random.Random(seed)) for seed in range(300)]  # noqa: S311 - to be drawn again


def test_chance_is_the_seeds() -> None:
    """The same seed draws the same runs; all ends and all counts of renewals are drawn."""
    plans = drawn()
    assert plans == drawn()
    assert {plan.end for plan in plans} == set(End)
    assert {len(plan.lives) for plan in plans} == {1, 2, 3, 4}
    assert all(SHORTEST <= life <= LONGEST for plan in plans for life in plan.lives)
    assert any(plan.bomb for plan in plans)


def test_nothing_run_says_nothing() -> None:
    """A verdict on nothing has no figures and no complaint."""
    assert Verdict().complaints == []
    assert Verdict().outlived() == []
    assert TITLE == "Under load"
