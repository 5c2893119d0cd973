"""Writing where a reader may be slow, without ever waiting for one.

Standard error is shared, with the workload first of all. Whoever has it can make a write to it wait
for as long as he likes: one that is not to block, too, and one that SIGKILL does not reach, where
he writes to it from a file system of his own that keeps the kernel, and with it the pipe's lock,
waiting. So a thread writes. The others of a process, and the kernel's signals to it, are not held
up by what holds up that thread.
"""

from __future__ import annotations

import os
import select
import threading
from queue import SimpleQueue
from typing import Final

AT_MOST: Final = 64
"""Texts that may wait to be written."""


class Outlet:
    """A descriptor that is written to by a thread.

    Args:
        fd: The descriptor, which stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._running = False
        self._taken = 0
        self._done = 0

    def start(self) -> bool:
        """Begin, as the first text does otherwise; tell whether the system lets a thread begin."""
        if not self._running:
            try:
                threading.Thread(target=self._run, name="log", daemon=True).start()
            except RuntimeError:
                return False
            self._running = True
        return True

    def write(self, text: bytes, *, last: bool = False) -> bool:
        """Have a text written as soon as there is room; tell whether it will be.

        Args:
            text: To be written as a whole, unless somebody else writes to the same end meanwhile.
            last: Take it however much waits.
        """
        full = self._taken - self._done >= AT_MOST
        if (full and not last) or not self.start():
            return False
        self._taken += 1
        self._queue.put(text)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until all is written, or cannot be; tell whether that came about in time."""
        if not self._running:
            return True
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(seconds)

    def _run(self) -> None:
        while True:
            each = self._queue.get()
            if isinstance(each, threading.Event):
                each.set()
                continue
            try:
                self._write(each)
            except OSError:
                # Nobody will ever read it.
                pass
            finally:
                self._done += 1

    def _write(self, text: bytes) -> None:
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        while text:
            try:
                text = text[os.write(self._fd, text) :]
            except BlockingIOError:
                # O_NONBLOCK belongs to the open file: the workload may have set it.
                room.poll()
