"""The end of a leash's own namespace: who is killed, and who is hastened after that."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from bootlease.leash import priority
from bootlease.leash.namespace import Namespace


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """What an end does, by a process that believes that it is a namespace's first: nothing real."""
    happened: list[object] = []

    def hasten(pids: Iterable[int], proc: int | None = None, *, within: float) -> None:
        assert proc is not None
        assert os.path.samestat(os.fstat(proc), tmp_path.stat())
        assert within < 0.01
        happened.append(sorted(pids))

    monkeypatch.setattr(os, "kill", lambda *what: happened.append(what))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(priority, "hasten", hasten)
    for name in ("1", "5", "17", "self", "version"):
        (tmp_path / name).mkdir()
    held = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags: held(tmp_path if path == "/proc" else path, flags)
    )
    return happened


def test_all_are_killed_before_any_is_hastened(done: list[object]) -> None:
    """One call kills everybody, and those who die are then raised, the leash apart."""
    Namespace(shown=True).end()
    assert done == [(-1, signal.SIGKILL), [5, 17]]


def test_other_processes_of_the_host_are_not_hastened(done: list[object]) -> None:
    """Where /proc shows the processes outside, no number in it means anybody inside."""
    Namespace(shown=False).end()
    assert done == [(-1, signal.SIGKILL)]


def test_nobody_is_killed_elsewhere(done: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is no namespace's first would kill all that its user has: it kills nobody."""
    monkeypatch.setattr(os, "getpid", lambda: 2)
    Namespace(shown=True).end()
    assert done == []


def test_empty_namespace(done: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody is left there is nobody to hasten."""

    def kill(pid: int, number: int) -> None:
        raise ProcessLookupError(pid, number)

    monkeypatch.setattr(os, "kill", kill)
    Namespace(shown=True).end()
    assert done == []


def test_hastening_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, raising priorities takes no longer than it may."""
    raised: list[int] = []
    monkeypatch.setattr(priority, "_run_next", raised.append)
    priority.hasten([os.getpid()] * 100, within=-1.0)
    assert raised == []
    priority.hasten([os.getpid()])
    assert os.getpid() in raised


def test_hastening_reads_the_proc_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are looked up in the folder that was opened before, whatever /proc shows by now."""
    raised: list[int] = []
    monkeypatch.setattr(priority, "_run_next", raised.append)
    (tmp_path / "5" / "task" / "7").mkdir(parents=True)
    held = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    priority.hasten([5], held)
    os.close(held)
    assert raised == [7]
