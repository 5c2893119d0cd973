"""What a node's agent costs: CPU and memory with 0, 1 and many workloads, all on one quote.

Real parts: the agent as a service in a process of its own, a software TPM, a verifier process with
its ledger on SQLite, workloads that hold a stream of the Workload API each. This process is the
workloads. A renewal is counted where a workload is told of it; the quotes are those that the agent
counts in its metrics. CPU time is the agent's whole process over the renewals counted.

    python bench/agent_workloads.py [--workloads 0,1,100] [--renewals 10] [--life 6] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bootlease.errors import BootleaseError
from bootlease.eventlog import parse_event_log, replay
from bootlease.localapi import Granted
from bootlease.model import HashAlg
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.reference import DEFAULT_PCRS, learn, serialise_reference
from bootlease.testing.examples import AUDIENCE, REFERENCE, SCOPE, grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.manufacture import manufacture
from bootlease.testing.node_on_swtpm import NodeOnSwtpm, booted_node
from bootlease.testing.policies import make_policy, permit
from bootlease.testing.verifier_process import COMMAND, run_cli, verifier_process
from bootlease.workload import AgentGoneError, LeaseStream, WorkloadClient

PATIENCE = 60.0
SETTLING = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")
_COUNT = re.compile(r"^bootlease_agent_quote_seconds_(count|sum) (\S+)$", re.MULTILINE)
_CONFIG = """\
schema = 1
[verifier]
bundle = "{folder}/join.json"
[node]
tcti = "{tcti}"
state = "{folder}/state"
log = "{folder}/log"
ek_algorithm = "ecc-p256"
[api]
socket = "{folder}/api"
[metrics]
listen = "{folder}/metrics"
[[workload]]
name = "bench"
uid = [{uid}]
scope = ["{scope}"]
audience = ["{audience}"]
leases = 250
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with one number of workloads."""

    workloads: int
    renewals: int
    quotes: int
    cpu_per_quote: float | None
    cpu_share: float
    quote_seconds: float
    pss: int
    rss: int


class Agent:
    """The agent's process, as the system and its own metrics see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*COMMAND, "node", "run", "--config", f"{folder}/agent.toml"], stderr=log
            )

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)

    def client(self) -> WorkloadClient:
        """Return a client of its API, which answers."""
        client = WorkloadClient(self._folder / "api", timeout=PATIENCE)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                client.info()
            except BootleaseError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return client

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self, kind: str) -> int:
        """Return its memory in kB, as ``/proc/PID/smaps_rollup`` has it under ``kind``."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        found = re.search(rf"^{kind}:\s+(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def quotes(self) -> tuple[int, float]:
        """Return how many quotes it has made, and how long they took together."""
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.settimeout(PATIENCE)
            scraper.connect(str(self._folder / "metrics"))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = b""
            while data := scraper.recv(65536):
                answer += data
        found = dict(_COUNT.findall(answer.decode()))
        return int(found["count"]), float(found["sum"])


def measure(agent: Agent, workloads: int, renewals: int, life: int) -> Figures:
    """Let ``workloads`` hold leases for so many renewals."""
    with contextlib.ExitStack() as stack:
        client = agent.client()
        streams = [stack.enter_context(_opened(client)) for _ in range(workloads)]
        _wait_for(streams, 1)
        time.sleep(SETTLING)
        for stream in streams:
            stream.receive()
        began, cpu, (quotes, spent) = time.monotonic(), agent.cpu(), agent.quotes()
        if streams:
            told = _wait_for(streams, renewals)
        else:
            time.sleep(renewals * life / 3)
            told = 0
        cpu, (after, taken) = agent.cpu() - cpu, agent.quotes()
        made = after - quotes
        return Figures(
            workloads,
            told,
            made,
            cpu / made if made else None,
            cpu / (time.monotonic() - began),
            (taken - spent) / max(made, 1),
            agent.memory("Pss"),
            agent.memory("Rss"),
        )


def _opened(client: WorkloadClient) -> LeaseStream:
    """Open a lease, as fast as the agent lets one."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return client.lease([SCOPE], AUDIENCE)
        except AgentGoneError as exc:
            if exc.retry_after is None or time.monotonic() > end:
                raise
            time.sleep(exc.retry_after)


def _wait_for(streams: list[LeaseStream], grants: int) -> int:
    """Wait until each was granted so often; return how often all were, together."""
    counts = [0] * len(streams)
    end = time.monotonic() + PATIENCE + grants * PATIENCE
    while min(counts, default=grants) < grants:
        if time.monotonic() > end:
            raise TimeoutError("the renewals do not come")
        for place, stream in enumerate(streams):
            counts[place] += sum(isinstance(event, Granted) for event in stream.receive())
        time.sleep(0.05)
    return sum(counts)


@contextlib.contextmanager
def site(folder: Path, life: int) -> Iterator[NodeOnSwtpm]:
    """Run a verifier, and a node that has booted; the agent's files are in ``folder``."""
    ca = LocalCA.create()
    state = manufacture(folder / "tpm", ca=ca, ek_algorithms=(EKAlgorithm.ECC_P256,))
    policy = make_policy(
        permit([SCOPE]),
        lease__life=str(life),
        lease__max_leases="250",
        lease__audiences=f'["{AUDIENCE}"]',
        references__accept=f'["{REFERENCE}"]',
        quote__unsafe_clock='"note"',
    )
    with booted_node(state, grub_description(), (HashAlg.SHA256,)) as node:
        learned = learn(
            *(replay(parse_event_log(node.event_log)), None),
            name=REFERENCE,
            version="1",
            bank=HashAlg.SHA256,
            pcrs=DEFAULT_PCRS,
            match_events=(4,),
        )
        home = folder / "verifier"
        home.mkdir(mode=0o700)
        reference = serialise_reference(learned)
        with verifier_process(
            home, policy=policy, roots=ca.roots_pem, references=[reference]
        ) as verifier:
            (folder / "log").write_bytes(node.event_log)
            (folder / "join.json").write_bytes(
                run_cli("verifier", "bundle", "--data", str(verifier.folder), "-o", "-")
            )
            (folder / "agent.toml").write_text(
                _CONFIG.format(
                    folder=folder,
                    tcti=node.tcti,
                    uid=os.getuid(),
                    scope=SCOPE,
                    audience=AUDIENCE,
                )
            )
            yield node


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default="0,1,100")
    parser.add_argument("--renewals", type=int, default=10)
    parser.add_argument("--life", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = [int(each) for each in options.workloads.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="blw"))
    found = []
    try:
        with site(folder, options.life):
            for size in sizes:
                # Each on an agent of its own: what memory once grew to says nothing of fewer.
                agent = Agent(folder)
                try:
                    found.append(measure(agent, size, options.renewals, options.life))
                finally:
                    agent.stop()
    except TimeoutError:
        sys.stderr.write((folder / "agent.log").read_text()[-4000:])
        raise
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return
    print("workloads  renewals told  quotes  CPU a quote  CPU share  TPM and logs  PSS       RSS")
    for each in found:
        cpu = "-" if each.cpu_per_quote is None else f"{each.cpu_per_quote * 1000:.1f} ms"
        print(
            f"{each.workloads:9}  {each.renewals:13}  {each.quotes:6}  {cpu:>11}"
            f"  {each.cpu_share:9.3%}  {each.quote_seconds * 1000:9.1f} ms"
            f"  {each.pss / 1024:5.1f} MB  {each.rss / 1024:5.1f} MB"
        )


if __name__ == "__main__":
    main()
