"""Killing a verifier again and again under load.

Three ways to go: SIGKILL, which loses what was not sent; SIGKILL and a power cut, which also loses
what was not synchronised to the disk; and either of them while it starts. Some lives have a moment
in which the disk is full or does not synchronise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from bench.crash.checks import every_check
from bench.crash.clients import Clients, Heard
from bench.crash.recorded import read_database
from bench.faulty_disk import FaultyDisk
from bootlease.errors import TransportError
from bootlease.ledger import NoteKey, SignatureType
from bootlease.testing.fleet import ConnectionPool, FleetImage
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import VerifierProcess, verifier_process

_STILLBORN = 0.15
_ILL = 0.3
_LONGEST_ILLNESS = 0.15
_RECOVERY = 8.0
_POLL = 0.05
_LONGEST_START = 1.5
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    Attributes:
        kills: How often the verifier dies.
        seed: Of everything that is left to chance.
        clients: Nodes at work at a time.
        longest_life: Seconds that it lives at most, once it serves.
        shortest_life: Seconds that it lives at least.
        power_cuts: Share of deaths that are power cuts.
        lying_disk: The disk says that it has synchronised, and has not: what is told must be
            found missing.
    """

    kills: int
    seed: int = 1
    clients: int = 16
    longest_life: float = 0.7
    shortest_life: float = 0.0
    power_cuts: float = 0.5
    lying_disk: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run.

    Attributes:
        complaints: What was wrong; nothing if all is well.
        counts: What was done, by kind.
    """

    complaints: list[str]
    counts: dict[str, int]


def soak(folder: Path, plan: Plan, progress: Callable[[int], None] | None = None) -> Verdict:
    """Run a plan in a private folder."""
    image = FleetImage()
    disk = FaultyDisk.build(folder, with_shadow=True)
    with verifier_process(
        folder,
        policy=POLICY,
        roots=image.ca.roots_pem,
        references=[image.reference()],
        environment=disk.environment,
        prepare=disk.plug_in,
    ) as process:
        if plan.lying_disk:
            disk.pretend_syncs()
        return asyncio.run(_Soak(process, disk, image, plan).run(progress))


def ledger_key(process: VerifierProcess) -> NoteKey:
    """Return the public half of the key in the verifier's folder."""
    private = serialization.load_pem_private_key(
        (process.folder / "ledger-key.pem").read_bytes(), password=None
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    name = process.url.partition("://")[2] + "/ledger"
    return NoteKey(name, SignatureType.ED25519, public)


class _Soak:
    def __init__(
        self, process: VerifierProcess, disk: FaultyDisk, image: FleetImage, plan: Plan
    ) -> None:
        self._process = process
        self._disk = disk
        self._image = image
        self._plan = plan
        self._chance = random.Random(plan.seed)  # noqa: S311 - when to kill
        self._counts: Counter[str] = Counter()

    async def run(self, progress: Callable[[int], None] | None) -> Verdict:
        port = int(self._process.url.rpartition(":")[2])
        pool = ConnectionPool("127.0.0.1", port, at_most=_CONNECTIONS, timeout=20)
        clients = Clients(pool, self._image, self._plan.clients, self._plan.seed + 1)
        try:
            for number in range(self._plan.kills):
                await self._live_and_die(clients.heard)
                clients.check()
                if progress is not None:
                    progress(number + 1)
            await asyncio.sleep(self._plan.longest_life)
            await clients.stop()
            await clients.call_the_roll()
        finally:
            await clients.abandon()
            await pool.close()
        code = await asyncio.to_thread(self._process.stop)
        database = read_database(self._disk.database)
        complaints = every_check(clients.heard, database, ledger_key(self._process))
        if code:
            complaints.append(f"the verifier stopped with exit code {code}")
        counts = self._counts + clients.heard.counts
        counts["calls that the disk failed"] = self._disk.failures
        counts["answers received"] = len(clients.heard.answers)
        counts["nodes enrolled"] = len(clients.heard.nodes)
        counts["decisions recorded"] = len(database.decisions)
        return Verdict(complaints, dict(counts))

    async def _live_and_die(self, heard: Heard) -> None:
        plan = self._plan
        await asyncio.sleep(self._chance.uniform(plan.shortest_life, plan.longest_life))
        if not self._plan.lying_disk and self._chance.random() < _ILL:
            self._counts["disk faults"] += 1
            self._chance.choice((self._disk.fill_up, self._disk.fail_syncs))()
            await asyncio.sleep(self._chance.uniform(0, _LONGEST_ILLNESS))
            # Some die ill, and some recover for a while before.
            if self._chance.random() < 0.5:
                self._disk.heal()
                await self._demand_recovery(heard)
                await asyncio.sleep(self._chance.uniform(0, self._plan.longest_life / 2))
        await self._die()
        if not self._plan.lying_disk:
            self._disk.heal()
        if self._chance.random() < _STILLBORN:
            self._counts["killed while starting"] += 1
            birth = asyncio.create_task(asyncio.to_thread(self._process.start))
            await asyncio.sleep(self._chance.uniform(0, _LONGEST_START))
            with contextlib.suppress(RuntimeError, ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(TransportError):
                await birth
            await self._die()
        await asyncio.to_thread(self._process.start)

    async def _demand_recovery(self, heard: Heard) -> None:
        """Demand leases from a verifier whose disk works again, without anybody's help."""
        before, deadline = len(heard.answers), time.monotonic() + _RECOVERY
        while len(heard.answers) == before:
            if time.monotonic() > deadline:
                heard.complaints.append(f"no lease {_RECOVERY} s after the disk worked again")
                return
            await asyncio.sleep(_POLL)

    async def _die(self) -> None:
        self._counts["kills"] += 1
        await asyncio.to_thread(self._process.kill)
        if self._chance.random() < self._plan.power_cuts:
            self._counts["power cuts"] += 1
            self._disk.cut_power()
        else:
            # What a killed process wrote is the kernel's, which will write it.
            self._disk.plug_in()
