"""Which skips are true: a test says why it cannot run here, and this looks whether that is so.

In CI a skip that is not, because the machine could run the test or because nobody here knows of
such a reason, is a failure (``conftest``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final


def _is_root() -> bool:
    return os.geteuid() == 0


def _writes_to(kind: str, option: str = "") -> bool:
    """Tell whether root is here, and a hierarchy of this kind that it may change."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return _is_root() and any(
        what == kind and (not option or option in options.split(",")) and os.access(where, os.W_OK)
        for _, where, what, options, *_ in mounts
    )


def _makes_time_namespaces() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--time", "true"]
    return _has_unshare() and subprocess.run(command, check=False).returncode == 0


def _has_unshare() -> bool:
    return shutil.which("unshare") is not None


MACHINE_COULD: Final[Mapping[str, Callable[[], bool]]] = {
    "only root can": _is_root,
    "no cgroup v1 freezer": lambda: _writes_to("cgroup", "freezer"),
    "no cgroup v2": lambda: _writes_to("cgroup2"),
    "no time namespace": _makes_time_namespaces,
    "no unshare": _has_unshare,
    "no /dev/fuse": lambda: os.access("/dev/fuse", os.R_OK | os.W_OK),
}
"""How a reason for a skip begins, and what makes it untrue."""


def is_true(reason: str) -> bool:
    """Tell whether a skip's reason is known, and this machine cannot run the test."""
    for words, could in MACHINE_COULD.items():
        if reason.startswith(words):
            return not could()
    return False
