"""The demonstration's workloads: what runs on a leash, and how it is seen to end."""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError
from bootlease.testing.examples import AUDIENCE, SCOPE
from bootlease.testing.story import Service, Story, service
from bootlease.testing.treewatch import MARK, TreeWatch, WatchedTree, boottime

_PATIENCE: Final = 30.0
_STANDING: Final = 4
"""Guard, leash, workload and its daemon."""

_CALLER: Final = "bootlease.testing.leashed_caller"


@dataclass(frozen=True, slots=True)
class OnLeash:
    """A workload that runs under a lease.

    Attributes:
        story: Where it is told.
        guard: ``bootlease run``.
        watch: Sees its tree from outside.
        tree: The tree's name there.
    """

    story: Story
    guard: Service
    watch: TreeWatch
    tree: str

    def tell_calls(self, count: int) -> None:
        """Tell how its next calls are answered.

        Raises:
            TransportError: They are not.
        """
        seen = len(self.guard.lines(""))
        for _ in range(count):
            line, seen = self.guard.wait_for("call ", seconds=_PATIENCE, after=seen)
            if ": 200 " not in line:
                raise TransportError(f"the workload was not served: {line}")
        alive = self.watch.tree(self.tree).alive()
        self.story.tell(f"{line}: {count} calls, one every 100 ms, were answered")
        self.story.tell(f"its tree: {len(alive)} processes: guard, leash, workload, a daemon")

    def kill_guard(self) -> None:
        """Kill its guard, and tell how soon nothing is left.

        Raises:
            TransportError: Something is.
        """
        at = boottime()
        self.guard.process.send_signal(signal.SIGKILL)
        gone = self._gone().last_gone()
        self.story.tell(f"all of its tree is gone {_ms(gone - at)} later: the kernel saw to it")

    def tell_end(self, changed: float) -> None:
        """Tell when and why it ended.

        Args:
            changed: When the machine was changed (CLOCK_BOOTTIME).

        Raises:
            TransportError: It runs on.
        """
        gone = self._gone().last_gone()
        code = self.guard.process.wait(_PATIENCE)
        calls = self.guard.lines("call ")
        self.story.tell(f"{calls[-1]}: its last")
        self.story.tell(f"{self.guard.lines('bootlease')[-1]} (exit code {code})")
        self.story.tell(
            f"all of its tree is gone, the daemon too, {gone - changed:.2f} s after the change"
        )

    def _gone(self) -> WatchedTree:
        try:
            return self.watch.wait_for_end(self.tree, _PATIENCE)
        except TimeoutError as exc:
            raise TransportError(str(exc)) from exc


@contextlib.contextmanager
def on_leash(story: Story, watch: TreeWatch, socket: Path, tool: str) -> Iterator[OnLeash]:
    """Run a workload on a leash for the length of a block, and tell so.

    Args:
        story: Where it is told.
        watch: Sees its tree.
        socket: The agent's.
        tool: URL that it calls.

    Raises:
        TransportError: It does not start.
    """
    arguments = (
        *("run", "--socket", str(socket), "--scope", SCOPE, "--audience", AUDIENCE),
        *("--", sys.executable, "-m", _CALLER, tool),
    )
    story.command(tuple("python" if each == sys.executable else each for each in arguments))
    tree = watch.name(secrets.token_hex(4))
    with service("guard", "bootlease", *arguments, environment={MARK: tree}) as guard:
        guard.wait_for("call 1:", seconds=_PATIENCE)
        try:
            watch.wait_for(tree, _STANDING, _PATIENCE)
        except TimeoutError as exc:
            raise TransportError(str(exc)) from exc
        yield OnLeash(story, guard, watch, tree)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
