"""Load on a verifier from thousands of software TPMs: open-loop, with honest percentiles.

Starts a verifier of its own, enrols the nodes over HTTP (MakeCredential included), and renews at
one or several rates; or finds the highest rate first, and runs at shares of it:

    python -m bench.fleet --nodes 10000 --find-rate --out figures
    python -m bench.fleet --nodes 1000 --rate 200 --rate 400 --duration 30

``--url`` measures a verifier that runs already. Its roots, references and policy become the
fleet's, so it must be one that is there to be measured; the admin credential is read from
``--credential-file``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from bench.faulty_disk import FaultyDisk
from bench.fleet.drive import MARGIN, Drive, each
from bench.fleet.echo import measure_ceiling
from bench.fleet.figures import Figures
from bench.fleet.report import Run, Setting, document, table, write_all
from bench.fleet.search import highest_rate
from bootlease.testing.fleet import (
    ConnectionPool,
    FleetImage,
    FleetNode,
    attest,
    begin,
    enrol,
)
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import COMMAND, verifier_process

_WORKERS = 32
_STALE = 40.0
"""Age in seconds from which a lease is renewed before a run, so that none lapses in it."""
_LONGEST_WAIT = 75.0
"""Seconds that a node may wait for its turn in a run, by the policy's life of 120."""
_AMPLE = 2.0
"""How far the generator's ceiling has to be above what it measures."""
_UNLEDGERED = (sys.executable, "-m", "bench.fleet.unledgered")


