"""Sees from outside when each process of a tree begins and ends.

A process of its own, for the interpreter whose threads bring the ends about has no time to look.
It reads ``/proc`` 400 times a second for processes whose environment carries a mark, or whose
parent belongs to a tree already, and holds a pidfd of each: the kernel says at once when it ends.
A process that is killed and was never waited for (a zombie) has ended; one that is stopped, frozen
or traced has not. What lives for less than 2.5 ms may never be seen.

Run as ``python -m bootlease.testing.treewatch PREFIX``; ``TreeWatch`` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, Self

MARK: Final = "BOOTLEASE_TREE"
"""Environment variable whose value names the tree that a process belongs to."""

_PERIOD: Final = 0.0025
_LOOKS: Final = 8
"""How often a process is looked at whose environment cannot be read: it is about to exec."""

_GOODBYE: Final = 10.0
_PROC: Final = Path("/proc")


def boottime() -> float:
    """Return CLOCK_BOOTTIME: the clock of all times here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class SeenProcess:
    """A process of a tree.

    Attributes:
        pid: Process id, outside of any namespace.
        parent: That of its parent when it was first seen.
        name: Its name then.
        seen_at: When it was first seen.
        gone_at: When it ended; None while it lives.
    """

    pid: int
    parent: int
    name: str
    seen_at: float
    gone_at: float | None = None


@dataclass(slots=True)
class WatchedTree:
    """Every process that was seen of one tree, in the order of their births.

    Attributes:
        processes: All of them, the dead ones included.
    """

    processes: list[SeenProcess] = field(default_factory=list)

    def alive(self) -> list[SeenProcess]:
        """Return those that live."""
        return [process for process in self.processes if process.gone_at is None]

    def last_gone(self) -> float:
        """Return when the last one ended.

        Raises:
            ValueError: One lives, or none was ever seen.
        """
        ends = [process.gone_at for process in self.processes]
        if not ends or None in ends:
            raise ValueError("a tree that has not ended")
        return max(end for end in ends if end is not None)


class TreeWatch:
    """Watches all processes that carry a mark which begins with ``prefix``.

    Args:
        prefix: Begins the names of the trees; nobody else's may begin so.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._trees: dict[str, WatchedTree] = {}
        self._news = threading.Condition()
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "bootlease.testing.treewatch", prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def name(self, rest: str) -> str:
        """Return the name of a tree, to be put in its environment as ``MARK``."""
        return f"{self._prefix}{rest}"

    def close(self) -> None:
        """Stop watching."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tree(self, name: str) -> WatchedTree:
        """Return a copy of what was seen of a tree so far."""
        with self._news:
            known = self._trees.get(name, WatchedTree())
            return WatchedTree([replace(process) for process in known.processes])

    def wait_for_end(self, name: str, seconds: float) -> WatchedTree:
        """Wait until a tree was seen and all of it is gone.

        Raises:
            TimeoutError: Some of it lives.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                tree = self._trees.get(name)
                if tree is not None and tree.processes and not tree.alive():
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    alive = [] if tree is None else tree.alive()
                    raise TimeoutError(f"{name}: after {seconds} s there is still {alive}")
                self._news.wait(left)
        return self.tree(name)

    def wait_for(self, name: str, count: int, seconds: float) -> WatchedTree:
        """Wait until ``count`` processes of a tree live.

        Raises:
            TimeoutError: There were not so many.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while len(self._trees.get(name, WatchedTree()).alive()) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{name}: {self._trees.get(name)}, not {count} processes")
                self._news.wait(left)
        return self.tree(name)

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            with self._news:
                if "parent" in said:
                    tree = self._trees.setdefault(said.pop("tree"), WatchedTree())
                    tree.processes.append(SeenProcess(**said))
                else:
                    for process in self._trees[said["tree"]].alive():
                        if process.pid == said["pid"]:
                            process.gone_at = said["gone_at"]
                self._news.notify_all()


class _Watcher:
    """What runs in the process of its own."""

    def __init__(self, prefix: str) -> None:
        self._wanted = f"{MARK}={prefix}".encode()
        self._members: dict[int, tuple[str, int]] = {}
        self._others: dict[int, int] = {}
        self._poll = select.epoll()
        self._poll.register(sys.stdin.fileno(), select.EPOLLHUP | select.EPOLLIN)

    def run(self) -> None:
        while True:
            began = time.monotonic()
            self._look()
            while (left := began + _PERIOD - time.monotonic()) > 0:
                if self._wait(left):
                    return

    def _wait(self, seconds: float) -> bool:
        """Wait for ends, and tell whether nobody listens any more."""
        happened = self._poll.poll(seconds)
        at = boottime()
        by_descriptor = (
            {member[1]: pid for pid, member in self._members.items()} if happened else {}
        )
        for descriptor, _ in happened:
            if descriptor not in by_descriptor:
                return True
            pid = by_descriptor[descriptor]
            tree, _ = self._members.pop(pid)
            self._poll.unregister(descriptor)
            os.close(descriptor)
            # Until it is waited for, its number stays in /proc.
            self._others[pid] = 0
            _say(tree=tree, pid=pid, gone_at=at)
        return False

    def _look(self) -> None:
        present = {int(name) for name in os.listdir(_PROC) if name.isdigit()}  # noqa: PTH208 - fast
        for pid in self._others.keys() - present:
            del self._others[pid]
        # In the order of their births, mostly: parents before their children.
        for pid in sorted(present - self._members.keys()):
            left = self._others.get(pid, _LOOKS)
            if left:
                self._others[pid] = left - 1
                with contextlib.suppress(OSError):
                    self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        name, _, rest = stat.partition(b"(")[2].rpartition(b")")
        state, parent = rest.split(maxsplit=2)[:2]
        if state in {b"Z", b"X"}:
            return
        tree = self._members[int(parent)][0] if int(parent) in self._members else ""
        if not tree:
            environment = self._environment(pid)
            tree = next(
                (each for each in environment if each.startswith(self._wanted)), b""
            ).decode()
            tree = tree.partition("=")[2]
            if environment != [b""] and not tree:
                self._others[pid] = 0
        if tree:
            descriptor = os.pidfd_open(pid)
            self._members[pid] = tree, descriptor
            self._others.pop(pid, None)
            self._poll.register(descriptor, select.EPOLLIN)
            _say(tree=tree, pid=pid, parent=int(parent), name=name.decode(), seen_at=boottime())

    @staticmethod
    def _environment(pid: int) -> list[bytes]:
        try:
            return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except PermissionError:
            return [b""]


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def processes_marked(prefix: str) -> Iterator[int]:
    """Yield the processes that carry a mark which begins with ``prefix``, zombies apart."""
    wanted = f"{MARK}={prefix}".encode()
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(
                each.startswith(wanted) for each in (entry / "environ").read_bytes().split(b"\0")
            ):
                yield int(entry.name)


def _main() -> None:
    # Where it may: what is measured is the tree's end, not how soon the watcher gets a processor.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _Watcher(sys.argv[1]).run()


if __name__ == "__main__":
    _main()
