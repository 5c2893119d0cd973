"""A verifier that is killed under load keeps its promises. ``make soak`` kills it 200 times."""

from __future__ import annotations

from pathlib import Path

from bench.crash.soak import Plan, soak

KILLS = 4


def test_a_killed_verifier_keeps_its_promises(tmp_path: Path) -> None:
    """Killed, cut from power, given a failing disk: every token is recorded, no lineage forks."""
    verdict = soak(tmp_path, Plan(kills=KILLS, seed=7, clients=4, longest_life=0.3))
    assert verdict.complaints == []
    counts = verdict.counts
    assert counts["kills"] >= KILLS
    assert 0 < counts["power cuts"] < counts["kills"]
    assert counts["answers received"] > 10 * KILLS
    assert counts["decisions recorded"] >= counts["answers received"]
    assert counts["challenges answered twice at once"] > 0
    assert counts["continued at the end"] > 0


def test_a_lying_disk_is_noticed(tmp_path: Path) -> None:
    """The test has teeth: where nothing was synchronised, a power cut loses what clients hold."""
    life = 0.8
    plan = Plan(
        kills=1,
        clients=3,
        longest_life=life,
        shortest_life=life,
        power_cuts=1.0,
        lying_disk=True,
    )
    verdict = soak(tmp_path, plan)
    assert any("the decision is not recorded" in each for each in verdict.complaints)
    assert any("is enrolled, and is not" in each for each in verdict.complaints)