@dataclass(frozen=True, slots=True)
class Target:
    """The verifier that is measured.

    Attributes:
        host: Its address.
        port: Its port.
        cpu: CPU seconds that it has used, where it is a process of this machine.
    """

    host: str
    port: int
    cpu: Callable[[], float] | None


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--nodes", type=int, default=1000, help="enrolled before the runs (%(default)s)")
    add("--rate", type=float, action="append", help="operations a second; may be repeated")
    add("--find-rate", action="store_true", help="find the highest rate, run at shares of it")
    add("--shares", default="25,50,75,90", help="of the highest rate, percent (%(default)s)")
    add("--start-rate", type=float, default=100, help="where the search begins (%(default)s)")
    add("--probe", type=float, default=10, help="seconds of a probe (%(default)s)")
    add("--duration", type=float, default=30, help="seconds of a run (%(default)s)")
    add("--limit-ms", type=float, default=100, help="for the 99th percentile (%(default)s)")
    add("--enrol-share", type=float, default=0.0, help="share of arrivals (%(default)s)")
    add("--connections", type=int, default=128, help="open at most (%(default)s)")
    add("--seed", type=int, default=1, help="of the arrivals (%(default)s)")
    add("--durability", choices=("full", "none"), default="full", help="none: no fsync at all")
    add("--ledger", choices=("full", "none"), default="full", help="none: answers skip the ledger")
    add("--folder", type=Path, help="where the verifier keeps its data (a temporary folder)")
    add("--url", help="of a running verifier, which takes over the fleet's policy")
    add("--credential-file", type=Path, help="admin credential of that verifier")
    add("--out", type=Path, help="folder for CSV, JSON and charts")
    add("--ceiling-seconds", type=float, default=2, help="0: do not measure the generator")
    add("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if not options.rate and not options.find_rate:
        parser.error("give --rate or --find-rate")
    if (options.url is None) != (options.credential_file is None):
        parser.error("--url and --credential-file go together")
    if options.url and (options.durability != "full" or options.ledger != "full"):
        parser.error("--durability and --ledger are a matter of the verifier that --url names")
    return options


def say(text: str) -> None:
    """Tell the user what goes on."""
    print(f"fleet: {text}", file=sys.stderr, flush=True)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def target_of(options: argparse.Namespace, image: FleetImage) -> Iterator[Target]:
    """Start a verifier, or teach a running one what the fleet looks like."""
    if options.url:
        where = urlsplit(options.url)
        if where.scheme != "http" or where.port is None:
            raise SystemExit("fleet: --url must be http://HOST:PORT")
        teach(options.url, options.credential_file.read_text().strip(), image)
        yield Target(where.hostname or "", where.port, None)
        return
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {}
        if options.durability == "none":
            disk = FaultyDisk.build(folder)
            disk.skip_syncs()
            environment = disk.environment
        verifier = stack.enter_context(
            verifier_process(
                folder,
                policy=POLICY,
                roots=image.ca.roots_pem,
                references=[image.reference()],
                environment=environment,
                command=COMMAND if options.ledger == "full" else _UNLEDGERED,
            )
        )
        port = int(verifier.url.rpartition(":")[2])
        yield Target("127.0.0.1", port, lambda: cpu_of(verifier.pid))


def teach(url: str, credential: str, image: FleetImage) -> None:
    """Register the fleet's root, reference set and policy."""
    headers = {"authorization": f"Bearer {credential}"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False) as http:
        for path, media, body in (
            ("roots", "application/x-pem-file", image.ca.roots_pem),
            ("references", "application/json", image.reference()),
            ("policies", "application/toml", POLICY.encode()),
        ):
            answer = http.post(f"/v1/admin/{path}", content=body, headers={"content-type": media})
            if not answer.is_success:
                raise SystemExit(f"fleet: {path}: {answer.status_code} {answer.text}")


class Fleet:
    """The nodes, their connections, and the runs made with them."""

    def __init__(
        self, options: argparse.Namespace, image: FleetImage, pool: ConnectionPool, target: Target
    ) -> None:
        self._options = options
        self._image = image
        self._pool = pool
        self._target = target
        self._runs = 0
        self.nodes: deque[FleetNode] = deque()

    async def enrol_all(self) -> None:
        """Make and enrol the nodes, each with a first lease."""
        count, pool = self._options.nodes, self._pool
        started = time.monotonic()

        async def join(node: FleetNode) -> None:
            if not node.node:
                await enrol(pool, node)
            await begin(pool, node)
            self.nodes.append(node)

        def progress(done: int) -> None:
            if done % 1000 == 0:
                say(f"{done} of {count} nodes enrolled")

        made = [FleetNode(self._image) for _ in range(count)]
        say(f"{count} TPMs made in {time.monotonic() - started:.1f} s; enrolling")
        started = time.monotonic()
        await each(made, join, workers=_WORKERS, progress=progress)
        took = time.monotonic() - started
        say(f"{count} nodes enrolled and leased in {took:.1f} s, {count / took:.0f}/s")

    async def freshen(self) -> None:
        """Renew leases that are old, so that none lapses before its turn in the next run."""
        now = time.monotonic()
        stale = [node for node in self.nodes if node.asked_at < now - _STALE]
        if stale:
            await each(stale, self._refresh, workers=_WORKERS // 2)
            self.nodes = deque(sorted(self.nodes, key=lambda node: node.asked_at))

    async def _refresh(self, node: FleetNode) -> None:
        if node.fresh_until > time.monotonic() + MARGIN:
            await attest(self._pool, node)
        else:
            await begin(self._pool, node)

    async def run(self, rate: float, duration: float, patience: float = 5.0) -> Figures:
        """Make one run."""
        await self.freshen()
        # What the verifier or the pool has ended since is opened again before the clock runs.
        await self._pool.fill()
        if min(duration, len(self.nodes) / rate) > _LONGEST_WAIT:
            say("at this rate some leases lapse before their turn: their nodes begin again")
        self._runs += 1
        expected = rate * duration * self._options.enrol_share
        newcomers = [FleetNode(self._image) for _ in range(round(expected + 4 * expected**0.5))]
        drive = Drive(
            self._pool,
            self.nodes,
            newcomers,
            rate=rate,
            duration=duration,
            enrol_share=self._options.enrol_share,
            seed=self._options.seed * 1000 + self._runs,
            patience=patience,
        )
        figures = await drive.run(self._target.cpu)
        summary = figures.summary()
        say(
            f"{rate:.0f}/s for {duration:g} s: p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']}"
            f" ms, max {summary['max_ms']} ms, errors {dict(figures.errors) or 'none'}"
        )
        return figures

    async def find(self) -> float:
        """Find the highest rate."""
        options = self._options

        async def sustains(rate: float) -> bool:
            figures = await self.run(rate, options.probe, patience=1.0)
            return figures.meets(options.limit_ms / 1000)

        return await highest_rate(sustains, options.start_rate)


async def measure(
    options: argparse.Namespace, image: FleetImage, target: Target
) -> tuple[Setting, list[Run]]:
    """Make every run that was asked for."""
    generator: dict[str, float] = {}
    if options.ceiling_seconds:
        generator = await measure_ceiling(image, seconds=options.ceiling_seconds)
        say(f"the generator itself: {generator}")
    pool = ConnectionPool(target.host, target.port, at_most=options.connections)
    await pool.fill()
    fleet = Fleet(options, image, pool, target)
    await fleet.enrol_all()
    planned = [(f"{rate:g}/s", rate) for rate in options.rate or ()]
    if options.find_rate:
        highest = await fleet.find()
        if not highest:
            raise SystemExit("fleet: the verifier sustains not even one operation a second")
        say(f"highest rate: {highest:.0f}/s")
        if generator and generator["ceiling_per_second"] < _AMPLE * highest:
            say("this is near the generator's own ceiling: the verifier may sustain more")
        shares = [float(share) for share in options.shares.split(",")]
        planned += [(f"{share:g}%", highest * share / 100) for share in shares]
    runs = [(label, await fleet.run(rate, options.duration)) for label, rate in planned]
    await pool.close()
    setting = Setting(
        nodes=options.nodes,
        connections=options.connections,
        enrol_share=options.enrol_share,
        seed=options.seed,
        durability="as the verifier has it" if options.url else options.durability,
        ledger="as the verifier has it" if options.url else options.ledger,
        limit_ms=options.limit_ms,
        generator=generator,
    )
    return setting, runs


def main() -> int:
    """Measure and print; 1 if any operation of a run failed."""
    options = options_of(sys.argv[1:])
    image = FleetImage()
    with target_of(options, image) as target:
        setting, runs = asyncio.run(measure(options, image, target))
    if options.out:
        write_all(options.out, setting, runs)
    print(json.dumps(document(setting, runs)) if options.json else table(setting, runs))
    return 1 if any(figures.errors for _, figures in runs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
