"""A decision explained from outside a running verifier, and the page of tamperings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from bootlease.cli import run
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.verifier_process import VerifierProcess
from tests.integration.conftest import NewClient

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300


@pytest.fixture
def refused(new_client: NewClient) -> AttestingClient:
    """A node that was granted a lease, and refused after a reboot."""
    client = new_client()
    client.renew()
    description = grub_description()
    line = f"{description.command_line} init=/bin/sh"
    client.device.boot(simulate_boot(description.with_command_line(line)))
    client.head = client.challenge = None
    assert client.present(client.attest()).status_code == 403
    return client


@pytest.fixture
def options(running: VerifierProcess, tmp_path: Path) -> list[str]:
    """Lead a command to the running verifier."""
    credential = tmp_path / "credential"
    credential.write_text(running.credential)
    return ["--url", running.url, "--credential-file", str(credential)]


def test_a_running_verifier_s_decision_is_explained_as_from_its_folder(
    running: VerifierProcess,
    refused: AttestingClient,
    options: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Over HTTP and from the folder, the same explanation is made."""
    node = refused.node.hex()
    assert run(["explain", node, "--json", *options]) == 1
    remote = json.loads(capfd.readouterr().out)
    assert run(["explain", node, "--json", "--data", str(running.folder)]) == 1
    local = json.loads(capfd.readouterr().out)
    commands = remote["advice"].pop("commands"), local["advice"].pop("commands")
    assert remote == local
    assert [command[-1] for command in commands[0]] == [command[-1] for command in commands[1]]
    assert remote["history"]["changes"]["meaning"][0]["after"] == "init=/bin/sh"
    decision = remote["decision"]["decision"]
    assert run(["explain", decision, *options]) == 1


def test_only_an_operator_is_told(
    refused: AttestingClient, options: list[str], tmp_path: Path, http: httpx2.Client
) -> None:
    """Without the admin credential nobody learns what a node booted; unknown ones are not found."""
    node = refused.node.hex()
    assert http.get(f"/v1/admin/decisions/{node}/pieces").status_code == 401
    (tmp_path / "credential").write_text("wrong")
    assert run(["explain", node, *options]) == 1


def test_an_unknown_decision_is_not_found(
    running: VerifierProcess, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """A digest of nothing is wrong usage, over HTTP and in the folder."""
    for place in (options, ["--data", str(running.folder)]):
        assert run(["explain", "00" * 32, *place]) == 2
        assert "No decision of this digest is recorded" in capfd.readouterr().err


@pytest.mark.swtpm
def test_the_page_shows_what_is_printed() -> None:
    """docs/explain.md holds what agent and verifier print at each tampering."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "write_tamperings.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
