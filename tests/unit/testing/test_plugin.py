"""The pytest plugin costs nothing where it is not used, and works outside this project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_FOREIGN_TEST = """
from bootlease.model import HashAlg


def test_boot(simulated_node, tampered_node):
    selection = {HashAlg.SHA256: [8]}
    good = simulated_node.device.read_pcrs(selection)
    assert good != tampered_node.device.read_pcrs(selection)
    assert simulated_node.event_log
"""


def test_plugin_imports_nothing_heavy() -> None:
    """Loading the plugin brings in neither the TPM stack nor cryptography."""
    code = (
        "import bootlease.testing.plugin, sys\n"
        "heavy = {'tpm2_pytss', 'cryptography', 'cbor2', 'fastapi', 'sqlalchemy'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def _run_foreign(folder: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    (folder / "test_foreign.py").write_text(_FOREIGN_TEST, encoding="utf-8")
    environment = {"PATH": path} if path is not None else None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env=environment,
    )


@pytest.mark.swtpm
def test_other_project_gets_booted_nodes(tmp_path: Path) -> None:
    """A project that knows nothing of this one's tests uses the fixtures as they are."""
    done = _run_foreign(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_missing_swtpm_fails_and_does_not_skip(tmp_path: Path) -> None:
    """Without swtpm the test is an error that says what to install."""
    done = _run_foreign(tmp_path, path="/nonexistent")
    assert done.returncode == 1
    assert "1 error" in done.stdout
    assert "apt install swtpm-tools" in done.stdout
