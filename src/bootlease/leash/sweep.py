"""Ending a tree of processes that no namespace holds together.

Descendants are found by their parents in /proc; orphans come to whoever adopts them (prctl(2),
PR_SET_CHILD_SUBREAPER), so that rounds of killing and reaping go on until none is left.

Not handled, because it cannot be: a process that stays out of the sweeper's sight, because the
sweeper itself was killed first.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_PAUSE: Final = 0.001
_PARENT: Final = 1
"""Where ppid stands in /proc/pid/stat after the closing bracket of the name."""


def sweep() -> None:
    """Kill and reap every descendant of this process."""
    while True:
        left = descendants(os.getpid())
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not _reap() and not left:
            return
        time.sleep(_PAUSE)


def _reap() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def descendants(ancestor: int) -> list[int]:
    """Return the pids of the living descendants of ``ancestor``, as /proc shows them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - as in mounts
        if name.isdigit():
            parent = _parent(name)
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        next_ones = children.get(waiting.pop(), [])
        found += next_ones
        waiting += next_ones
    return found


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as in mounts
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[_PARENT])
