"""``bootlease demo``: the whole story on simulated TPMs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

import click

from bootlease.cli.exits import ExitCode
from bootlease.errors import TransportError

_SIGNALS: Final = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.HUNG_UP,
}


class _InterruptedError(Exception):
    """A signal asked to stop."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__()
        self.code = code


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    # Cleaning up is not to be interrupted by a second, impatient signal.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise _InterruptedError(_SIGNALS[signal.Signals(number)])


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn signals within the block into an exception, by which everything is cleaned up."""
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    try:
        for each, handler in before.items():
            # nohup(1) ignores SIGHUP on purpose.
            if handler is not signal.SIG_IGN:
                signal.signal(each, _interrupt)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@click.command(short_help="Play the whole story on two simulated TPMs.")
def demo() -> int:
    """Play the main job on two simulated TPMs, from enrolment to refusal.

    Needs swtpm and the extra ``bootlease[node]``. Takes about half a minute, uses a private folder
    and a free port, and leaves nothing behind, also when it is interrupted: 130 Ctrl-C, 143
    SIGTERM, 129 SIGHUP.
    """
    try:
        from bootlease.testing.demo import run_demo  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        raise TransportError(f"the demo needs the extra bootlease[node]: {exc}") from exc
    try:
        with _interruptible():
            run_demo()
    except _InterruptedError as exc:
        # A terminal that hung up reads nothing any more.
        with contextlib.suppress(OSError):
            click.echo("bootlease: interrupted; everything is stopped and removed", err=True)
        return exc.code
    return ExitCode.ACCEPTED
