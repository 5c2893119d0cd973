"""Nodes whose agents serve workloads, and workloads on leashes: real processes, watched."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootlease.errors import BootleaseError
from bootlease.localapi import Ended, Granted
from bootlease.testing.examples import AUDIENCE, SCOPE, grub_description
from bootlease.testing.leashed import Leashed, lease_end
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import booted_node
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.testing.treewatch import TreeWatch, boottime
from bootlease.testing.verifier_process import COMMAND
from bootlease.token import parse_token
from bootlease.token.base64url import decode
from bootlease.workload import AgentGoneError, WorkloadClient
from tests.breaks.stage import BANKS, PATIENCE, Machine, Stage, stage

LONG: Final = 600.0
"""Life of a scripted lease while its tree grows."""

_STARTING: Final = threading.Semaphore(2)

_CONFIG: Final = """\
schema = 1

[node]
state = "{folder}"
tcti = "{tcti}"
log = "{folder}/eventlog"
ek_algorithm = "ecc-p256"

[verifier]
bundle = "{bundle}"

[api]
socket = "{socket}"

[[workload]]
name = "tree"
uid = [{uid}]
scope = ["{scope}"]
audience = ["{audience}"]
confirmation = ["process", "own"]
level = 2
"""


class Lookout:
    """Hears of a lease what its guard hears.

    Args:
        socket: The agent's.
        handle: The lease's.
    """

    def __init__(self, socket: Path, handle: str) -> None:
        self.heard: list[tuple[float, Granted | Ended]] = []
        self._stream = WorkloadClient(socket).events(handle)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def last(self, before: float) -> Granted:
        """Return the last lease that was told before a time (CLOCK_BOOTTIME)."""
        return [each for at, each in self.heard if at < before and isinstance(each, Granted)][-1]

    def end(self) -> float:
        """Return when the lease is over, by all that was told."""
        return lease_end(self.last(float("inf")))

    def _listen(self) -> None:
        with contextlib.suppress(AgentGoneError), self._stream:
            for event in self._stream:
                if isinstance(event, Granted | Ended):
                    self.heard.append((boottime(), event))


@dataclass
class Node(Machine):
    """A machine whose agent serves workloads."""

    @property
    def socket(self) -> Path:
        """Where its agent listens."""
        return self.folder / "api"

    def start(self) -> None:
        """Start its agent."""
        (self.folder / "eventlog").write_bytes(self.node.event_log)
        config = self.folder / "agent.toml"
        config.write_text(
            _CONFIG.format(
                folder=self.folder,
                tcti=self.node.tcti,
                bundle=self.folder.parent / "join.json",
                socket=self.socket,
                scope=SCOPE,
                audience=AUDIENCE,
                uid=os.getuid(),
            )
        )
        with (self.folder / "agent.log").open("ab") as said:
            self._agent = subprocess.Popen(
                [*COMMAND, "node", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def wait_until_serving(self) -> None:
        """Wait until its agent answers.

        Raises:
            AssertionError: It does not.
        """
        wait_until(self._serves, f"the agent of {self.folder.name}")

    def _serves(self) -> bool:
        try:
            WorkloadClient(self.socket).info()
        except (BootleaseError, OSError):
            return False
        return True


@dataclass
class NodeStage:
    """What the rows of the node share.

    Attributes:
        folder: Private; its name is short, for there are sockets in it.
        verifier: A verifier behind its network; None where nothing real is needed.
        watch: Sees every tree.
    """

    folder: Path
    verifier: Stage | None
    watch: TreeWatch
    _shared: Node | None = None
    _sharing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    @property
    def real(self) -> Stage:
        """The verifier."""
        assert self.verifier is not None
        return self.verifier

    @contextlib.contextmanager
    def node(self, name: str) -> Iterator[Node]:
        """Run a machine with its agent."""
        folder = self.real.folder / name
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            with _STARTING:
                state = manufacture(folder / "tpm", ca=self.real.ca, banks=BANKS)
                booted = booted_node(state, grub_description(), BANKS)
                machine = Node(folder, stack.enter_context(booted))
                stack.callback(machine.close)
                machine.start()
                machine.wait_until_serving()
            yield machine

    def shared(self) -> Node:
        """Return a machine that rows use which leave it alone."""
        with self._sharing:
            if self._shared is None:
                self._shared = self._stack.enter_context(self.node("shared"))
            return self._shared

    def folder_of(self, name: str) -> Path:
        """Make a folder for what a row needs beside its tree."""
        folder = self.folder / f"{name}.d"
        folder.mkdir(mode=0o755)
        return folder

    @contextlib.contextmanager
    def tree(self, node: Node, name: str, *kinds: str) -> Iterator[tuple[Leashed, Lookout]]:
        """Grow a tree on a leash under a lease of a real agent."""
        with Leashed.grow(self.watch, self.folder / name, node.socket, kinds) as tree:
            lookout = Lookout(node.socket, tree.handle())
            wait_until(lambda: bool(lookout.heard), "word of the lease")
            granted = lookout.last(float("inf"))
            node.id = str(parse_token(decode(granted.token))[1].subject)
            yield tree, lookout

    @contextlib.contextmanager
    def scripted(
        self,
        name: str,
        *kinds: str,
        options: Sequence[str] = (),
        entering: Callable[[Sequence[str]], Sequence[str]] = list,
        environment: Mapping[str, str] | None = None,
        life: float = LONG,
    ) -> Iterator[tuple[Leashed, ScriptedAgent]]:
        """Grow a tree on a leash under a lease of a scripted agent."""
        with ScriptedAgent(self.folder / f"{name}.api", life=life) as agent:
            tree = Leashed.grow(
                self.watch,
                self.folder / name,
                agent.path,
                kinds,
                options=options,
                entering=entering,
                environment=environment,
            )
            with tree:
                yield tree, agent

    def close(self) -> None:
        """Stop the shared machine."""
        self._stack.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It never was.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)


@contextlib.contextmanager
def node_stage(folder: Path, *, real: bool = True) -> Iterator[NodeStage]:
    """Run what the rows of the node share.

    Args:
        folder: Private; with a short name.
        real: Whether there is a verifier.
    """
    with contextlib.ExitStack() as stack:
        verifier = None
        if real:
            (folder / "v").mkdir(mode=0o700)
            verifier = stack.enter_context(stage(folder / "v"))
        watch = stack.enter_context(TreeWatch(f"breaks-{secrets.token_hex(4)}-"))
        made = NodeStage(folder, verifier, watch)
        stack.callback(made.close)
        yield made


def shorten(agent: ScriptedAgent, seconds: float) -> float:
    """Renew the scripted lease for ``seconds``, let the agent die, and return the lease's end."""
    agent.grant(seconds)
    (granted,) = agent.standing.values()
    end = lease_end(granted)
    # What was sent must be read before the connection is seen to be closed; it is, in any order.
    agent.die()
    return end
