"""A witness process: what it answers over HTTP, and what a verifier process makes of it."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from bootlease.errors import TransportError
from bootlease.ledger import (
    NoteKey,
    consistency_path,
    parse_signature_lines,
    parse_signed_checkpoint,
    verify_checkpoint,
    verify_cosignature,
    verify_cosignatures,
)
from bootlease.ledger.addcheckpoint import MAX_REQUEST, AddCheckpoint
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.memory_ledger import MemoryLedger
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import COMMAND, VerifierProcess, verifier_process
from bootlease.testing.witness_process import WitnessProcess, witness_process

NAME = "witness.example/w1"
SOON = 20.0


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with checkpoints of 1, 5 and 8 entries."""
    ledger = MemoryLedger()
    ledger.grow(4)
    ledger.grow(3)
    return ledger


@pytest.fixture
def witness(tmp_path: Path, ledger: MemoryLedger) -> Iterator[WitnessProcess]:
    """A witness of that ledger, running."""
    with witness_process(tmp_path, NAME, [ledger.vkey], "--ml-dsa-44") as process:
        process.start()
        yield process


def add(witness: WitnessProcess, ledger: MemoryLedger, old: int, size: int) -> httpx2.Response:
    """Ask the witness to cosign what the ledger has."""
    shard = ledger.current
    body = AddCheckpoint(old, consistency_path(old, size, shard.node), shard.notes[size]).encode()
    return httpx2.post(f"{witness.url}/add-checkpoint", content=body, trust_env=False)


def test_it_cosigns_over_http(witness: WitnessProcess, ledger: MemoryLedger) -> None:
    """With both keys; a conflict has the specification's media type."""
    answer = add(witness, ledger, 0, 8)
    assert answer.status_code == 200
    body = parse_signed_checkpoint(ledger.current.notes[8]).note.body
    lines = parse_signature_lines(answer.content)
    for line, vkey in zip(lines, witness.vkeys, strict=True):
        moment = verify_cosignature(body, line, NoteKey.parse(vkey)).timestamp
        assert abs(moment - time.time()) < 60
    conflict = add(witness, ledger, 0, 8)
    assert (conflict.status_code, conflict.content) == (409, b"8\n")
    assert conflict.headers["content-type"] == "text/x.tlog.size"
    listed = httpx2.get(f"{witness.url}/logs", trust_env=False).json()
    assert listed == {
        "logs": [
            {
                "origin": ledger.origin(ledger.current),
                "size": 8,
                "root": ledger.current.root(8).hex(),
            }
        ]
    }


def test_it_remembers_through_a_kill(witness: WitnessProcess, ledger: MemoryLedger) -> None:
    """What was cosigned a moment before is not cosigned a second time differently."""
    assert add(witness, ledger, 0, 8).status_code == 200
    witness.kill()
    witness.start()
    other = MemoryLedger(ledger.private)
    other.grow(7, salt="other")
    assert add(witness, other, 8, 8).status_code == 409
    assert add(witness, other, 0, 8).content == b"8\n"
    assert witness.stop() == 0


def test_other_requests_are_refused(witness: WitnessProcess) -> None:
    """Another method, another path, no body, and one that is too long."""
    with httpx2.Client(base_url=witness.url, trust_env=False) as http:
        assert http.get("/add-checkpoint").status_code == 405
        assert http.post("/other").status_code == 404
        assert http.post("/add-checkpoint").status_code == 400
        assert http.post("/add-checkpoint", content=bytes(MAX_REQUEST + 1)).status_code == 413


