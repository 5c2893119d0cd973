"""Work shared out among processes: each task is performed by one that knows nothing of the others.

Results come in the order of the tasks, so that neither their number nor their speed shows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Final, TypeVar

from bootlease.cli.exits import ExitCode

Ground = TypeVar("Ground")
Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD: Final = 4
"""Tasks that wait for each process; results are put together as they come, and none pile up."""


def perform(
    employ: Callable[[Ground], AbstractContextManager[Callable[[Task], Result]]],
    ground: Ground,
    tasks: Sequence[Task],
    workers: int,
) -> Iterator[Result]:
    """Yield what each task came to, in their order.

    Args:
        employ: Lends what performs tasks; a function of a module, called once in each process.
        ground: What every process is told.
        tasks: The tasks; they and their results pass between processes.
        workers: Processes; 1 for this one alone.
    """
    if workers == 1:
        with employ(ground) as work:
            yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (employ, ground)) as pool:
        coming = iter(tasks)
        waiting = [_submit(pool, task) for task in islice(coming, _AHEAD * workers)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [_submit(pool, task) for task in islice(coming, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, task: object) -> Future[Any]:
    # A terminal's Ctrl-C goes to every process. The pool's, which may start here, inherit that it
    # is held back: the first process ends them, and they need not say how they were interrupted.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_work, task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process:
    """What a process of the pool keeps between tasks."""

    work: Callable[[Any], Any] | None = None
    kept = contextlib.ExitStack()


def _begin(
    employ: Callable[[Any], AbstractContextManager[Callable[[Any], Any]]], ground: object
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Process.work = _Process.kept.enter_context(employ(ground))


def _end_with_parent() -> None:
    # Killed, the first process ends nobody, and the others would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(ExitCode.TERMINATED)


def _work(task: object) -> object:
    if _Process.work is None:
        raise RuntimeError("a process works before it has begun")
    return _Process.work(task)
