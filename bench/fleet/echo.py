"""The generator's own ceiling: its renewals against a server that does nothing.

What it reaches there is the most it can offer; a verifier that is measured near it would be
measured wrongly. Run as a module it is that server: it reads the answer to give from standard
input and writes its port on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from bench.fleet.drive import Drive
from bench.fleet.figures import quantile
from bootlease.evidence import Challenge, IssuedLease, LeaseAnswer, TokenEncoding
from bootlease.model import HashAlg
from bootlease.testing.fleet import ConnectionPool, FleetImage, FleetNode, Response, request
from bootlease.testing.fleet.connections import Outcome

_ROOT = Path(__file__).resolve().parents[2]
_NODES = 512
_TOKEN_BYTES = 1200
"""A token with its receipt, near enough."""
_LIFE = 120


class _Echo(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._transport is None:
            return
        length = int(self._data[:end].partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(self._data) >= end + 4 + length:
            self._data = b""
            self._transport.write(self._answer)


async def _serve(answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Echo(answer), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextlib.contextmanager
def echo_server(answer: bytes) -> Iterator[int]:
    """Run the server in a process of its own; its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.fleet.echo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the echo server has no pipes")
        try:
            process.stdin.write(answer)
            process.stdin.close()
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _challenge() -> Challenge:
    now = int(time.time())
    pcrs = {HashAlg.SHA256: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)}
    return Challenge(secrets.token_bytes(32), bytes(32), now, now + _LIFE, pcrs)


def canned_answer() -> bytes:
    """Return a lease answer over HTTP, of the usual size."""
    token = secrets.token_bytes(_TOKEN_BYTES)
    digest = secrets.token_bytes(32)
    lease = IssuedLease(bytes(16), TokenEncoding.CWT, token, digest, int(time.time()) + _LIFE)
    body = LeaseAnswer(
        decision=digest,
        head=digest,
        sequence=1,
        life=_LIFE,
        expires_in=_LIFE,
        leases=(lease,),
        challenge=_challenge(),
    ).encode()
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def fleet_for_echo(image: FleetImage, count: int) -> deque[FleetNode]:
    """Return nodes that believe themselves enrolled and challenged."""
    nodes: deque[FleetNode] = deque()
    for _ in range(count):
        node = FleetNode(image)
        node.enrolled_as(secrets.token_bytes(32))
        node.take_challenge(_challenge())
        node.head = secrets.token_bytes(32)
        nodes.append(node)
    return nodes


async def measure_ceiling(
    image: FleetImage, *, seconds: float, connections: int = 64
) -> dict[str, float]:
    """Return what the generator can offer, and what it costs itself.

    First as fast as it goes, then open-loop at half of that: the latency that is seen then is the
    generator's own.
    """
    nodes = fleet_for_echo(image, _NODES)
    with echo_server(canned_answer()) as port:
        pool = ConnectionPool("127.0.0.1", port, at_most=connections)
        await pool.fill()
        before, started = time.process_time(), time.monotonic()
        count = await _flat_out(pool, nodes, until=started + seconds)
        took, cpu = time.monotonic() - started, time.process_time() - before
        rate = count / took
        drive = Drive(pool, nodes, [], rate=rate / 2, duration=seconds)
        figures = await drive.run()
        await pool.close()
    ordered = sorted(figures.latencies)
    return {
        "ceiling_per_second": round(rate),
        "cpu_us_per_renewal": round(cpu / count * 1e6, 1),
        "at_half_p50_ms": round(quantile(ordered, 0.5) * 1000, 3),
        "at_half_p99_ms": round(quantile(ordered, 0.99) * 1000, 3),
    }


async def _flat_out(pool: ConnectionPool, nodes: deque[FleetNode], *, until: float) -> int:
    count = 0
    over = asyncio.Event()
    busy = 0

    def send() -> None:
        nonlocal busy
        node = nodes.popleft()
        busy += 1

        def finished(outcome: Outcome) -> None:
            nonlocal busy, count
            busy -= 1
            if not isinstance(outcome, Response):
                raise outcome
            count += 1
            now = time.monotonic()
            node.take_encoded_answer(outcome.body, now)
            nodes.append(node)
            if now < until:
                send()
            elif busy == 0:
                over.set()

        pool.submit(request(f"{node.path}/leases", "evidence", node.evidence()), finished)

    for _ in range(pool.room):
        send()
    await over.wait()
    return count


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.stdin.buffer.read()))
