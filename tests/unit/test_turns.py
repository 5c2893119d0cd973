"""The order in which files of tests are begun."""

from __future__ import annotations

from pathlib import Path

from tests.turns import LONG_FIRST, MOSTLY_WAITING, in_turn

ROOT = Path(__file__).parents[2]
OTHERS = [f"tests/unit/test_{number}.py" for number in range(30)]
WAITING = [f"{MOSTLY_WAITING[0]}test_{number}.py" for number in range(3)]


def test_every_file_has_one_turn() -> None:
    """None is lost, and none comes twice, be they few or many."""
    for tests in (
        dict.fromkeys(WAITING, 1),
        dict.fromkeys([*OTHERS, *WAITING, *LONG_FIRST], 1),
        {},
    ):
        assert sorted(in_turn(tests)) == sorted(tests)


def test_long_files_come_first_and_waiting_ones_apart() -> None:
    """Who waits has neighbours that compute, and is begun well before the end."""
    turns = in_turn({**dict.fromkeys([*OTHERS, *WAITING, *LONG_FIRST], 1), WAITING[2]: 9})
    assert tuple(turns[: len(LONG_FIRST)]) == LONG_FIRST
    at = [turns.index(file) for file in (WAITING[2], WAITING[0], WAITING[1])]
    assert [at[1] - at[0], at[2] - at[1]] == [7, 7]
    assert at[2] < len(turns) * 2 // 3


def test_what_has_a_turn_of_its_own_is_there() -> None:
    """A file that was renamed would lose its turn unseen."""
    assert all((ROOT / name).exists() for name in (*LONG_FIRST, *MOSTLY_WAITING))
