"""``bootlease run``: its options, and its log."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.cli import run as run_command_line
from bootlease.cli.run_workload import _Log
from bootlease.leash.ending import Ending, Reason

PATIENCE = 30
LEASE = ("run", "--scope", "a", "--audience", "b")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--", "true"),
        ("run", "--scope", "a", "--", "true"),
        LEASE,
        (*LEASE, "--level", "3", "--", "true"),
        (*LEASE, "--require-level", "4", "--", "true"),
        (*LEASE, "--grace", "-1", "--", "true"),
        (*LEASE, "--grace", "nan", "--", "true"),
        (*LEASE, "--freeze", "inf", "--", "true"),
        (*LEASE, "--wait", "1e12", "--", "true"),
        (*LEASE, "--encoding", "xml", "--", "true"),
        (*LEASE, "--scope", "a b", "--", "true"),
        (*LEASE, "--audience", "", "--", "true"),
    ],
    ids=lambda arguments: " ".join(arguments[5:]) or " ".join(arguments),
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Wrong usage is 2, and starts nothing."""
    assert run_command_line(list(arguments)) == 2


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where standard error goes."""
    path = tmp_path / "stderr"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr("bootlease.cli.run_workload._STDERR", fd)
    return path


def test_log_for_programs(stderr: Path) -> None:
    """With --json every line is an object, and the last says how it ended."""
    log = _Log(as_json=True)
    log.note("laid", "leashed at level 2", level=2)
    log.end(Ending(Reason.EXITED, 3, "the workload exited with 3"))
    first, last = map(json.loads, stderr.read_text().splitlines())
    assert (first["event"], first["level"]) == ("laid", 2)
    assert (last["event"], last["reason"], last["code"]) == ("ended", "exited", 3)


def test_log_for_people(stderr: Path) -> None:
    """A command that exits by itself is not commented on; a lapse is."""
    log = _Log(as_json=False)
    log.note("laid", "leashed at level 2", level=2)
    log.end(Ending(Reason.EXITED, 3, "the workload exited with 3"))
    assert stderr.read_text() == ""
    log.end(Ending(Reason.LAPSED, 122, "the lease lapsed", gone_after=0.002))
    assert stderr.read_text() == "bootlease: the lease lapsed; all was gone 2.0 ms later\n"


def test_log_stands_before_the_workload_runs(stderr: Path) -> None:
    """What is said while the workload takes every process there can be needs no new thread."""
    before = threading.active_count()
    log = _Log(as_json=False)
    log.note("laid", "leashed at level 2", level=2)
    assert threading.active_count() == before + 1
    assert stderr.read_text() == ""


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The read end of what standard error goes to: a pipe without room."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    monkeypatch.setattr("bootlease.cli.run_workload._STDERR", write)
    yield read
    os.close(write)


def test_reader_that_does_not_read(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody empties holds up no guard, nor its exit for longer than its patience."""
    monkeypatch.setattr("bootlease.cli.run_workload._PATIENCE", 0.01)
    log = _Log(as_json=True)
    log.note("grace", "the lease ends in 1 s")
    log.end(Ending(Reason.LAPSED, 122, "the lease lapsed"))
    os.close(full)
    # Its thread is not to write to whoever has the number next.
    assert log._outlet.wait(PATIENCE)


def test_lost_lines_are_counted(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once somebody reads again, the line after those that waited says how many were lost."""
    monkeypatch.setattr("bootlease.leash.outlet.AT_MOST", 1)
    log = _Log(as_json=True)
    for _ in range(4):
        log.note("away", "gone")
    reader = threading.Thread(target=lambda: found.append(_read_until(full, b"the lease lapsed")))
    found: list[bytes] = []
    reader.start()
    log.end(Ending(Reason.LAPSED, 122, "the lease lapsed"))
    reader.join()
    away, lost, last = map(json.loads, found[0].lstrip(b"\0").splitlines())
    assert away["event"] == "away"
    assert (lost["event"], lost["lines"]) == ("lost", 3)
    assert lost["message"] == "lost 3 lines of this log: nobody read it"
    assert last["event"] == "ended"
    os.close(full)


def _read_until(fd: int, words: bytes) -> bytes:
    found = b""
    while words not in found or not found.endswith(b"\n"):
        found += os.read(fd, 1 << 20)
    return found
