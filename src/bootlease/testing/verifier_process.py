"""A real verifier process for tests: private folder, free port, nothing left behind.

Used by the pytest fixture ``verifier``; it runs ``bootlease verifier`` as a user would.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError
from bootlease.node.bundle import JoinBundle, parse_bundle

COMMAND: Final = (sys.executable, "-c", "from bootlease.cli import main; main()")
"""How to run the ``bootlease`` of this very interpreter, installed or not."""
_UNHURRIED: Final = ("--grants-per-life", "1000000")
"""Nodes of tests and benchmarks renew as fast as they can."""
_READY: Final = b"listening on "
_START_TIME: Final = 30.0
_STOP_TIME: Final = 15.0
_MAX_LOG: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class VerifierProcess:
    """A verifier that can be started, killed and started again.

    Attributes:
        folder: Its data folder.
        url: Where it listens; also its issuer.
        credential: The admin credential.
        options: Further options of ``verifier serve``; they win over ours.
        environment: What its process has in its environment beside ours.
        command: What it is run with.
    """

    folder: Path
    url: str
    credential: str
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = COMMAND
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Process id of the running verifier."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it has logged so far, over all its starts."""
        data = (self.folder.parent / "verifier.log").read_bytes()
        return data[-_MAX_LOG:].decode(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            TransportError: It did not start.
        """
        listen = self.url.partition("://")[2]
        command = [
            *self.command,
            "verifier",
            "serve",
            "--data",
            str(self.folder),
            "--listen",
            listen,
        ]
        log = (self.folder.parent / "verifier.log").open("ab")
        with log:
            start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, *_UNHURRIED, *self.options],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + _START_TIME
        while _READY not in (self.folder.parent / "verifier.log").read_bytes()[start:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise TransportError(f"the verifier did not start: {self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop it with SIGTERM and return its exit code."""
        process, self._process = self._running(), None
        process.terminate()
        try:
            return process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def join_bundle(self, *options: str) -> JoinBundle:
        """Return the bundle that a node enrols with."""
        written = run_cli("verifier", "bundle", "--data", str(self.folder), "-o", "-", *options)
        return parse_bundle(written)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the verifier does not run")
        return self._process


def run_cli(*arguments: str) -> bytes:
    """Run ``bootlease`` and return what it printed.

    Raises:
        TransportError: It failed.
    """
    done = subprocess.run(  # noqa: S603 - our own program
        [*COMMAND, *arguments], capture_output=True, check=False, timeout=_START_TIME
    )
    if done.returncode:
        raise TransportError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def verifier_process(
    parent: Path,
    *,
    policy: str,
    roots: bytes,
    references: Sequence[bytes] = (),
    options: Sequence[str] = (),
    scheme: str = "http",
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
    prepare: Callable[[], None] | None = None,
) -> Iterator[VerifierProcess]:
    """Run a verifier.

    Args:
        parent: A private folder; the verifier's own is made in it.
        policy: Its first policy, TOML.
        roots: PEM of the EK roots.
        references: Reference files.
        options: Further options of ``verifier serve``.
        scheme: Of its URL.
        environment: What its process has in its environment beside ours.
        command: What it is run with, after it was set up.
        prepare: Called once its folder is made, before it starts.
    """
    (parent / "policy.toml").write_text(policy)
    (parent / "roots.pem").write_bytes(roots)
    # In this process: a new one would first import for a second what is imported here.
    from bootlease.store import SQLStore  # noqa: PLC0415 - see above
    from bootlease.verifier.setup import Founding, found  # noqa: PLC0415 - see above

    folder, url = parent / "verifier", f"{scheme}://127.0.0.1:{free_port()}"
    founding = Founding(url, policy.encode(), (roots,), references)
    credential = found(folder, founding, SQLStore.open)
    verifier = VerifierProcess(folder, url, credential, options, environment or {}, command)
    if prepare is not None:
        prepare()
    try:
        verifier.start()
        yield verifier
    finally:
        verifier.kill()
