"""What wakes the agent's worker between two renewals."""

from __future__ import annotations

import threading


class Wakeup:
    """Wakes one thread that waits; any other may."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notified = False
        self._hurried = False

    def notify(self) -> None:
        """Tell that there may be something to do."""
        with self._changed:
            self._notified = True
            self._changed.notify_all()

    def hurry(self) -> None:
        """Tell that it is to be done at once, without waiting for more."""
        with self._changed:
            self._notified = self._hurried = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for a notice, or take one since the last call; tell whether there was one."""
        with self._changed:
            notified = self._changed.wait_for(lambda: self._notified, timeout=max(0.0, seconds))
            self._notified = False
            return notified

    def hurried(self, seconds: float = 0.0) -> bool:
        """Wait for a hurry alone; tell whether there was one since the last that was told."""
        with self._changed:
            hurried = self._changed.wait_for(lambda: self._hurried, timeout=max(0.0, seconds))
            self._hurried = False
            return hurried
