"""A disk that is full or fails: no token, a clear error, recovery without hand work."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.faulty_disk import FaultyDisk
from bootlease.testing.fleet import (
    ConnectionPool,
    FleetImage,
    FleetNode,
    ProblemAnswerError,
    attest,
    begin,
    enrol,
)
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import VerifierProcess, verifier_process


@dataclass(frozen=True)
class Bench:
    """A verifier on a disk that fails on command."""

    process: VerifierProcess
    disk: FaultyDisk
    image: FleetImage

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.process.url.rpartition(":")[2])

    def decisions(self) -> int:
        """How many decisions are recorded."""
        path = f"file:{self.disk.database}?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM decisions").fetchone()[0])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One verifier for all faults."""
    folder = tmp_path_factory.mktemp("disk")
    image, disk = FleetImage(), FaultyDisk.build(folder)
    with verifier_process(
        folder,
        policy=POLICY,
        roots=image.ca.roots_pem,
        references=[image.reference()],
        environment=disk.environment,
    ) as process:
        yield Bench(process, disk, image)


def full_disk(bench: Bench) -> None:
    """Writes fail with ENOSPC."""
    bench.disk.fill_up()


def failing_fsync(bench: Bench) -> None:
    """Fsync fails with EIO."""
    bench.disk.fail_syncs()


def file_limit(bench: Bench) -> None:
    """The kernel lets no file grow: writes fail with EFBIG."""
    _limit(bench, 4096)


def _limit(bench: Bench, size: int) -> None:
    resource.prlimit(bench.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (full_disk, "database or disk is full"),
        (failing_fsync, "disk I/O error"),
        (file_limit, "disk I/O error"),
    ],
)
def test_a_failing_disk_gives_no_token_and_is_outlived(
    bench: Bench, fault: Callable[[Bench], None], reason: str
) -> None:
    """503 for leases and enrolments, said why in the log; once it works again, so do nodes."""
    log_before = len(bench.process.log)

    async def story() -> None:
        pool = ConnectionPool("127.0.0.1", bench.port, at_most=4)
        node = FleetNode(bench.image)
        await enrol(pool, node)
        await begin(pool, node)
        recorded = bench.decisions()
        fault(bench)
        try:
            for work in (attest(pool, node), enrol(pool, FleetNode(bench.image))):
                with pytest.raises(ProblemAnswerError) as caught:
                    await work
                assert (caught.value.status, caught.value.kind) == (503, "unavailable")
                assert "token" not in json.loads(caught.value.text)
            assert bench.decisions() == recorded
        finally:
            bench.disk.heal()
            _limit(bench, resource.RLIM_INFINITY)
        answer = await attest(pool, node)
        assert answer.sequence == 1
        await enrol(pool, FleetNode(bench.image))
        await pool.close()

    asyncio.run(story())
    assert reason in bench.process.log[log_before:]


WRITER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, b"kept", 0)
os.fsync(descriptor)
os.pwrite(descriptor, b"lost", 4)
if sys.argv[2] == "again":
    os.fdatasync(descriptor)
"""


@pytest.mark.parametrize(
    ("again", "prepare", "left"),
    [
        ("not", None, b"kept"),
        ("again", None, b"keptlost"),
        ("not", FaultyDisk.pretend_syncs, b"before"),
    ],
)
def test_a_power_cut_leaves_what_was_synchronised(
    tmp_path: Path, again: str, prepare: Callable[[FaultyDisk], None] | None, left: bytes
) -> None:
    """No byte more, no byte less."""
    (tmp_path / "verifier").mkdir()
    disk = FaultyDisk.build(tmp_path, with_shadow=True)
    disk.database.write_bytes(b"before")
    disk.plug_in()
    if prepare is None:
        disk.database.write_bytes(b"")
        disk.plug_in()
    else:
        prepare(disk)
    subprocess.run(
        [sys.executable, "-c", WRITER, str(disk.database), again],
        env=disk.environment,
        check=True,
    )
    disk.cut_power()
    assert disk.database.read_bytes() == left