def test_connections_are_kept(witness: WitnessProcess, ledger: MemoryLedger) -> None:
    """Requests behind each other on one connection, as the specification recommends."""
    parts = urlsplit(witness.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=SOON)
    note = ledger.current.notes[1]
    for old in (0, 1, 1):
        connection.request("POST", "/add-checkpoint", AddCheckpoint(old, (), note).encode())
        socket = connection.sock
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        assert connection.sock is socket
    connection.close()


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is to fail."""
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_cannot_be_served_is_told(tmp_path: Path, ledger: MemoryLedger) -> None:
    """Exit code 2 and one line: no witness there, plain HTTP off this machine, a wrong key."""
    with witness_process(tmp_path, NAME, []) as made:
        base = ("ledger", "witness", "serve", "--data", str(made.folder), "--log")
        for options, message in (
            ((*base[:4], str(tmp_path / "none"), "--log", ledger.vkey), "holds no witness"),
            ((*base, ledger.vkey, "--bind", "0.0.0.0:0"), "refusing to serve plain HTTP"),
            ((*base, ledger.vkey, "--bind", "unix:/x"), "takes HOST:PORT"),
            ((*base, ledger.vkey[:-4]), "verifier key"),
            ((*base, made.vkeys[0]), "not a log's"),
        ):
            done = serve(*options)
            assert done.returncode == 2
            assert message in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--require-witness"], "needs a --witness"),
        (["--witness", "https://witness.example"], "is not VKEY=URL"),
    ],
)
def test_wrong_options_of_a_verifier_are_told(
    tmp_path: Path, options: list[str], message: str
) -> None:
    """Exit code 2, before anything is opened."""
    done = serve("verifier", "serve", "--data", str(tmp_path), *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.fixture
def verifier(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier of the test's own."""
    with verifier_process(
        private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as process:
        yield process


@pytest.fixture
def watching(tmp_path: Path, verifier: VerifierProcess) -> Iterator[WitnessProcess]:
    """A witness that knows the verifier's ledger, and whom the verifier will be told of."""
    configuration = httpx2.get(
        f"{verifier.url}/.well-known/bootlease-configuration", trust_env=False
    ).json()
    with witness_process(tmp_path, NAME, [configuration["ledger_key"]]) as process:
        verifier.stop()
        verifier.options = ["--witness", process.option]
        yield process


def cosigned(verifier: VerifierProcess, witness: WitnessProcess) -> int:
    """Return the size of the latest checkpoint that the witness has cosigned, 0 for none."""
    with httpx2.Client(base_url=verifier.url, trust_env=False, timeout=SOON) as http:
        key = http.get("/.well-known/bootlease-configuration").json()["ledger_key"]
        shard = http.get("/ledger/shards").json()["shards"][-1]["name"]
        answer = http.get(f"/ledger/{shard}/cosigned")
    if answer.status_code == 404:
        return 0
    checkpoint = verify_checkpoint(answer.content, NoteKey.parse(key))
    verify_cosignatures(checkpoint, [NoteKey.parse(witness.vkeys[0])], at_least=1)
    return checkpoint.size


def test_a_verifier_has_its_checkpoints_cosigned(
    verifier: VerifierProcess, watching: WitnessProcess
) -> None:
    """At its start; the cosigned checkpoint is published."""
    watching.start()
    verifier.start()
    assert cosigned(verifier, watching) > 0
    assert verifier.stop() == 0


def test_an_unreachable_witness_delays_only_who_requires_it(
    verifier: VerifierProcess, watching: WitnessProcess
) -> None:
    """Without --require-witness the verifier says so and serves; with it, exit code 3."""
    verifier.start()
    assert cosigned(verifier, watching) == 0
    assert "witness-unreachable" in verifier.log
    verifier.stop()
    options = ("--witness", watching.option, "--require-witness")
    done = serve(
        "verifier", "serve", "--data", str(verifier.folder), *options, "--listen", "127.0.0.1:0"
    )
    assert done.returncode == 3
    assert "cannot reach witness" in done.stderr
    watching.start()
    verifier.options = options
    verifier.start()
    assert cosigned(verifier, watching) > 0


def test_a_restored_backup_does_not_start_behind_a_witness(
    verifier: VerifierProcess, watching: WitnessProcess
) -> None:
    """Exit code 1 and the finding; the newer folder starts."""
    backup = verifier.folder.with_name("backup")
    shutil.copytree(verifier.folder, backup)
    watching.start()
    verifier.start()
    with httpx2.Client(base_url=verifier.url, trust_env=False) as http:
        headers = {"authorization": f"Bearer {verifier.credential}"}
        before = http.get("/ledger/shards").json()["shards"][-1]["size"]
        grown = http.post("/v1/admin/join-tokens", headers=headers, json={"expires_in": 60})
        assert grown.status_code == 201, grown.text
        assert http.get("/ledger/shards").json()["shards"][-1]["size"] > before
    verifier.stop()
    verifier.start()
    assert cosigned(verifier, watching) > before
    verifier.stop()
    restored = replace(verifier, folder=backup)
    with pytest.raises(TransportError, match=r"witness\.ahead"):
        restored.start()
    verifier.start()
    assert verifier.stop() == 0
