"""A tree on a leash, as a test sees it: started by ``bootlease run``, watched from outside."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from bootlease.localapi import Granted, wire
from bootlease.testing import branches
from bootlease.testing.examples import AUDIENCE, SCOPE
from bootlease.testing.treewatch import MARK, SeenProcess, TreeWatch, WatchedTree, boottime
from bootlease.testing.verifier_process import COMMAND

_READY: Final = b"ready\n"
_PATIENCE: Final = 30.0
_BETWEEN: Final = 0.02
_LOOKS: Final = 4
_STABLE: Final = 3
_MOST_LOOKS: Final = 20


def lease_end(granted: Granted) -> float:
    """Return when a lease is over, by either clock, as CLOCK_BOOTTIME.

    On the wire its deadline has whole milliseconds: guard and workload know no others.
    """
    deadline = math.floor(granted.deadline * 1000) / 1000
    return min(deadline, granted.expires_at - time.time() + boottime())


@dataclass(frozen=True, slots=True)
class Felled:
    """How a tree ended.

    Attributes:
        lease_end: When its lease was over (CLOCK_BOOTTIME).
        last_gone: When the last process of it ended, the guard apart.
        early: Processes that stood when it had grown, and ended before the lease did.
        code: Exit code of the guard; negative, the signal that ended it.
        said: What the guard said.
    """

    lease_end: float
    last_gone: float
    early: tuple[SeenProcess, ...]
    code: int
    said: str

    @property
    def outlived(self) -> float:
        """Seconds from the end of the lease to that of the last process."""
        return self.last_gone - self.lease_end


@dataclass
class Leashed:
    """A guard, its leash and its tree.

    Attributes:
        watch: What watches it.
        name: Its mark.
        guard: The guard's process.
        folder: Private.
        grown: What had been seen of it when it stood.
    """

    watch: TreeWatch
    name: str
    guard: subprocess.Popen[bytes]
    folder: Path
    grown: WatchedTree = field(default_factory=WatchedTree)

    @classmethod
    def start(
        cls,
        watch: TreeWatch,
        folder: Path,
        socket: Path,
        workload: Sequence[str],
        *,
        options: Sequence[str] = (),
        entering: Callable[[Sequence[str]], Sequence[str]] = list,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a tree.

        Args:
            watch: Watches it.
            folder: Not there yet; its name is the tree's.
            socket: The agent's.
            workload: The command on the leash.
            options: Further options of ``bootlease run``.
            entering: Makes of the guard's command what is started.
            environment: What the guard has in its environment beside ours.
        """
        folder.mkdir()
        name = watch.name(folder.name)
        command = [
            *(*COMMAND, "run", "--socket", str(socket), "--scope", SCOPE, "--audience", AUDIENCE),
            *("--json", *options, "--", *workload),
        ]
        own = {MARK: name, "BRANCHES": str(folder), **(environment or {})}
        with (folder / "said").open("wb") as said:
            guard = subprocess.Popen(  # noqa: S603 - our own program
                list(entering(command)),
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        return cls(watch, name, guard, folder)

    @classmethod
    def grow(
        cls,
        watch: TreeWatch,
        folder: Path,
        socket: Path,
        kinds: Sequence[str],
        **more: object,
    ) -> Self:
        """Start a tree with these branches (``testing.branches``) and wait until it stands."""
        made = cls.start(watch, folder, socket, branches.command(*kinds), **more)  # type: ignore[arg-type]
        try:
            made.wait_until_grown()
        except BaseException:
            made.close()
            raise
        return made

    def wait_until_grown(self) -> None:
        """Wait until the workload says that it stands.

        Raises:
            AssertionError: It never did.
        """
        if self.guard.stdout is None or self.guard.stdout.readline() != _READY:
            raise AssertionError(f"the tree did not grow: {self.said()}")
        self.watch.wait_for(self.name, 3, _PATIENCE)
        # What only helped to grow, such as the parent of a daemon, ends about now.
        seen: list[set[int]] = []
        while len(seen) < _LOOKS or seen[-1] != seen[-_STABLE]:
            time.sleep(_BETWEEN)
            self.grown = self.watch.tree(self.name)
            seen.append({process.pid for process in self.grown.alive()})
            if len(seen) > _MOST_LOOKS:
                return

    def said(self) -> str:
        """Return what the guard said."""
        return (self.folder / "said").read_text()

    @property
    def leash(self) -> int:
        """Process id of the leash: the child of the guard.

        Raises:
            AssertionError: There is none.
        """
        for process in self.grown.alive():
            if process.parent == self.guard.pid:
                return process.pid
        raise AssertionError(f"no leash among {self.grown.processes}")

    @property
    def workload(self) -> int:
        """Process id of the workload: the first child of the leash."""
        leash = self.leash
        return next(each.pid for each in self.grown.processes if each.parent == leash)

    def handle(self) -> str:
        """Return the handle of its lease."""
        environment = Path(f"/proc/{self.workload}/environ").read_bytes().split(b"\0")
        wanted = f"{wire.LEASE_VARIABLE}=".encode()
        return next(each for each in environment if each.startswith(wanted))[len(wanted) :].decode()

    def fell(self, lease_end: float, *, seconds: float = _PATIENCE) -> Felled:
        """Wait until nothing is left, and tell how it went.

        Args:
            lease_end: When its lease was over, by CLOCK_BOOTTIME.
            seconds: How long to wait.

        Raises:
            TimeoutError: Something lives on.
        """
        tree = self.watch.wait_for_end(self.name, seconds)
        code = self.guard.wait(_PATIENCE)
        ends = {each.pid: each.gone_at or 0.0 for each in tree.processes}
        standing = [each for each in self.grown.alive() if each.pid != self.guard.pid]
        early = tuple(each for each in standing if ends[each.pid] < lease_end)
        last = max((at for pid, at in ends.items() if pid != self.guard.pid), default=0.0)
        return Felled(lease_end, last, early, code, self.said())

    def close(self) -> None:
        """End it, whatever state it is in."""
        for process in self.watch.tree(self.name).alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.guard.kill()
        self.guard.wait()
        if self.guard.stdout is not None:
            self.guard.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
