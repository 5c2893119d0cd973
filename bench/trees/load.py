"""Load on the machine: every processor wanted twice, and memory taken, touched and given back."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BLOCK: Final = 256 << 20
"""Bytes that each of the processes that load memory takes at a time."""

_GOODBYE: Final = 10.0


@contextlib.contextmanager
def load() -> Iterator[str]:
    """Load the machine for the length of a block; gives what that is, in words.

    Raises:
        RuntimeError: Something of it did not last.
    """
    count = os.cpu_count() or 1
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    processes = [
        subprocess.Popen([*command, kind], stdin=subprocess.DEVNULL)  # noqa: S603 - our own program
        for kind in ("compute", "memory")
        for _ in range(count)
    ]
    try:
        yield (
            f"{count} processes that compute, {count} that take, touch and give back"
            f" {BLOCK >> 20} MiB each"
        )
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("the load did not last")
    finally:
        for process in processes:
            process.kill()
            process.wait(_GOODBYE)


def _compute() -> None:
    while True:
        sum(range(1 << 16))


def _take_memory() -> None:
    while True:
        with mmap.mmap(-1, BLOCK) as taken:
            for at in range(0, BLOCK, mmap.PAGESIZE):
                taken[at] = 1


if __name__ == "__main__":
    _compute() if sys.argv[1] == "compute" else _take_memory()
