"""``bootlease policy simulate`` over a verifier's folder, which stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootlease.cli import run
from bootlease.ports import RevokedKind
from bootlease.reference import serialise_any_reference
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.policies import make_policy, permit
from bootlease.testing.recorded_verifier import RecordedVerifier, recorded_verifier
from bootlease.testing.scene import POLICY, default_lease
from bootlease.verifier.datadir import DATABASE

Capture = pytest.CaptureFixture[str]
NEW = permit(["tool:search"]) + '@id("new") permit (principal, action, resource in Scope::"new:*");'


@dataclass(frozen=True, slots=True)
class Fleet:
    """A verifier that goes on running, and its nodes."""

    verifier: RecordedVerifier
    searching: list[str]
    committing: str


@pytest.fixture
def fleet(tmp_path: Path, local_ca: LocalCA) -> Iterator[Fleet]:
    """Two nodes that search, one that works on a repository, one that never attested."""
    folder = tmp_path / "verifier"
    folder.mkdir(mode=0o700)
    with recorded_verifier(folder, local_ca) as verifier:
        searching = verifier.record(2, 2)
        other = verifier.enrol()
        assert verifier.decide(other, [default_lease(("repo:acme/*",))])
        verifier.enrol()
        yield Fleet(verifier, sorted(node.node.hex() for node in searching), other.node.hex())


def candidate(tmp_path: Path, text: str) -> Path:
    """Write a policy to try."""
    path = tmp_path / "candidate.toml"
    path.write_text(text)
    return path


def simulate(fleet: Fleet, path: Path, capfd: Capture, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command and read what it says."""
    data = str(fleet.verifier.folder)
    code = run(["policy", "simulate", str(path), "--data", data, "--json", *options])
    return code, json.loads(capfd.readouterr().out)


def test_who_loses_and_gains_what(fleet: Fleet, tmp_path: Path, capfd: Capture) -> None:
    """Grouped, by name of node, with the reasons; and only losses of what is asked for are bad."""
    path = candidate(tmp_path, make_policy(NEW))
    for workers in ("1", "2"):
        code, shown = simulate(fleet, path, capfd, "--workers", workers)
        assert code == 1
        counts = ("nodes", "undecided", "revoked", "losing", "gaining")
        assert [shown[key] for key in counts] == [3, 1, 0, 1, 0]
        lost, unasked, gained = shown["changes"]
        assert (lost["change"], lost["scope"], lost["asked"]) == ("loses", "repo:acme/*", True)
        assert lost["nodes"] == [fleet.committing]
        assert lost["reasons"] == ["repo:acme/… is not permitted"]
        assert (unasked["scope"], unasked["asked"]) == ("repo:acme/*", False)
        assert sorted(unasked["nodes"]) == fleet.searching
        assert (gained["change"], gained["scope"]) == ("gains", "new:*")
        assert len(gained["nodes"]) == 3
        assert gained["reasons"][-1] == "permitted by new"


def test_a_policy_that_takes_nothing_away_exits_with_0(
    fleet: Fleet, tmp_path: Path, capfd: Capture
) -> None:
    """Its Cedar policies may be in a file of their own, but not in both."""
    table = POLICY.index("[authorization]")
    path = candidate(tmp_path, POLICY[:table])
    cedar = tmp_path / "scopes.cedar"
    cedar.write_text(permit() + NEW)
    code, shown = simulate(fleet, path, capfd, "--cedar", str(cedar))
    assert (code, shown["losing"]) == (0, 0)
    assert {each["change"] for each in shown["changes"]} == {"gains"}
    path = candidate(tmp_path, POLICY)
    data = str(fleet.verifier.folder)
    assert run(["policy", "simulate", str(path), "--data", data, "--cedar", str(cedar)]) == 2


