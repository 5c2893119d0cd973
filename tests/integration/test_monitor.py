"""`bootlease ledger monitor` as an auditor runs it: against a verifier, and against a liar."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from bootlease.ledger import NoteKey, verify_checkpoint
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.memory_ledger import MemoryLedger, made_leaf, published
from bootlease.testing.scene import POLICY
from bootlease.testing.verifier_process import (
    COMMAND,
    VerifierProcess,
    free_port,
    verifier_process,
)

NewClient = Callable[..., AttestingClient]


def monitor(url: str, vkey: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Look once."""
    return subprocess.run(
        [
            *(*COMMAND, "ledger", "monitor", url, "--ledger-key", vkey),
            *("--state", str(state), "--once", *options),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_running_verifier_is_followed(
    running: VerifierProcess, http: httpx2.Client, new_client: NewClient, tmp_path: Path
) -> None:
    """From the opening of its ledger, over leases, to its present end, in two looks."""
    vkey = http.get("/.well-known/bootlease-configuration").json()["ledger_key"]
    state = tmp_path / "state.json"
    first = monitor(running.url, vkey, state, "--json")
    assert first.returncode == 0, first.stderr
    client = new_client()
    client.renew()
    client.renew()
    second = monitor(running.url, vkey, state, "--json", "--reread-all")
    assert second.returncode == 0, second.stderr
    before, after = json.loads(first.stdout), json.loads(second.stdout)
    listed = http.get("/ledger/shards").json()["shards"]
    assert [shard["size"] for shard in after["shards"]] == [shard["size"] for shard in listed]
    assert after["new"] >= 3
    assert after["reread"] >= before["new"]
    assert after["findings"] == []


@pytest.fixture
def liar() -> Iterator[tuple[MemoryLedger, str]]:
    """A ledger of 600 entries, and where it is published."""
    ledger = MemoryLedger()
    ledger.grow(599)
    with published(ledger) as url:
        yield ledger, url


def fork(ledger: MemoryLedger) -> None:
    """Sign another history."""
    ledger.current.leaves[300] = made_leaf("other")
    ledger.grow(5)


def gap(ledger: MemoryLedger) -> None:
    """Sign what is not published."""
    ledger.grow(5)
    ledger.current.missing.add(602)


def rewrite(ledger: MemoryLedger) -> None:
    """Publish another entry than the one that was signed long ago."""
    ledger.current.entries[300] = made_leaf("other")


def roll_back(ledger: MemoryLedger) -> None:
    """Show an earlier checkpoint."""
    ledger.current.shown = 1


def strange_key(ledger: MemoryLedger) -> None:
    """Show a checkpoint under another key."""
    stranger = MemoryLedger()
    root = ledger.current.root(600)
    note = stranger.signer.seal(ledger.origin(ledger.current), 600, root).checkpoint
    ledger.current.notes[600] = note


@pytest.mark.parametrize(
    ("lie", "finding"),
    [
        (fork, "monitor.fork"),
        (gap, "monitor.gap"),
        (rewrite, "monitor.rewrite"),
        (roll_back, "monitor.rollback"),
        (strange_key, "monitor.signature"),
    ],
)
def test_each_lie_raises_its_alarm(
    liar: tuple[MemoryLedger, str],
    tmp_path: Path,
    lie: Callable[[MemoryLedger], None],
    finding: str,
) -> None:
    """Exit code 1, one sentence, the finding, and a file with the checkpoints that show it."""
    ledger, url = liar
    state = tmp_path / "state.json"
    good = monitor(url, ledger.vkey, state)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("2026-11: 600 entries, root ")
    known = state.read_bytes()
    lie(ledger)
    for _ in range(2):
        done = monitor(url, ledger.vkey, state, "--json")
        assert done.returncode == 1
        assert f"[{finding}]" in done.stderr
        assert "Traceback" not in done.stderr
        told = json.loads(done.stdout)
        assert [one["id"] for one in told["findings"]] == [finding]
        evidence = json.loads(Path(told["evidence"]).read_text())
        assert evidence["findings"] == told["findings"]
        assert evidence["notes"]
        assert state.read_bytes() == known
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def verifier(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes
) -> Iterator[VerifierProcess]:
    """A verifier of the test's own."""
    with verifier_process(
        private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
    ) as process:
        yield process


def grow(verifier: VerifierProcess, count: int) -> str:
    """Have governance records appended, and return the ledger's key."""
    headers = {"authorization": f"Bearer {verifier.credential}"}
    with httpx2.Client(base_url=verifier.url, trust_env=False, timeout=20) as http:
        for number in range(count):
            made = http.post(
                "/v1/admin/join-tokens", headers=headers, json={"expires_in": 60 + number}
            )
            assert made.status_code == 201
        vkey: str = http.get("/.well-known/bootlease-configuration").json()["ledger_key"]
    return vkey


def test_a_backup_put_back_is_an_alarm(verifier: VerifierProcess, tmp_path: Path) -> None:
    """First as a log that went back; once it has grown further than it was, as a fork."""
    state = tmp_path / "state.json"
    grow(verifier, 1)
    verifier.stop()
    backup = replace(verifier, folder=verifier.folder.with_name("backup"))
    shutil.copytree(verifier.folder, backup.folder)
    verifier.start()
    vkey = grow(verifier, 3)
    assert monitor(verifier.url, vkey, state).returncode == 0
    verifier.stop()
    backup.start()
    try:
        assert "monitor.rollback" in monitor(verifier.url, vkey, state).stderr
        grow(backup, 6)
        forked = monitor(verifier.url, vkey, state, "--json")
        assert forked.returncode == 1
        assert "monitor.fork" in forked.stderr
        evidence = json.loads(Path(json.loads(forked.stdout)["evidence"]).read_text())
        key = NoteKey.parse(vkey)
        roots = [
            verify_checkpoint(base64.b64decode(note["base64"]), key).root
            for note in evidence["notes"]
        ]
        assert len(set(roots)) == 2
    finally:
        backup.kill()


def test_an_entry_changed_in_the_database_is_an_alarm(
    verifier: VerifierProcess, tmp_path: Path
) -> None:
    """Whoever writes to the file while the verifier runs is found by the next look."""
    state = tmp_path / "state.json"
    vkey = grow(verifier, 3)
    assert monitor(verifier.url, vkey, state).returncode == 0
    with contextlib.closing(sqlite3.connect(verifier.folder / "verifier.db")) as database:
        # What keeps accidents away does not stop whoever owns the file.
        guards = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'entries'"
        ).fetchall()
        for (guard,) in guards:
            database.execute(f'DROP TRIGGER "{guard}"')
        changed = database.execute(
            "UPDATE entries SET leaf = ? WHERE position = 1", (made_leaf("other"),)
        )
        assert changed.rowcount == 1
        database.commit()
    done = monitor(verifier.url, vkey, state)
    assert done.returncode == 1
    assert "monitor.rewrite" in done.stderr


def test_a_log_that_is_not_there_is_no_alarm(tmp_path: Path) -> None:
    """Exit code 3 with --once, and no state."""
    state = tmp_path / "state.json"
    done = monitor(f"http://127.0.0.1:{free_port()}", MemoryLedger().vkey, state)
    assert done.returncode == 3
    assert "cannot reach" in done.stderr
    assert not state.exists()


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    """Exit code 2: a key that is none, plain HTTP elsewhere, a state of another log."""
    state = tmp_path / "state.json"
    vkey = MemoryLedger().vkey
    assert monitor("https://verifier.example", "key", state).returncode == 2
    assert monitor("http://verifier.example", vkey, state).returncode == 2
    again = monitor("https://x.example", vkey, state, "--reread", "1", "--reread-all")
    assert again.returncode == 2
    state.write_text("{}")
    assert monitor("https://verifier.example", vkey, state).returncode == 2


def test_a_monitor_goes_on_where_a_log_comes_back(tmp_path: Path) -> None:
    """It looks again and again, says what hinders it, and ends with the first alarm."""
    ledger = MemoryLedger()
    ledger.grow(3)
    with published(ledger) as url:
        pass
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(*COMMAND, "ledger", "monitor", url, "--ledger-key", ledger.vkey),
                *("--state", str(tmp_path / "state.json"), "--interval", "0.1"),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    port = int(url.rpartition(":")[2])
    try:
        wait_for(log, b"looking again in")
        with published(ledger, port=port):
            wait_for(log, b"2026-11: 4 entries")
            ledger.grow(2)
            wait_for(log, b"2026-11: 6 entries")
            ledger.current.shown = 4
            assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()
    assert b"monitor.rollback" in log.read_bytes()


def wait_for(log: Path, text: bytes) -> None:
    """Wait until a process has said something."""
    deadline = time.monotonic() + 30
    while text not in log.read_bytes():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
