"""A verifier, its network, relying parties and machines: real processes on software TPMs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2

from bootlease.eventlog import parse_event_log, replay
from bootlease.ima import IMA_PCR
from bootlease.model import HashAlg
from bootlease.reference import (
    DEFAULT_PCRS,
    learn,
    serialise_any_reference,
    serialise_reference,
)
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.boot_description import BootDescription
from bootlease.testing.examples import AUDIENCE, REFERENCE, SCOPE, grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import NodeOnSwtpm, booted_node
from bootlease.testing.policies import PCRS, make_policy, permit
from bootlease.testing.scene import IMA_REFERENCE, files_reference
from bootlease.testing.verifier_process import (
    COMMAND,
    VerifierProcess,
    free_port,
    run_cli,
    verifier_process,
)
from bootlease.token import parse_token
from tests.breaks.caller import Caller
from tests.breaks.network import Network

BANKS: Final = (HashAlg.SHA256,)
PATIENCE: Final = 30.0
LIFE: Final = 3
CONTINUITY: Final = 2
"""Seconds that a continuity statement counts."""

LEEWAY: Final = 1
"""Seconds by which the relying parties here let clocks differ."""

SHORT, REVOCABLE = "short", "revocable"
"""Reference sets that some machines boot after."""

_IMA: Final = {
    "quote__pcrs": str([*PCRS, IMA_PCR]),
    "ima__appraise": '"required"',
    "ima__accept": f'["{IMA_REFERENCE}"]',
    "ima__unlisted": '"refuse"',
    "ima__violations": '"refuse"',
    "ima__signatures": '"ignored"',
}
_FILES: Final = {"/usr/bin/bash": b"bash"}
"""What the IMA set lists."""

_STARTING: Final = threading.Semaphore(2)
"""Machines that start at once: there are two cores."""

_FOUNDING: Final = threading.Lock()
"""A database is made by one thread at a time: the library that migrates it is not made for more."""


def reference_of(
    boot: SimulatedBoot, *, name: str = REFERENCE, version: str = "1", not_after: int | None = None
) -> bytes:
    """Return the reference file of a boot."""
    learned = learn(
        replay(parse_event_log(boot.event_log)),
        None,
        name=name,
        version=version,
        bank=HashAlg.SHA256,
        pcrs=DEFAULT_PCRS,
        match_events=(4,),
    )
    document = json.loads(serialise_reference(learned))
    if not_after is not None:
        document["not_after"] = not_after
    return json.dumps(document).encode()


@dataclass
class Machine:
    """A node with its TPM, its agent and its workload.

    Attributes:
        folder: Its files.
        node: Its TPM and what it booted.
        caller: The workload.
        options: Further options of its agent.
        id: The node id, once it holds a lease.
    """

    folder: Path
    node: NodeOnSwtpm
    options: Sequence[str] = ()
    id: str = ""
    _caller: Caller | None = None
    _agent: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def caller(self) -> Caller:
        """Its workload, once it calls."""
        assert self._caller is not None
        return self._caller

    @property
    def token_file(self) -> Path:
        """Where its agent keeps the token."""
        return self.folder / "token"

    @property
    def key_file(self) -> Path:
        """Where its agent keeps the key."""
        return self.folder / "key.pem"

    def start(self) -> None:
        """Start its agent."""
        log = self.folder / "eventlog"
        log.write_bytes(self.node.event_log)
        arguments = [
            *("node", "run", "--bundle", str(self.folder.parent / "join.json")),
            *("--tcti", self.node.tcti, "--state", str(self.folder), "--log", str(log)),
            *("--ek-algorithm", "ecc-p256", "--scope", SCOPE, "--audience", AUDIENCE),
            *("--token-file", str(self.token_file), "--key-file", str(self.key_file)),
            *self.options,
        ]
        with (self.folder / "agent.log").open("ab") as said:
            self._agent = subprocess.Popen(
                [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def call(self, url: str) -> None:
        """Start its workload and wait until it is served."""
        self._caller = Caller(url, self.token_file, self.key_file)
        self._caller.wait_for_success(PATIENCE)
        self.id = str(parse_token(self._caller.held.token)[1].subject)

    def said(self) -> str:
        """Return what its agent said."""
        return (self.folder / "agent.log").read_text()

    def start_ima(self) -> None:
        """Let the kernel measure what is loaded from now on, a listed file first."""
        self.node.start_ima()
        self.options = (*self.options, "--ima-list", str(self.folder / "ima"))
        for path, content in _FILES.items():
            self.load(path, content)

    def load(self, path: str, content: bytes = b"another") -> None:
        """Load a file."""
        assert self.node.ima is not None
        self.node.ima.measure(path, content)
        self._show_ima()

    def violate(self) -> None:
        """Change a file while it is read."""
        assert self.node.ima is not None
        self.node.ima.violate(next(iter(_FILES)))
        self._show_ima()

    def _show_ima(self) -> None:
        assert self.node.ima is not None
        new = self.folder / "ima.new"
        new.write_bytes(self.node.ima.data)
        new.replace(self.folder / "ima")

    def clear(self) -> None:
        """Clear the TPM (TPM2_Clear), as its owner may."""
        command = ["tpm2_clear", "-c", "p", "-T", self.node.tcti]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Send its agent a signal."""
        assert self._agent is not None
        self._agent.send_signal(number)
        if number is signal.SIGKILL:
            self._agent.wait()

    def reboot(self, boot: SimulatedBoot) -> None:
        """Cut the power, boot, and let the system start its agent."""
        self.signal(signal.SIGKILL)
        self.node.boot(boot)
        self.start()

    def close(self) -> None:
        """Stop agent and workload."""
        if self._caller is not None:
            self._caller.close()
        if self._agent is not None and self._agent.poll() is None:
            self._agent.kill()
            self._agent.wait()


