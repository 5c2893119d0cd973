"""Renewals over HTTP, durable: rate, latency and size, one verifier process on SQLite.

The verifier runs in a process of its own; this one is the load: software TPMs that sign real
quotes, each on a kept-alive connection, the next renewal sent when the last was answered. So the
figure is a closed-loop one: what ``--connections`` clients can keep busy.

On a machine that does other things as well, rate and latency say little: the verifier's CPU time
for a renewal does, and its ratio to one P-256 verification and one signature, which are timed
between the slices of the load.

    python bench/http_renewal.py [--seconds 10] [--connections 32] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.eventlog import parse_event_log, replay
from bootlease.evidence import LeaseAnswer
from bootlease.model import HashAlg
from bootlease.reference import DEFAULT_PCRS, learn, serialise_reference
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, REFERENCE, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import verifier_process

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Accept: application/vnd.bootlease.lease+cbor, application/problem+json\r\n"
    "Accept-Encoding: identity\r\nConnection: keep-alive\r\nUser-Agent: bootlease-node\r\n"
    "Content-Type: application/vnd.bootlease.evidence+cbor\r\nContent-Length: {length}\r\n\r\n"
)
"""As the agent sends it."""
SLICES = 5


@dataclass(slots=True)
class Figures:
    """What was measured."""

    latencies: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


def reference_of(boot: SimulatedBoot) -> bytes:
    """Learn the reference set that the load's boot matches."""
    log = replay(parse_event_log(boot.event_log))
    learned = learn(
        log,
        None,
        name=REFERENCE,
        version="1",
        bank=HashAlg.SHA256,
        pcrs=DEFAULT_PCRS,
        match_events=(),
    )
    return serialise_reference(learned)


async def one_node(client: AttestingClient, port: int, until: float, figures: Figures) -> None:
    """Renew until the time is over, without a client library in the way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/v1/nodes/{client.node.hex()}/leases"
    while time.perf_counter() < until:
        body = client.attest().encode()
        started = time.perf_counter()
        writer.write(HEAD.format(path=path, port=port, length=len(body)).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = LeaseAnswer.parse(await reader.readexactly(length))
        figures.latencies.append(time.perf_counter() - started)
        figures.sizes.append(len(body))
        figures.answers.append(length)
        client.head, client.challenge = answer.head, answer.challenge
    writer.close()


async def load(clients: list[AttestingClient], port: int, seconds: float) -> Figures:
    """Run every node at once."""
    figures = Figures()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(one_node(client, port, until, figures) for client in clients))
    return figures


def bare_signature_ms() -> float:
    """CPU time of one P-256 verification and one signature, in the same run."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, scheme = key.public_key(), ec.ECDSA(hashes.SHA256())
    rounds = 500
    started = time.process_time()
    for _ in range(rounds):
        public.verify(key.sign(b"x" * 200, scheme), b"x" * 200, scheme)
    return (time.process_time() - started) / rounds * 1000


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Slice:
    """What one slice of the load came to."""

    figures: Figures
    took: float
    cpu_ms: float
    bare_ms: float


def one_slice(clients: list[AttestingClient], port: int, pid: int, seconds: float) -> Slice:
    """Load for a while, then time the bare signatures."""
    before, started = cpu_seconds(pid), time.perf_counter()
    figures = asyncio.run(load(clients, port, seconds))
    took, used = time.perf_counter() - started, cpu_seconds(pid) - before
    return Slice(figures, took, used / len(figures.latencies) * 1000, bare_signature_ms())


def measure(seconds: float, connections: int, folder: Path) -> dict[str, object]:
    """Start a verifier, enrol, renew, and return the figures."""
    ca, boot = LocalCA.create(), simulate_boot(grub_description())
    with verifier_process(
        folder, policy=POLICY, roots=ca.roots_pem, references=[reference_of(boot)]
    ) as verifier:
        port = int(verifier.url.rpartition(":")[2])
        clients = []
        with httpx2.Client(base_url=verifier.url, trust_env=False) as http:
            for _ in range(connections):
                client = AttestingClient(http, SimulatedNode(ca, boot=boot), (default_lease(),))
                client.enrol()
                client.renew()
                clients.append(client)
        slices = [one_slice(clients, port, verifier.pid, seconds / SLICES) for _ in range(SLICES)]
    ordered = sorted(latency for each in slices for latency in each.figures.latencies)
    count = len(ordered)
    return {
        "renewals_per_second": round(count / sum(each.took for each in slices)),
        "cpu_ms_per_renewal": round(statistics.median(each.cpu_ms for each in slices), 3),
        "bare_verify_and_sign_ms": round(statistics.median(each.bare_ms for each in slices), 3),
        "cpu_to_bare": round(statistics.median(each.cpu_ms / each.bare_ms for each in slices), 1),
        "p50_ms": round(ordered[count // 2] * 1000, 2),
        "p99_ms": round(ordered[count * 99 // 100] * 1000, 2),
        "evidence_bytes": max(max(each.figures.sizes) for each in slices),
        "answer_bytes": max(max(each.figures.answers) for each in slices),
        "connections": connections,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Renewals over HTTP, durable.")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.seconds, options.connections, Path(folder))
    if options.json:
        print(json.dumps(figures))
        return
    print(
        f"# {platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}"
    )
    for name, value in figures.items():
        print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
