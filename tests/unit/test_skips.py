"""A skip has to be true of the machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests import skips

TESTS = Path(__file__).parents[1]


def test_a_reason_that_is_not_so_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only root can do is skipped by others, and by root never."""
    for user, true in ((0, False), (1000, True)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert skips.is_true("only root can try this") is true


def test_a_cgroup_that_can_be_written_is_no_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hierarchy is looked for among the mounts, wherever it is mounted."""
    mounts = f"cgroup2 {tmp_path} cgroup2 rw 0 0\n"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "read_text", lambda _: mounts)
    assert not skips.is_true("no cgroup v2 group is to be had here: nobody knows why")
    assert skips.is_true("no cgroup v1 freezer to write here")


def test_a_reason_that_nobody_knows_is_none() -> None:
    """Who skips a test for another reason has to say here how that is checked."""
    assert not skips.is_true("not today")


def test_every_skip_gives_a_reason_that_is_known() -> None:
    """No test skips itself for a reason that CI would not look into."""
    given = [
        (path.name, reason)
        for path in TESTS.rglob("*.py")
        for reason in re.findall(r"pytest\.skip\(f?\"([^\"{]*)", path.read_text())
        if path != Path(__file__)
    ]
    assert given
    unknown = [
        each
        for each in given
        # Some end in what only a run knows.
        if not any(
            each[1].startswith(words) or words.startswith(each[1]) for words in skips.MACHINE_COULD
        )
    ]
    assert unknown == []
