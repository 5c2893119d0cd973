"""Findings in JSON that somebody else wrote."""

from __future__ import annotations

from typing import Any

import pytest

from bootlease.errors import MalformedError
from bootlease.findings import MAX_TEXT, parse_findings
from bootlease.model import Effect, Finding

WRITTEN = Finding("a.b", "No.", Effect.NOTES, pcr=4, event=0, expected="x", seen="y").as_dict()


def test_a_finding_is_read_as_it_was_written() -> None:
    """What ``as_dict`` writes is read back; members that are not known are ignored."""
    (read,) = parse_findings([{**WRITTEN, "more": []}], at_most=1)
    assert read.as_dict() == WRITTEN


def test_text_is_fit_for_a_terminal() -> None:
    """What does not print cannot move a cursor."""
    (read,) = parse_findings([{**WRITTEN, "message": "a\x1b[2Jb\n"}], at_most=1)
    assert read.message == "a?[2Jb?"


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "x" * 129},
        {"message": 1},
        {"message": "x" * (MAX_TEXT + 1)},
        {"effect": "granted"},
        {"effect": []},
        {"pcr": "4"},
        {"pcr": True},
        {"event": -1},
        {"event": 1 << 32},
        {"seen": None},
    ],
    ids=str,
)
def test_half_a_finding_is_none(change: dict[str, Any]) -> None:
    """A member that is known and has another form makes all of them malformed."""
    with pytest.raises(MalformedError):
        parse_findings([WRITTEN, {**WRITTEN, **change}], at_most=2)


@pytest.mark.parametrize("value", [None, {}, "[]", [None], [WRITTEN] * 3])
def test_no_list_of_findings_is_malformed(value: object) -> None:
    """Neither what is no list, nor one of other things, nor one that is too long."""
    with pytest.raises(MalformedError):
        parse_findings(value, at_most=2)
