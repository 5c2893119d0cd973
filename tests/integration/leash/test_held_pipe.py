"""Somebody holds the pipe that the guard logs into, so that no write to it returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootlease.leash.sweep import descendants
from tests.integration.leash import held_pipe
from tests.integration.leash.conftest import PATIENCE, Start
from tests.integration.leash.test_lapse import SLACK


@pytest.fixture
def hold(folder: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Holds the pipe that a process has as standard error; whoever waits for it goes on after."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    begun: list[subprocess.Popen[bytes]] = []

    def begin(pid: int) -> subprocess.Popen[bytes]:
        place = folder / "held"
        place.mkdir()
        process = subprocess.Popen(
            [sys.executable, held_pipe.__file__, str(pid), str(place)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        begun.append(process)
        assert process.stdout is not None
        if process.stdout.readline() != b"held\n":
            pytest.skip("no /dev/fuse that could be used here")
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["leash runs", "leash is stopped"])
def test_log_that_nobody_can_write(
    stopped: bool,  # noqa: FBT001 - a parameter of the test
    start: Start,
    hold: Callable[[int], subprocess.Popen[bytes]],
) -> None:
    """A guard that has something to say ends the workload all the same, and says it later."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as log:
        leashed = start(
            "sleep", "60", options=["--level", "1", "--grace", "0.5"], log=log, wait=False
        )
    said = b""
    while b'"started"' not in said:
        said += os.read(read, 1 << 16)
    tree = leashed.tree(2)
    leash, workload = sorted(descendants(leashed.process.pid))
    holder = hold(workload)
    deadline = leashed.deadline
    if stopped:
        os.kill(leash, signal.SIGSTOP)
    tree.wait()
    assert tree.last <= deadline + SLACK
    os.killpg(holder.pid, signal.SIGKILL)
    assert leashed.process.wait(PATIENCE) == 122
    os.close(read)
