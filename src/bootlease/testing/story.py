"""Telling a demonstration: numbered steps with times, and commands as a person would type them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from bootlease.errors import TransportError

_WIDTH: Final = 96
_STOP_SECONDS: Final = 10
_REFUSED: Final = 1
"""Exit code of a command that refuses."""
_END_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "TERM", "--")
"""Children must not outlive the demonstration, however it ends."""


class Story:
    """Prints what happens while it happens.

    Args:
        folder: The private folder that paths are shortened by.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = time.monotonic()
        self._step = 0

    def step(self, text: str) -> None:
        """Begin the next step."""
        self._step += 1
        elapsed = time.monotonic() - self._started
        self._print(f"\n[{elapsed:5.1f} s] {self._step}. {text}")

    def tell(self, text: str) -> None:
        """Say one thing that happened."""
        short = text.replace(f"{self._folder}/", "")
        wrapped = textwrap.wrap(short, _WIDTH - 12, break_long_words=False, break_on_hyphens=False)
        for line in wrapped:
            self._print(f"            {line}")

    def command(self, arguments: Sequence[str]) -> None:
        """Show a command as it would be typed."""
        self.tell("$ bootlease " + " ".join(arguments))

    @staticmethod
    def _print(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def run_command(story: Story, *arguments: str, show: bool = True) -> str:
    """Run ``bootlease`` to its end and return its standard output.

    Raises:
        TransportError: It failed; the demonstration cannot go on.
    """
    if show:
        story.command(arguments)
    done = _run(arguments)
    if done.returncode != 0:
        raise TransportError(f"bootlease {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def run_refused(story: Story, *arguments: str) -> str:
    """Run a ``bootlease`` that must refuse, and return what it said: its standard error.

    Raises:
        TransportError: It did not refuse; the demonstration cannot go on.
    """
    story.command(arguments)
    done = _run(arguments)
    if done.returncode != _REFUSED:
        raise TransportError(
            f"bootlease {arguments[0]} did not refuse, but ended with {done.returncode}"
        )
    return done.stderr


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command line
        [*_END_WITH_PARENT, sys.executable, "-m", "bootlease", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Service:
    """A running child process whose lines can be waited for.

    Args:
        process: The child; its stdout and stderr are one pipe.
        name: What it is, for errors.
    """

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process = process
        self._name = name
        self._lines: list[str] = []
        self._news = threading.Condition()
        if process.stdout is None:
            raise ValueError("a service needs its output piped")
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, wanted: str, *, seconds: float, after: int = 0) -> tuple[str, int]:
        """Return the first line that contains ``wanted``, and how many lines came before its end.

        Args:
            wanted: Text to look for.
            seconds: How long to wait.
            after: Lines to pass over: what an earlier wait returned.

        Raises:
            TransportError: The line did not come, or the child ended.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for number in range(after, len(self._lines)):
                    if wanted in self._lines[number]:
                        return self._lines[number], number + 1
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    said = " / ".join(self._lines[-3:]) or "nothing"
                    raise TransportError(f"the {self._name} did not say {wanted!r}; it said {said}")
                self._news.wait(min(left, 0.2))

    def lines(self, wanted: str, *, after: int = 0) -> list[str]:
        """Return the lines so far that contain ``wanted``."""
        with self._news:
            return [line for line in self._lines[after:] if wanted in line]

    def stop(self) -> None:
        """End the child: SIGTERM, and SIGKILL for one that does not listen."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(_STOP_SECONDS)


@contextlib.contextmanager
def service(
    name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Run ``python -m module arguments`` for the length of a block.

    Args:
        name: What it is, for errors.
        module: The program.
        arguments: Its arguments.
        environment: What it has in its environment beside ours.
    """
    command = [*_END_WITH_PARENT, sys.executable, "-m", module, *arguments]
    with subprocess.Popen(  # noqa: S603 - our own command line
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        running = Service(process, name)
        try:
            yield running
        finally:
            running.stop()


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait until ``condition`` holds and return how long that took.

    Raises:
        TransportError: It did not hold in time.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TransportError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - started
