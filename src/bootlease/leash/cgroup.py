"""Control groups: one of cgroup v2 for the workload, and thawing what cgroup v1 froze.

On a mixed host controllers sit in cgroup v1 and the unified hierarchy is mounted elsewhere; it
needs no controller for ``cgroup.kill`` (Linux 5.14) and ``cgroup.freeze`` (5.2). The group is made
below the one that the guard is in, where root may, and a user to whom it was delegated.

Specifications: kernel documentation, "Control Group v2" and cgroup-v1 "Cgroup Freezer".

Not handled: limits of memory or CPU, which the operator's own group sets.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bootlease.leash.mounts import Mount, mounted

_PATIENCE: Final = 0.5
_PAUSE: Final = 0.002


_PREFIX: Final = "bootlease-"


class CgroupError(Exception):
    """There is no control group to be had here, and why."""


def _own_paths(pid: int | str) -> Iterator[tuple[str, str]]:
    # Lines are "id:controllers:path"; the unified hierarchy has id 0 and no controllers.
    for line in Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _below(mount: Mount, path: str) -> Path | None:
    """Return where the group ``path`` is in ``mount``, which may show only a part of all."""
    root = mount.root.rstrip("/")
    if (path != root and not path.startswith(f"{root}/")) or "/.." in path:
        return None
    return Path(mount.point + path[len(root) :])


def own_folder() -> Path:
    """Return the folder of the cgroup v2 group that this process is in.

    Raises:
        CgroupError: There is none in sight.
    """
    try:
        path = dict(_own_paths("self"))[""]
        found = [_below(mount, path) for mount in mounted() if mount.kind == "cgroup2"]
    except (OSError, KeyError, ValueError) as exc:
        raise CgroupError("this process is in no cgroup v2 group") from exc
    for folder in found:
        if folder is not None and (folder / "cgroup.procs").exists():
            return folder
    raise CgroupError("no cgroup v2 hierarchy is mounted")


class WorkloadGroup:
    """A cgroup v2 group with a workload in it.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed = False
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Open beforehand: at the end there may be no descriptor or memory to be had.
        self._kill = os.open(folder / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        self._freeze = os.open(folder / "cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
        self._events = os.open(folder / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def make(cls) -> WorkloadGroup:
        """Make a group below this process's own.

        Raises:
            CgroupError: It cannot be made, or the kernel is too old.
        """
        parent = own_folder()
        _clear_up(parent)
        folder = parent / f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        try:
            folder.mkdir(0o755)
        except OSError as exc:
            raise CgroupError(f"no group can be made at {folder}: {exc.strerror}") from exc
        try:
            return cls(folder)
        except OSError as exc:
            folder.rmdir()
            raise CgroupError(f"{exc.filename}: {exc.strerror}") from exc

    def fileno(self) -> int:
        """Return a descriptor of the folder."""
        return self._fd

    def kill(self) -> None:
        """Kill all that is in it, at once; what forks meanwhile dies too."""
        if not self._closed:
            os.write(self._kill, b"1")

    def members(self) -> list[int]:
        """Return the pids of what is in it, as this process sees them."""
        found: list[int] = []
        for folder, _, _ in os.walk(self.folder):
            with contextlib.suppress(OSError):
                found += map(int, (Path(folder) / "cgroup.procs").read_text().split())
        return found

    def freeze(self, seconds: float) -> bool:
        """Stop all that is in it; tell whether it stands still within ``seconds``."""
        os.write(self._freeze, b"1")
        poll = select.poll()
        poll.register(self._events, select.POLLPRI)
        until = time.monotonic() + seconds
        while not self._is("frozen"):
            left = until - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
        return True

    def thaw(self) -> None:
        """Let it go on."""
        os.write(self._freeze, b"0")

    def remove(self) -> bool:
        """Remove the group and those in it; False where any has members."""
        if self._closed:
            return True
        until = time.monotonic() + _PATIENCE
        while self._is("populated"):
            if time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        try:
            for folder, _, _ in os.walk(self.folder, topdown=False):
                Path(folder).rmdir()
        except OSError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Close the descriptors."""
        self._closed = True
        for fd in (self._fd, self._kill, self._freeze, self._events):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _is(self, key: str) -> bool:
        return f"{key} 1\n".encode() in os.pread(self._events, 256, 0)


def _clear_up(parent: Path) -> None:
    # Groups of guards that were killed; one with members is not removed by the kernel.
    for folder in parent.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def thaw_frozen(pids: Iterable[int]) -> None:
    """Thaw the cgroup v1 groups of ``pids`` that are frozen, as far as this process may.

    What cgroup v1 froze does not die before that; what cgroup v2 froze does.
    """
    freezers = [
        mount for mount in mounted() if mount.kind == "cgroup" and "freezer" in mount.controllers
    ]
    own = _freezer_path("self")
    for path in {_freezer_path(pid) for pid in pids} - {own, None}:
        for mount in freezers:
            folder = _below(mount, path or "")
            if folder is not None:
                _thaw(folder)


def _freezer_path(pid: int | str) -> str | None:
    try:
        for controllers, path in _own_paths(pid):
            if "freezer" in controllers.split(","):
                return path
    except OSError:
        return None
    return None


def _thaw(folder: Path) -> None:
    # A group is also frozen by any above it.
    while (folder / "freezer.parent_freezing").exists():
        with contextlib.suppress(OSError):
            (folder / "freezer.state").write_text("THAWED")
        folder = folder.parent
