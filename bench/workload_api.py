"""What the Workload API costs: ``python -m bench.workload_api``.

The server is a process of its own, with an agent's core that grants at once and needs no TPM, so
that what is measured is the API. Clients are this process, and many small ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bootlease.localapi import Granted
from bootlease.node.clock import SystemClock
from bootlease.node.workloads import Rule, Rules, ServerSettings, WorkloadServer
from bootlease.testing.granting import GrantingAgent
from bootlease.workload import LeaseStream, WorkloadClient

AUDIENCE = "https://tools.example"
SERVE = "--serve"


def serve(path: Path) -> None:
    """Be the server: grants at once; renews where a line comes in; tells its size and CPU time."""
    clock = SystemClock()
    core = GrantingAgent(clock)
    rules = Rules(
        (Rule("bench", ("tool:*",), (AUDIENCE,), uids=frozenset({os.geteuid()}), leases=256),)
    )
    server = WorkloadServer(
        ServerSettings("https://verifier.example", path), rules, core.wishes, clock, lambda _: None
    )
    core.output = server
    server.start()
    print(flush=True)
    for line in sys.stdin:
        if line == "grant\n":
            core.grant()
        size = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        print(json.dumps({"rss": size, "cpu": time.process_time()}), flush=True)


class Server:
    """The server's process."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "bench.workload_api", SERVE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def tell(self, word: str) -> dict[str, float]:
        """Have it do something, and return what it costs so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._line())
        return found

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def timed(call: Callable[[], object], count: int) -> str:
    """Return median and 99th percentile of a call, in milliseconds."""
    times = []
    for _ in range(count):
        before = time.perf_counter()
        call()
        times.append((time.perf_counter() - before) * 1000)
        time.sleep(0.003)  # below the bound on connections in time
    times.sort()
    return f"median {statistics.median(times):.2f} ms, p99 {times[int(len(times) * 0.99)]:.2f} ms"


def requests(client: WorkloadClient, server: Server, count: int) -> None:
    """Measure what a workload asks for again and again."""
    with client.lease(["tool:search"], AUDIENCE) as stream:
        server.tell("grant")
        stream.granted(10)
        before = server.tell("")["cpu"]
        print(
            "token (GET /v1/leases/current):", timed(lambda: client.current(stream.handle), count)
        )
        after = server.tell("")["cpu"]
        print(f"    CPU of the agent: {(after - before) / count * 1000:.2f} ms each")

        def prove() -> None:
            client.proof(stream.handle, "GET", "https://tools.example/search")

        print("proof (POST /v1/proofs), key in the agent:", timed(prove, count))


def streams(client: WorkloadClient, server: Server, count: int) -> None:
    """Measure what streams cost that are open."""
    held: list[LeaseStream] = [client.lease(["tool:search"], AUDIENCE) for _ in range(10)]
    server.tell("grant")
    first = server.tell("grant")["rss"]
    held += [client.lease(["tool:search"], AUDIENCE) for _ in range(count)]
    server.tell("grant")
    second = server.tell("grant")["rss"]
    print(f"memory of {count} further streams: {(second - first) / count / 1024:.0f} KiB each")
    for stream in held:
        stream.receive()
    times = []
    for _ in range(20):
        waiting = threading.Thread(target=lambda: [stream.granted(10) for stream in held])
        waiting.start()
        before = time.perf_counter()
        server.tell("grant")
        waiting.join()
        times.append((time.perf_counter() - before) * 1000)
    print(f"one renewal, heard by all {len(held)}: median {statistics.median(times):.1f} ms")
    for stream in held:
        stream.close()


def at_once(client: WorkloadClient, server: Server, count: int) -> None:
    """Measure many workloads that begin in the same moment."""
    go, done = threading.Barrier(count + 1), list[float]()

    def workload() -> None:
        go.wait()
        before = time.perf_counter()
        with client.lease(["tool:search"], AUDIENCE) as stream:
            while not isinstance(stream.next_event(20), Granted):
                pass
            done.append((time.perf_counter() - before) * 1000)

    threads = [threading.Thread(target=workload) for _ in range(count)]
    for thread in threads:
        thread.start()
    go.wait()
    while len(done) < count:
        server.tell("grant")
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    print(f"{count} workloads at once, first grant of the last after {max(done):.0f} ms")


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument(SERVE, type=Path)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, measure in enumerate((requests, streams, at_once)):
            path = Path(folder, f"socket-{number}")
            server = Server(path)
            measure(WorkloadClient(path), server, (options.count, options.streams, 100)[number])
            server.stop()


if __name__ == "__main__":
    main()
