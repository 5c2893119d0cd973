"""Control groups that bound what a test lets loose."""

from __future__ import annotations

import subprocess

import pytest

from bootlease.errors import TransportError
from bootlease.testing.branches import static_program
from bootlease.testing.fences import Fence


@pytest.mark.root
def test_a_fence_bounds_processes() -> None:
    """What enters it cannot have more processes than it allows, and it is removed after."""
    with Fence.make("pids", 3) as fence:
        done = subprocess.run(
            fence.entering(["sh", "-c", "sleep 0.2 & sleep 0.2 & sleep 0.2 & sleep 0.2 & wait"]),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert "fork" in done.stderr
    assert not fence.folder.exists()


@pytest.mark.root
@pytest.mark.parametrize("unified", [True, None])
def test_what_is_frozen_stands_still(*, unified: bool | None) -> None:
    """A frozen process does nothing, and goes on once thawed."""
    with Fence.make("freezer", unified=unified) as fence:
        command = ["sh", "-c", "read _; echo on"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            fence.take(process.pid)
            fence.freeze()
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            fence.thaw()
            assert process.wait(10) == 0


def test_a_controller_that_is_not_there_is_said() -> None:
    """A fence that cannot be made is an error, never no fence."""
    with pytest.raises(TransportError, match="no cgroup"):
        Fence.make("pids", limit=-7)


def test_the_static_program_needs_no_loader() -> None:
    """It is an ELF executable without an interpreter."""
    program = static_program()
    assert program[:4] == b"\x7fELF"
    assert b"ld-linux" not in program
