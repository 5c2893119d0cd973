"""Levels: how surely a workload ends with its lease. docs/leash.md has what each holds."""

from __future__ import annotations

import enum


class Level(enum.IntEnum):
    """What a guard can promise, as the lease request states it."""

    PROCESSES = 0
    """No namespace of the leash's own: a container's, or parentage alone."""
    NAMESPACE = 1
    """A pid namespace, which the kernel ends with its first process."""
    CGROUP = 2
    """The same, and a cgroup v2 group that is killed and frozen as one."""
    EXPIRING_KEY = 3
    """1 or 2, and a confirmation key that the TPM stops using when the lease ends."""


def stated(*, namespace: bool, cgroup: bool, expiring_key: bool) -> Level:
    """Return the level of what was had."""
    if not namespace:
        return Level.PROCESSES
    if expiring_key:
        return Level.EXPIRING_KEY
    return Level.CGROUP if cgroup else Level.NAMESPACE
