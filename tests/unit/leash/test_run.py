"""What a run does before there is a leash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootlease.leash.run import Run, _wanted
from bootlease.leash.terminal import Terminal
from bootlease.leash.values import Terms

EARLY = """
import ctypes
from bootlease.leash import run
from bootlease.leash.values import Terms
PR_GET_DUMPABLE = 3
def lay(*_):
    raise run.LeashError(str(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)))
run.lay = lay
print(run.run(run.Run(["true"], ["a"], "b", "cwt", "process", None, 2, 0, Terms(), False), None))
"""


def test_workload_finds_the_socket_of_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an absolute path; an empty one is none, as it is to the guard."""
    monkeypatch.setenv("BOOTLEASE_WORKLOAD_SOCKET", "/a/socket")

    def found(given: str | None) -> str:
        asked = Run(["true"], ["a"], "b", "cwt", "process", given, 2, 0, Terms(), False)  # noqa: FBT003 - as it is
        return _wanted(asked, "h", Terminal()).environment["BOOTLEASE_WORKLOAD_SOCKET"]

    assert found("socket") == str(Path.cwd() / "socket")
    assert found("") == found(None) == "/a/socket"


def test_guard_cannot_be_traced_while_it_lays_its_leash() -> None:
    """A guard lets nobody trace it, or read its memory, from its first step on."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", EARLY], check=True, capture_output=True, text=True, timeout=60
    )
    assert "the leash cannot be laid: 0'" in ran.stdout
