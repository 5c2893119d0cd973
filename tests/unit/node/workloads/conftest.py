"""The Workload API on a real socket, with an agent's core that grants when told to."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bootlease.node.clock import SystemClock
from bootlease.node.workloads import Rule, Rules, ServerSettings, WorkloadServer
from bootlease.node.workloads.limits import Limits
from bootlease.testing.granting import GrantingAgent
from bootlease.workload import WorkloadClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AUDIENCE = "https://tools.example"


def rule(name: str = "all", **changes: Any) -> Rule:
    """Return a rule for processes of this user."""
    members: dict[str, Any] = {
        "scope": ("tool:*",),
        "audience": (AUDIENCE,),
        "uids": frozenset({os.geteuid()}),
        **changes,
    }
    return Rule(name, **members)


def wait_until(what: Callable[[], bool], timeout: float = 5.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


@dataclass
class API:
    """A server, its core, and what it said."""

    server: WorkloadServer
    core: GrantingAgent
    path: Path
    said: list[str] = field(default_factory=list)

    @property
    def client(self) -> WorkloadClient:
        """A client in this process."""
        return WorkloadClient(self.path, timeout=3)

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes, and return all that comes."""
        with self.connection() as connection:
            # Who is hung up on at once may notice while it still sends.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            return drain(connection)

    def connection(self) -> socket.socket:
        """Connect, and say nothing."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(self.path))
        return connection

    def names(self) -> list[str]:
        """Return the names of the events that were said."""
        return [getattr(line, "name", "") for line in self.said]


def drain(connection: socket.socket) -> bytes:
    """Read until the end."""
    come = b""
    try:
        while data := connection.recv(65536):
            come += data
    except ConnectionResetError:
        pass
    return come


def finding_ids(answer: bytes) -> list[str]:
    """Return the findings of a problem document in an HTTP answer."""
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    return [finding["id"] for finding in body["findings"]]


OTHER_USER = 12345

_AS_OTHER_USER = f"""
import ctypes, os, sys
from bootlease.errors import VerificationError
from bootlease.workload import WorkloadClient
os.setgroups([])
os.setgid({OTHER_USER})
os.setuid({OTHER_USER})
client = WorkloadClient(sys.argv[1])

def ids(call):
    try:
        call()
    except VerificationError as exc:
        print(*[finding.id for finding in exc.findings])
"""


def run_as_other_user(path: Path, script: str, *arguments: str) -> list[str]:
    """Run a client as another user, who need not be able to read this project; return its words."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_OTHER_USER + script, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def serve() -> Iterator[Callable[..., API]]:
    """Start servers with rules and limits."""
    started: list[WorkloadServer] = []
    # Apart from pytest's own folders, which it closes to the other users that some tests are.
    folder = Path(tempfile.mkdtemp(prefix="bootlease-"))
    folder.chmod(0o755)

    def start(*rules: Rule, **limits: Any) -> API:
        clock, said = SystemClock(), list[str]()
        core = GrantingAgent(clock)
        path = folder / f"socket-{len(started)}"
        server = WorkloadServer(
            ServerSettings("https://verifier.example", path, limits=Limits(**limits)),
            Rules(rules or (rule(),)),
            core.wishes,
            clock,
            said.append,
        )
        core.output = server
        server.start()
        started.append(server)
        return API(server, core, path, said)

    yield start
    for server in started:
        server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def api(serve: Callable[..., API]) -> API:
    """A server that permits this user ``tool:*``."""
    return serve()
