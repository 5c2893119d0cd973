"""Writing that waits for no reader."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.leash import outlet as outlet_module
from bootlease.leash.outlet import Outlet

LINE = b"x" * 99 + b"\n"
PATIENCE = 30


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe without room; its writers wait."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(write, bytes(size))
        except BlockingIOError:
            continue
    os.set_blocking(write, True)
    yield read, write
    for end in (read, write):
        os.close(end)


def read_until(fd: int, end: bytes) -> bytes:
    """Read until what was read ends so."""
    found = b""
    while not found.endswith(end):
        found += os.read(fd, 1 << 20)
    return found


def test_who_writes_into_a_full_pipe_goes_on(pipe: tuple[int, int]) -> None:
    """A text that nobody reads waits, and not who wrote it; once somebody reads, all come whole."""
    read, write = pipe
    outlet = Outlet(write)
    assert outlet.write(LINE)
    assert outlet.write(b"last\n")
    assert not outlet.wait(0.01)
    assert read_until(read, b"last\n").lstrip(b"\0") == LINE + b"last\n"


def test_texts_that_wait_are_bounded(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound nothing is taken, but what is said to be the last."""
    monkeypatch.setattr(outlet_module, "AT_MOST", 2)
    read, write = pipe
    outlet = Outlet(write)
    assert [outlet.write(LINE) for _ in range(3)] == [True, True, False]
    assert outlet.write(b"last\n", last=True)
    assert read_until(read, b"last\n").count(LINE) == 2


def test_there_is_room_again_once_it_was_read(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written does not count any more."""
    monkeypatch.setattr(outlet_module, "AT_MOST", 1)
    read, write = pipe
    outlet = Outlet(write)
    assert outlet.write(LINE)
    read_until(read, LINE)
    assert outlet.wait(PATIENCE)
    assert outlet.write(LINE)
    read_until(read, LINE)


def test_pipe_that_others_made_not_to_wait(pipe: tuple[int, int]) -> None:
    """Where who shares the end has set O_NONBLOCK, a text waits for room all the same."""
    read, write = pipe
    os.set_blocking(write, False)
    outlet = Outlet(write)
    outlet.write(LINE)
    assert not outlet.wait(0.05)
    assert read_until(read, LINE).endswith(LINE)
    assert not os.get_blocking(write)


def test_pipe_without_a_reader() -> None:
    """What nobody can read any more is done with."""
    read, write = os.pipe()
    os.close(read)
    outlet = Outlet(write)
    outlet.write(LINE)
    outlet.write(LINE)
    assert outlet.wait(PATIENCE)
    os.close(write)


def test_nothing_written() -> None:
    """Where nothing was written there is neither a thread nor anything to wait for."""
    before = threading.active_count()
    assert Outlet(2).wait(PATIENCE)
    assert threading.active_count() == before


def test_no_thread_to_be_had(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system lets no thread begin, a text is not taken; once it does, the next is."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    outlet = Outlet(pipe[1])
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fail)
        assert not outlet.write(LINE)
        assert outlet.wait(PATIENCE)
    assert outlet.write(LINE)
    read_until(pipe[0], LINE)


def test_file(tmp_path: Path) -> None:
    """A file is written where its descriptor stands, in order."""
    with (tmp_path / "log").open("wb+", buffering=0) as file:
        file.write(b"before\n")
        outlet = Outlet(file.fileno())
        outlet.write(LINE)
        outlet.write(b"after\n")
        assert outlet.wait(PATIENCE)
    assert (tmp_path / "log").read_bytes() == b"before\n" + LINE + b"after\n"
