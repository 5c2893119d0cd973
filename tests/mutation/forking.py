"""Do many things, each in a forked process of its own, so that none leaves anything behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, NoReturn, TypeVar

from tests.mutation.mutant import NOT_TRIED, TIMEOUT

Piece = TypeVar("Piece")
_RAISED: Final = 70


@dataclass(slots=True)
class _Child(Generic[Piece]):
    piece: Piece
    pid: int
    until: float
    said: list[bytes] = field(default_factory=list)


def forked(
    pieces: Iterable[Piece],
    do: Callable[[Piece], str],
    limit: Callable[[Piece], float],
    *,
    at_once: int,
) -> Iterator[tuple[Piece, str | None]]:
    """Give what ``do`` says of each piece; ``None`` where that took longer than ``limit``."""
    waiting, running = iter(pieces), dict[int, _Child[Piece]]()
    more = True
    while more or running:
        while more and len(running) < at_once:
            try:
                piece = next(waiting)
            except StopIteration:
                more = False
                break
            reader, pid = _fork(do, piece)
            running[reader] = _Child(piece, pid, time.monotonic() + limit(piece))
        for reader in select.select(list(running), [], [], 0.5)[0]:
            data = os.read(reader, 1 << 20)
            if data:
                running[reader].said.append(data)
                continue
            child = running.pop(reader)
            code = _reap(reader, child.pid, kill=False)
            yield child.piece, b"".join(child.said).decode() or _ended(code)
        now = time.monotonic()
        for reader in [each for each, child in running.items() if child.until < now]:
            child = running.pop(reader)
            _reap(reader, child.pid, kill=True)
            yield child.piece, None


def _ended(code: int) -> str:
    # By a timer of its own, or for want of memory; else it is our own failure.
    return TIMEOUT if code < 0 else NOT_TRIED


def _fork(do: Callable[[Piece], str], piece: Piece) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _work(do, piece, writer)
    os.close(writer)
    return reader, pid


def _work(do: Callable[[Piece], str], piece: Piece, writer: int) -> NoReturn:
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(quiet, each)
        answer = do(piece).encode()
        while answer:
            answer = answer[os.write(writer, answer) :]
    except BaseException:  # noqa: BLE001 - whatever was raised, the parent is not to go on here
        os._exit(_RAISED)
    os._exit(0)


def _reap(reader: int, pid: int, *, kill: bool) -> int:
    os.close(reader)
    if kill:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):  # what its tests left behind
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)
