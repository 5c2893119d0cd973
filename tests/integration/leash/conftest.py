"""A workload on a leash, as a process of its own, with an agent that does as it is told.

Every wait here ends. What a test started is gone after it, or the test fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import pytest

from bootlease.leash.cgroup import CgroupError, own_folder
from bootlease.leash.sweep import descendants
from bootlease.testing.scripted_agent import ScriptedAgent

NOBODY: Final = 65534
PATIENCE: Final = 15.0
PYTHON: Final = (sys.executable, "-I", "-S", "-c")


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watched:
    """Processes whose end is awaited through their pidfds.

    Args:
        pids: Them.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._fds: dict[int, int] = {}
        self.ended: dict[int, float] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._fds[os.pidfd_open(pid)] = pid

    def wait(self, within: float = PATIENCE) -> None:
        """Wait until all have ended, noting when each did.

        Raises:
            TimeoutError: Some have not.
        """
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        until = time.monotonic() + within
        while self._fds:
            ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
            now = boottime()
            if not ready:
                raise TimeoutError(f"still there: {sorted(self._fds.values())}")
            for fd, _ in ready:
                poll.unregister(fd)
                self.ended[self._fds.pop(fd)] = now
                os.close(fd)

    @property
    def youngest(self) -> int:
        """The pid that was given out last."""
        return max(self._fds.values())

    @property
    def first(self) -> float:
        """When the first ended."""
        return min(self.ended.values())

    @property
    def last(self) -> float:
        """When the last ended."""
        return max(self.ended.values())

    def close(self) -> None:
        """Close what is left."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


class Leashed:
    """A running ``bootlease run``.

    Attributes:
        agent: Its agent.
        process: The guard.
        folder: A folder that the workload can write.
    """

    def __init__(self, agent: ScriptedAgent, process: subprocess.Popen[str], folder: Path) -> None:
        self.agent = agent
        self.process = process
        self.folder = folder

    @property
    def log(self) -> list[dict[str, Any]]:
        """What the guard has logged."""
        text = (self.folder / "log").read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until the guard logs ``event``."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            for line in self.log:
                if line["event"] == event:
                    return line
            if self.process.poll() is not None and not any(e["event"] == event for e in self.log):
                break
            time.sleep(0.01)
        text = (self.folder / "log").read_text()
        raise TimeoutError(f"{event} was not logged: {text}")

    @property
    def deadline(self) -> float:
        """When the lease ends as the agent granted it, CLOCK_BOOTTIME."""
        return next(iter(self.agent.standing.values())).deadline

    @property
    def leash(self) -> int:
        """The leash's pid."""
        return int(self.logged("laid")["leash"])

    def tree(self, at_least: int, *, settled: bool = False) -> Watched:
        """Return the leash and what it holds, once that is ``at_least`` processes.

        Args:
            at_least: How many they are.
            settled: Wait until none is about to exit, as one that only made others is.
        """
        until = time.monotonic() + PATIENCE
        before: list[int] = []
        while len(pids := sorted(descendants(self.process.pid))) < at_least or (
            settled and pids != before
        ):
            if time.monotonic() > until:
                raise TimeoutError(f"only {len(pids)} processes of {at_least}")
            before = pids
            time.sleep(0.1 if settled else 0.01)
        return Watched(pids)

    def wait_for(self, name: str) -> str:
        """Wait until the workload has written the file ``name``; return what it holds."""
        path = self.folder / name
        until = time.monotonic() + PATIENCE
        while not path.exists() or not path.read_text().endswith("\n"):
            if time.monotonic() > until:
                raise TimeoutError(f"{name} was not written: {self.log}")
            time.sleep(0.01)
        return path.read_text().rstrip("\n")

    def end(self, within: float = PATIENCE) -> dict[str, Any]:
        """Wait for the guard's end; return its last words, with ``returncode`` among them."""
        code = self.process.wait(within)
        log = self.log
        return {**(log[-1] if log else {}), "returncode": code}


