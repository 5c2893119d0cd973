"""Control groups that keep a test's processes from taking the machine: how many, how much memory.

Where a controller has a hierarchy of its own (cgroup v1, mixed hosts) it is used there, and in the
unified one otherwise. Only root may; ``Fence.make`` says so.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bootlease.errors import TransportError

_MOUNTS: Final = Path("/proc/self/mounts")
_LIMITS: Final = {
    "pids": ("pids.max", "pids.max"),
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "freezer": ("", ""),
}
"""Controller, and the name of its limit in v1 and v2."""

_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Fence:
    """A control group.

    Attributes:
        folder: Where it is.
        controller: What it is for.
        unified: It is one of cgroup v2.
    """

    folder: Path
    controller: str
    unified: bool

    @classmethod
    def make(
        cls, controller: str, limit: int | None = None, *, unified: bool | None = None
    ) -> Self:
        """Make one.

        Args:
            controller: ``pids``, ``memory`` or ``freezer``.
            limit: What it allows.
            unified: Whether it is one of v2; by default what the host has, v1 first.

        Raises:
            TransportError: There is no such controller here, or no right to use it.
        """
        split = None if unified else _mount("cgroup", controller)
        whole = None if unified is False else _mount("cgroup2", "")
        parent = split or whole
        if parent is None:
            raise TransportError(f"this host has no cgroup for {controller}")
        made = cls(parent / f"test-bootlease-{secrets.token_hex(6)}", controller, split is None)
        try:
            if made.unified and controller != "freezer":
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            made.folder.mkdir()
            if limit is not None:
                (made.folder / _LIMITS[controller][made.unified]).write_text(str(limit))
        except OSError as exc:
            with contextlib.suppress(OSError):
                made.folder.rmdir()
            raise TransportError(f"no cgroup for {controller} can be made: {exc}") from exc
        return made

    def entering(self, command: Sequence[str]) -> list[str]:
        """Return a command that enters it and then becomes ``command``."""
        return [
            *("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")),
            *command,
        ]

    def take(self, pid: int) -> None:
        """Move a process into it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def members(self) -> list[int]:
        """Return the processes in it."""
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def kills(self) -> int:
        """Return how many processes in it were killed for want of memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        lines = (self.folder / name).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def freeze(self) -> None:
        """Freeze what is in it, and wait until it is."""
        if self.unified:
            (self.folder / "cgroup.freeze").write_text("1")
            self._wait_for("cgroup.events", "frozen 1")
        else:
            (self.folder / "freezer.state").write_text("FROZEN")
            self._wait_for("freezer.state", "FROZEN")

    def thaw(self) -> None:
        """End ``freeze``."""
        if self.unified:
            (self.folder / "cgroup.freeze").write_text("0")
        else:
            (self.folder / "freezer.state").write_text("THAWED")

    def _wait_for(self, name: str, wanted: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while wanted not in (self.folder / name).read_text():
            if time.monotonic() > deadline:
                raise TransportError(f"{self.folder / name} does not say {wanted}")
            time.sleep(0.002)

    def remove(self) -> None:
        """Remove it, once it is empty."""
        if self.controller == "freezer":
            self.thaw()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.remove()


def _mount(kind: str, option: str) -> Path | None:
    for line in _MOUNTS.read_text().splitlines():
        _, where, what, options, *_ = line.split()
        if what == kind and (not option or option in options.split(",")):
            return Path(where)
    return None


def has_freezer_v1() -> bool:
    """Tell whether this host has the freezer of cgroup v1."""
    return _mount("cgroup", "freezer") is not None
