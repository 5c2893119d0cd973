"""The pytest fixtures as another project uses them: node, tampered node and verifier together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootlease.testing.examples import AUDIENCE, SCOPE
from bootlease.testing.node_on_swtpm import NodeOnSwtpm
from bootlease.testing.verifier_process import VerifierProcess, run_cli

pytestmark = pytest.mark.swtpm


def run_agent(
    node: NodeOnSwtpm, verifier: VerifierProcess, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Make one attempt to get a lease, with the command that an operator would type."""
    (folder / "log").write_bytes(node.event_log)
    (folder / "join.json").write_bytes(
        run_cli("verifier", "bundle", "--data", str(verifier.folder), "-o", "-")
    )
    return subprocess.run(
        [
            *(sys.executable, "-m", "bootlease", "node", "run", "--once"),
            *("--bundle", f"{folder}/join.json", "--tcti", node.tcti, "--log", f"{folder}/log"),
            *("--state", f"{folder}/agent", "--ek-algorithm", "ecc-p256"),
            *("--scope", SCOPE, "--audience", AUDIENCE, "--token-file", f"{folder}/token"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_simulated_node_gets_a_token(
    simulated_node: NodeOnSwtpm, verifier: VerifierProcess, tmp_path: Path
) -> None:
    """The verifier of the plugin accepts what the node of the plugin booted."""
    done = run_agent(simulated_node, verifier, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "token").stat().st_size > 0


def test_the_tampered_node_is_refused_by_the_event_that_differs(
    tampered_node: NodeOnSwtpm, verifier: VerifierProcess, tmp_path: Path
) -> None:
    """It gets no token, and the refusal shows the command line that it booted."""
    done = run_agent(tampered_node, verifier, tmp_path)
    assert done.returncode == 1
    assert "init=/bin/sh" in done.stderr
    assert "PCR 8" in done.stderr
    assert not (tmp_path / "token").exists()
