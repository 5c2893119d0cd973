"""Ending everything, and looking until nobody is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bootlease.leash.cgroup import thaw_frozen
from bootlease.leash.laying import LaidLeash
from bootlease.leash.plan import Hold
from bootlease.leash.priority import hasten
from bootlease.leash.sweep import descendants, sweep

_LOOK_AGAIN: Final = 0.003
_PATIENCE: Final = 9.0
"""Less than what the kernel gives a guard that has killed (``deadline``)."""


def strike(leash: LaidLeash) -> None:
    """Kill what the kernel kills at one call: all, but where processes are found one by one."""
    with contextlib.suppress(OSError):
        if leash.group is not None:
            leash.group.kill()
    with contextlib.suppress(OSError):
        if leash.hold is Hold.NAMESPACE:
            signal.pidfd_send_signal(leash.pidfd, signal.SIGKILL)
        elif leash.hold is Hold.CONTAINER:
            os.kill(-1, signal.SIGKILL)


def kill_all(leash: LaidLeash) -> bool:
    """Kill everything that the leash holds; tell whether all of it is gone.

    To do it again is harmless.
    """
    strike(leash)
    if leash.hold is Hold.CONTAINER:
        return _empty_container()
    if leash.hold is Hold.SWEEP:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(leash.pidfd, signal.SIGKILL)
    everyone = _wait(leash)
    if leash.hold is Hold.SWEEP:
        # Orphans of the leash are the guard's children now.
        sweep()
    if everyone:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(leash.pid, 0)
    if leash.group is not None:
        everyone = leash.group.remove() and everyone
    return everyone


def _wait(leash: LaidLeash) -> bool:
    # The first process of a namespace is gone only after all others are.
    until = time.monotonic() + _PATIENCE
    while not gone(leash.pidfd, _LOOK_AGAIN):
        # Short of descriptors or memory, there is the next look.
        with contextlib.suppress(OSError):
            left = _left(leash)
            # One by one: a leash that is frozen again and again does not take them with it.
            _kill(left)
            # After that: nobody is to make others who run next. At each look: what was being made
            # at the one before, waits with the others.
            hasten([leash.pid, *left])
            # Frozen by cgroup v1, a process does not die; nor does what waits for it.
            thaw_frozen([leash.pid, *left])
        if time.monotonic() > until:
            return False
    return True


def strays(leash: LaidLeash) -> set[int]:
    """Return what the leash holds and its group does not: what somebody moved out of it."""
    if leash.group is None:
        return set()
    return set(descendants(leash.pid)).difference(leash.group.members())


def _left(leash: LaidLeash) -> set[int]:
    # Its descendants too, where there is a group: somebody may have moved them out of it.
    found = set(descendants(leash.pid))
    return found if leash.group is None else found.union(leash.group.members()) - {leash.pid}


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def gone(pidfd: int, within: float = 0.0) -> bool:
    """Tell whether a process has ended, at the latest after ``within`` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within * 1000))


def _empty_container() -> bool:
    # kill(2): every process but this one and the container's first; what forks dies as well.
    until = time.monotonic() + _PATIENCE
    others = True
    while others and time.monotonic() < until:
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN / 5)
        alive = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        others = bool(alive - {1, os.getpid()})
    return not others
