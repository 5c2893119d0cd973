"""A real witness process for tests: it runs ``bootlease ledger witness`` as a user would."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError
from bootlease.testing.verifier_process import COMMAND, free_port, run_cli

_READY: Final = b"listening on "
_START_TIME: Final = 30.0
_STOP_TIME: Final = 15.0


@dataclass(slots=True)
class WitnessProcess:
    """A witness that can be started, killed and started again.

    Attributes:
        folder: Its data folder.
        url: Where it listens.
        vkeys: Its verifier keys.
        logs: Keys of the logs that it cosigns.
    """

    folder: Path
    url: str
    vkeys: Sequence[str]
    logs: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def option(self) -> str:
        """Value of ``--witness`` for a verifier."""
        return f"{self.vkeys[0]}={self.url}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            TransportError: It did not start.
        """
        bind = self.url.partition("://")[2]
        command = [*COMMAND, *("ledger", "witness", "serve", "--data", str(self.folder))]
        logs = [part for log in self.logs for part in ("--log", log)]
        path = self.folder.with_name(f"{self.folder.name}.log")
        with path.open("ab") as log:
            start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, *logs, "--bind", bind], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + _START_TIME
        while _READY not in path.read_bytes()[start:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise TransportError(f"the witness did not start: {path.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop it with SIGTERM and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("the witness does not run")
        process.terminate()
        return process.wait(_STOP_TIME)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


@contextmanager
def witness_process(
    parent: Path, name: str, logs: Sequence[str], *options: str
) -> Iterator[WitnessProcess]:
    """Make a witness, and end it whatever happens; it is started by whoever uses it.

    Args:
        parent: A private folder; the witness's own is made in it.
        name: Its name.
        logs: Keys of the logs that it cosigns.
        options: Further options of ``ledger witness init``.
    """
    folder = parent / name.rpartition("/")[2]
    made = run_cli(
        *("ledger", "witness", "init", "--data", str(folder), "--name", name, "--json"), *options
    )
    url = f"http://127.0.0.1:{free_port()}"
    witness = WitnessProcess(folder, url, json.loads(made)["vkeys"], logs)
    try:
        yield witness
    finally:
        witness.kill()