Start = Callable[..., Leashed]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach and write."""
    path = Path(tempfile.mkdtemp(prefix="bl-leash-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def agent(folder: Path) -> Iterator[ScriptedAgent]:
    """An agent that grants leases of two seconds, and renews none unless told to."""
    with ScriptedAgent(folder / "socket", life=2.0, alive_every=0.2) as running:
        running.path.chmod(0o666)
        yield running


@pytest.fixture
def start(agent: ScriptedAgent, folder: Path) -> Iterator[Start]:
    """Starts ``bootlease run``; what it leaves behind fails the test."""
    begun: list[Leashed] = []

    def begin(
        *command: str,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        wait: bool = True,
        log: IO[str] | None = None,
        **keywords: Any,
    ) -> Leashed:
        arguments = [
            *prefix,
            *(sys.executable, "-P", "-m", "bootlease", "run", "--scope", "a", "--audience", "b"),
            *("--socket", str(agent.path), "--json", *options, "--", *command),
        ]
        keywords.setdefault("stdin", subprocess.DEVNULL)
        with (folder / "log").open("w") if log is None else log as stderr:
            process = subprocess.Popen(arguments, stderr=stderr, text=True, **keywords)
        leashed = Leashed(agent, process, folder)
        begun.append(leashed)
        if wait:
            leashed.logged("started")
        return leashed

    yield begin
    for leashed in begun:
        _clean_up(leashed)


def _clean_up(leashed: Leashed) -> None:
    left = descendants(leashed.process.pid)
    if leashed.process.poll() is None:
        leashed.process.send_signal(signal.SIGCONT)
        leashed.process.kill()
    leashed.process.wait(PATIENCE)
    for stream in (leashed.process.stdin, leashed.process.stdout):
        if stream is not None:
            stream.close()
    rest = Watched(left)
    try:
        rest.wait()
    finally:
        rest.close()
        for group in _groups(leashed.process.pid):
            # Another guard may just have cleared it up.
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()


def _groups(pid: int) -> list[Path]:
    # A guard that was killed cannot remove its group.
    with contextlib.suppress(CgroupError):
        return list(own_folder().glob(f"bootlease-{pid}-*"))
    return []


@pytest.fixture
def as_root() -> None:
    """What only root can try, on a machine whose cgroup v2 it may use."""
    if os.geteuid() != 0:
        pytest.skip("only root can try this")


def as_nobody() -> list[str]:
    """Return what to put before a command so that it runs unprivileged."""
    if os.geteuid() != 0:
        return []
    user = str(NOBODY)
    return [*_opened(), "setpriv", "--reuid", user, "--regid", user, "--clear-groups"]


def _opened() -> list[str]:
    """Return what lets others use this interpreter where its folder is closed to them.

    A mount namespace of its own, in which that folder holds nothing but what is needed.
    """
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix), Path(__file__).parents[3]}
    closed = {folder for path in needed for folder in path.parents if not folder.stat().st_mode & 1}
    if not closed:
        return []
    outermost = min(closed, key=lambda folder: len(folder.parts))
    below = sorted(str(path) for path in needed if outermost in path.parents)
    script = (
        'closed=$1; shift; kept=$(mktemp -d); mount -t tmpfs -o mode=755 none "$kept"; n=0\n'
        'for path in $1; do n=$((n + 1)); mkdir "$kept/$n"; mount --bind "$path" "$kept/$n"; done\n'
        'mount -t tmpfs -o mode=755 none "$closed"; n=0\n'
        'for path in $1; do n=$((n + 1)); mkdir -p "$path"; mount --bind "$kept/$n" "$path"; done\n'
        'umount -R "$kept"; rmdir "$kept"; shift; exec "$@"'
    )
    inside = ["sh", "-ec", script, "sh", str(outermost), " ".join(below)]
    return ["unshare", "--mount", "--propagation", "private", *inside]
