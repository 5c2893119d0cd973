"""``docs/findings.md`` has every finding that the source can give, and each has a test."""

from __future__ import annotations

import re
from pathlib import Path

from tests.finding_ids import event_words, finding_ids, texts_of_tests

PAGE = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()


def rows() -> list[tuple[list[str], str]]:
    """Return the ids of each row of the page, and what it says that they do."""
    cells = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line[:3] == "| `"]
    assert all(len(row) == 4 for row in cells)
    return [(re.findall("`([^`]+)`", row[0]), row[2]) for row in cells]


def test_the_page_has_every_finding_and_none_else() -> None:
    """An operator finds each id that he is shown."""
    documented = [name for ids, _ in rows() for name in ids]
    assert sorted(set(finding_ids()) - set(documented)) == []
    assert sorted(set(documented) - set(finding_ids())) == []
    assert len(documented) == len(set(documented))


def test_the_page_says_what_each_does() -> None:
    """Where the source gives a finding one effect, so does the page."""
    effects = finding_ids()
    wrong = {
        name: (does, effects[name].effects)
        for ids, does in rows()
        for name in ids
        if effects[name].effects is not None and does != effects[name].effects
    }
    assert wrong == {}
    assert {does for _, does in rows()} == {"refuses", "notes", "policy"}


def test_the_page_has_the_words_for_events() -> None:
    """``EVENT`` stands for these words, and no others."""
    section = PAGE.partition("### Words for events\n")[2].partition("\n## ")[0]
    assert set(re.findall("`([a-z-]+)`", section)) == event_words()


def test_every_finding_is_named_by_a_test() -> None:
    """A check that no test names by its id could go, and another one would cover for it."""
    tests = texts_of_tests()
    unnamed = [name for name in finding_ids() if not any(each.names(name) for each in tests)]
    assert unnamed == []
