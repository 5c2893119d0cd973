"""The suite holds the whole catalogue, and the page on it says what the suite says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.attacks.attack_logs import LOGS
from tests.attacks.catalogue import NUMBERS, SECTIONS, UNSEEN

ROOT: Final = Path(__file__).resolve().parents[2]
WRITER: Final = ROOT / "docs" / "write_attacks.py"
FINDING: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+|problem:[a-z-]+|tpm:refuses")
ABOUT_THE_SUITE: Final = "test_catalogue.py"


@pytest.fixture(scope="module")
def claims() -> Any:
    """Every claim of every test case, collected in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(WRITER), "--json"], cwd=ROOT, check=True, capture_output=True
    )
    return json.loads(done.stdout)


def test_every_row_has_a_test_that_needs_no_corpus(claims: Any) -> None:
    """No row goes untested, on a clone without recorded evidence neither."""
    shown = {each["row"] for each in claims["shown"] if not each["needs_corpus"]}
    assert NUMBERS - shown == set()


def test_no_test_names_a_row_that_does_not_exist(claims: Any) -> None:
    """A slip in a number would leave another row without its test."""
    assert {each["row"] for each in claims["shown"]} <= NUMBERS


def test_every_test_says_which_row_it_is_about(claims: Any) -> None:
    """All but those that are about the suite itself."""
    assert {name for name in claims["unmarked"] if not name.startswith(ABOUT_THE_SUITE)} == set()


def test_every_attack_is_refused_by_name(claims: Any) -> None:
    """A marker names findings by their ids, and at least one where it does not say benign."""
    for each in claims["shown"]:
        assert each["benign"] or each["findings"], each
        assert all(FINDING.fullmatch(name) for name in each["findings"]), each


def test_a_row_is_tested_in_the_module_of_its_section(claims: Any) -> None:
    """Whoever looks for a row finds it by its letter."""
    for each in claims["shown"]:
        assert each["module"].startswith(f"test_{each['row'][0].lower()}_"), each


def test_the_catalogue_is_whole() -> None:
    """Its sections have the rows that are known, and say what cannot be tested."""
    counts = {section.letter: len(section.rows) for section in SECTIONS}
    assert counts == {"A": 26, "B": 23, "C": 16, "D": 26, "E": 12, "G": 11}
    assert [each.number for each in UNSEEN] == [f"F{number}" for number in range(1, 8)]


@pytest.mark.corpus
def test_every_hostile_log_of_the_corpus_is_judged(corpus: Path) -> None:
    """None goes without its verdict."""
    assert {log.name for log in LOGS} == {
        path.stem for path in (corpus / "attack-logs").glob("*.bin")
    }


def test_the_page_on_attacks_is_what_the_suite_says(claims: Any) -> None:
    """``make docs`` was run after the last change of a marker."""
    assert (WRITER.with_name("attacks.md")).read_text() == claims["page"]
