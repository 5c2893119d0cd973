"""Which level is stated."""

from __future__ import annotations

import pytest

from bootlease.leash.levels import Level, stated


@pytest.mark.parametrize(
    ("namespace", "cgroup", "key", "level"),
    [
        (False, False, False, 0),
        (False, False, True, 0),
        (True, False, False, 1),
        (True, True, False, 2),
        (True, False, True, 3),
        (True, True, True, 3),
    ],
)
def test_level_of_what_was_had(*, namespace: bool, cgroup: bool, key: bool, level: int) -> None:
    """A key that expires is no level without a namespace."""
    assert stated(namespace=namespace, cgroup=cgroup, expiring_key=key) is Level(level)