@dataclass
class Stage:
    """Everything that machines share.

    Attributes:
        folder: Private.
        verifier: The verifier.
        network: What lies between it and the machines.
        ca: Makes their EK certificates.
        other_ca: Makes those of another family.
        port: Where the verifier listens.
        tool: URL of the relying party that most of them call.
    """

    folder: Path
    verifier: VerifierProcess
    network: Network
    ca: LocalCA
    other_ca: LocalCA
    port: int
    tool: str = ""
    policies: int = 0
    ima: bool = False

    @contextlib.contextmanager
    def machine(
        self,
        name: str,
        *,
        description: BootDescription | None = None,
        ca: LocalCA | None = None,
        options: Sequence[str] = (),
        tool: str | None = None,
    ) -> Iterator[Machine]:
        """Run a machine that holds a lease and calls the relying party."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            with _STARTING:
                state = manufacture(folder / "tpm", ca=ca or self.ca, banks=BANKS)
                booted = booted_node(state, description or grub_description(), BANKS)
                machine = Machine(folder, stack.enter_context(booted), options)
                if self.ima:
                    machine.start_ima()
                stack.callback(machine.close)
                machine.start()
                machine.call(tool or self.tool)
            yield machine

    @contextlib.contextmanager
    def beside(self, name: str, *, ima: bool) -> Iterator[Stage]:
        """Run another verifier, with another policy."""
        folder = self.folder / f"verifier-{name}"
        folder.mkdir(mode=0o700)
        with stage(folder, ima=ima) as made:
            yield made

    @contextlib.contextmanager
    def relying_party(self, *options: str) -> Iterator[str]:
        """Run a tool server, and give its URL."""
        with self.tool_server(*options) as (url, _):
            yield url

    @contextlib.contextmanager
    def tool_server(self, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """Run a tool server, and give its URL and its process."""
        arguments = [
            *(COMMAND[0], "-m", "bootlease.testing.tool_server", "--issuer", self.verifier.url),
            *("--verifier", self.direct, "--audience", AUDIENCE, "--scope", SCOPE),
            *("--leeway", str(LEEWAY), *options),
        ]
        with (self.folder / "tool.log").open("ab") as said:
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=said)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            assert url, (self.folder / "tool.log").read_text()
            yield url, process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    @property
    def direct(self) -> str:
        """URL of the verifier for those who do not come by the nodes' network."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, body: bytes, *, media: str = "application/json", query: str = ""
    ) -> None:
        """Ask the verifier for something as its operator."""
        answer = httpx2.post(
            f"{self.direct}/v1/admin/{path}{query}",
            content=body,
            headers={
                "Authorization": f"Bearer {self.verifier.credential}",
                "Content-Type": media,
            },
            timeout=PATIENCE,
            trust_env=False,
        )
        assert answer.status_code in {200, 201}, answer.text

    def register(self, reference: bytes) -> None:
        """Register a reference set."""
        self.ask("references", reference)

    def activate(self, *, revoke_now: bool, scope: str = SCOPE) -> None:
        """Activate another policy."""
        self.policies += 1
        text = policy(scope).replace('id = "default"', f'id = "policy-{self.policies}"')
        query = "?revoke_now=1" if revoke_now else ""
        self.ask("policies", text.encode(), media="application/toml", query=query)

    @contextlib.contextmanager
    def locked_store(self) -> Iterator[None]:
        """Let nobody write to the verifier's database."""
        file = next(self.verifier.folder.glob("*.db"))
        with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE)) as held:
            held.isolation_level = None
            held.execute("BEGIN IMMEDIATE")
            yield
            held.execute("ROLLBACK")


def policy(scope: str = SCOPE, *, ima: bool = False) -> str:
    """Return the policy of a stage."""
    return make_policy(
        permit([scope]),
        **(_IMA if ima else {}),
        lease__life=str(LIFE),
        lease__continuity=str(CONTINUITY),
        lease__delegation_depth="2",
        lease__audiences=f'["{AUDIENCE}"]',
        references__accept=f'["{REFERENCE}", "{SHORT}", "{REVOCABLE}"]',
    )


@contextlib.contextmanager
def stage(folder: Path, *, ima: bool = False) -> Iterator[Stage]:
    """Run a verifier behind a network, and a relying party."""
    ca, other = LocalCA.create("Maker"), LocalCA.create("Other maker")
    port = free_port()
    golden = reference_of(simulate_boot(grub_description(), BANKS))
    with contextlib.ExitStack() as stack:
        with _FOUNDING:
            verifier = stack.enter_context(
                verifier_process(
                    folder,
                    policy=policy(ima=ima),
                    roots=ca.roots_pem + other.roots_pem,
                    references=[golden, serialise_any_reference(files_reference(_FILES))],
                    options=("--listen", f"127.0.0.1:{port}"),
                )
            )
        network = Network(int(verifier.url.rpartition(":")[2]), port)
        stack.callback(network.close)
        run_cli(
            *("verifier", "bundle", "--data", str(verifier.folder)),
            *("-o", str(folder / "join.json")),
        )
        made = Stage(folder, verifier, network, ca, other, port, ima=ima)
        made.tool = stack.enter_context(made.relying_party())
        yield made


def copy_state(machine: Machine, folder: Path) -> None:
    """Copy the agent's state of a machine: what a copy of its disk has, TPM and leases apart."""
    left_out = shutil.ignore_patterns("tpm", machine.token_file.name, machine.key_file.name)
    shutil.copytree(machine.folder, folder, ignore=left_out)