def test_sets_that_come_with_it_count(fleet: Fleet, tmp_path: Path, capfd: Capture) -> None:
    """A policy that accepts a name which is not registered yet."""
    path = candidate(tmp_path, POLICY.replace('["golden"]', '["next"]'))
    code, shown = simulate(fleet, path, capfd)
    assert (code, shown["losing"]) == (1, 3)
    assert "reference" in shown["changes"][0]["reasons"][0]
    golden = fleet.verifier.service.registry.now.accepted[0]
    renamed = json.loads(serialise_any_reference(golden)) | {"name": "next"}
    (tmp_path / "next.json").write_text(json.dumps(renamed))
    code, shown = simulate(fleet, path, capfd, "--reference", str(tmp_path / "next.json"))
    assert (code, shown["changes"]) == (0, [])


def test_what_is_revoked_does_not_count(fleet: Fleet, tmp_path: Path, capfd: Capture) -> None:
    """A node, a make of TPM, and a reference set that nothing matches any more."""
    path = candidate(tmp_path, POLICY)
    alone = ("--workers", "1")
    assert simulate(fleet, path, capfd, *alone)[1]["nodes"] == 3
    fleet.verifier.revoke(RevokedKind.NODE, fleet.committing)
    code, shown = simulate(fleet, path, capfd, *alone)
    assert (code, shown["nodes"], shown["revoked"]) == (0, 2, 1)
    golden = fleet.verifier.service.registry.now.accepted[0].digest.hex()
    fleet.verifier.revoke(RevokedKind.REFERENCE, golden)
    code, shown = simulate(fleet, path, capfd, *alone)
    assert (code, shown["losing"]) == (1, 2)
    fleet.verifier.revoke(RevokedKind.FAMILY, "make:id:00001014/swtpm/*")
    code, shown = simulate(fleet, path, capfd, *alone)
    assert (code, shown["nodes"], shown["revoked"]) == (0, 0, 3)


def test_the_text_says_the_same(fleet: Fleet, tmp_path: Path, capfd: Capture) -> None:
    """One paragraph for each change, and the sum at the end."""
    path = candidate(tmp_path, make_policy(NEW))
    assert run(["policy", "simulate", str(path), "--data", str(fleet.verifier.folder)]) == 1
    out, err = capfd.readouterr()
    assert err == ""
    first, *_, last = out.splitlines()
    assert first == f"1 node loses repo:acme/* for https://tools.example: {fleet.committing}"
    assert "3 nodes gain new:* for https://tools.example, never asked for: " in out
    assert "1 node never attested" in out
    assert last.startswith("3 nodes: 1 would lose what they asked for, 0 would gain it")
    path = candidate(tmp_path, POLICY.replace("9, 14]", "9, 11, 14]"))
    assert run(["policy", "simulate", str(path), "--data", str(fleet.verifier.folder)]) == 0
    assert "cannot be told of 3 nodes: " in capfd.readouterr().out


def test_nothing_is_written_and_the_verifier_goes_on(
    fleet: Fleet, tmp_path: Path, capfd: Capture
) -> None:
    """The database is the same afterwards, and the next node attests as before."""
    path = candidate(tmp_path, make_policy(NEW))
    database = fleet.verifier.folder / DATABASE
    before = hashlib.sha256(database.read_bytes()).digest()
    assert simulate(fleet, path, capfd, "--workers", "1")[0] == 1
    assert hashlib.sha256(database.read_bytes()).digest() == before
    fresh = fleet.verifier.enrol()
    assert fleet.verifier.decide(fresh)
    assert simulate(fleet, path, capfd, "--workers", "1")[1]["nodes"] == 4


def test_progress_is_shown_on_a_terminal(fleet: Fleet, tmp_path: Path) -> None:
    """On standard error; what is piped stays clean."""
    path = candidate(tmp_path, POLICY)
    terminal, theirs = pty.openpty()
    folder = str(fleet.verifier.folder)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bootlease", "policy", "simulate", str(path)),
            *("--data", folder, "--workers", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=False,
        timeout=60,
    )
    os.close(theirs)
    shown = os.read(terminal, 65_536).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert re.search(r"simulating.*100%", shown)
    assert b"simulating" not in done.stdout
