"""How guard and leash are to be run: promptly, and as the last that the kernel takes memory from.

What the system does not allow is left: it makes the end later under load, not wrong.
"""

from __future__ import annotations

import contextlib
import os
import time

from bootlease.leash import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_CAP_IPC_LOCK: Final = 14
_RESET_ON_FORK: Final = 0x40000000
_LOWEST_REAL_TIME: Final = 1
_PREFERRED: Final = -15
_NEVER: Final = -1000
_MORE_LIKELY: Final = 300
_NO_LIMIT: Final = float("inf")


class Priority:
    """How the caller of ``bootlease run`` is scheduled, which the workload is given back.

    Attributes:
        policy: Scheduling policy.
        nice: Nice value.
    """

    __slots__ = ("nice", "policy")

    def __init__(self, policy: int, nice: int) -> None:
        self.policy = policy
        self.nice = nice

    @classmethod
    def own(cls) -> Priority:
        """Return that of this process."""
        return cls(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))

    def restore(self) -> None:
        """Give this process what the caller had."""
        if self.policy in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE):
            # Also where the policy is the same: it gives back the usual slice.
            os.sched_setscheduler(0, self.policy, os.sched_param(0))
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, self.nice)


def prefer(*, inherited: bool) -> None:
    """Run this process before others, and keep it in memory, as far as it may.

    Args:
        inherited: Threads and children run so too.
    """
    policy = os.SCHED_RR | (0 if inherited else _RESET_ON_FORK)
    try:
        os.sched_setscheduler(0, policy, os.sched_param(_LOWEST_REAL_TIME))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _PREFERRED)
        with contextlib.suppress(OSError):
            kernel.ask_for_short_slice()
    if kernel.capable(_CAP_IPC_LOCK):
        with contextlib.suppress(OSError):
            kernel.lock_memory()
    _weigh(_NEVER)


def hasten(pids: Iterable[int], proc: int | None = None, *, within: float = _NO_LIMIT) -> None:
    """Have processes that were killed run next: to die takes time of the processor, too.

    Args:
        pids: They.
        proc: Descriptor of the /proc that shows them; by default the one that is mounted.
        within: Seconds after which the rest is left.
    """
    until = time.monotonic() + within
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in _tasks(pid, proc):
                if time.monotonic() > until:
                    return
                _run_next(int(task))


def _tasks(pid: int, proc: int | None) -> list[str]:
    path = f"{pid}/task" if proc is not None else f"/proc/{pid}/task"
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.listdir(fd)  # noqa: PTH208 - a descriptor, not a path
    finally:
        os.close(fd)


def _run_next(task: int) -> None:
    try:
        os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(_LOWEST_REAL_TIME))
    except PermissionError:
        kernel.ask_for_short_slice(task)


def become_ordinary_victim() -> None:
    """Let the kernel, short of memory, end the workload before what holds it."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:  # noqa: PTH123 - as in mounts
            now = int(file.read())
    except (OSError, ValueError):
        return
    _weigh(min(1000, max(now, 0) + _MORE_LIKELY))


def _weigh(score: int) -> None:
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % score)
        finally:
            os.close(fd)
