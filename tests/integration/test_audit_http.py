"""A lease's proof asked of a running verifier, and checked with nothing but its bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.verifier_process import VerifierProcess


@pytest.fixture
def options(running: VerifierProcess, tmp_path: Path) -> list[str]:
    """Lead a command to the running verifier."""
    credential = tmp_path / "credential"
    credential.write_text(running.credential)
    return ["--url", running.url, "--credential-file", str(credential)]


def test_a_running_verifier_gives_the_proof_of_a_lease(
    running: VerifierProcess,
    new_client: Callable[..., AttestingClient],
    options: list[str],
    tmp_path: Path,
) -> None:
    """The file that ``--url`` brings verifies, and holds the token that the node was given."""
    client = new_client()
    client.renew()
    lease = client.renew().leases[0]
    file, bundle = tmp_path / "lease.proof", tmp_path / "bundle.json"
    asked = ["ledger", "proof", lease.lease_id.hex(), *options, "--out", str(file)]
    assert run(asked) == 0
    assert lease.token in file.read_bytes()
    assert run(["verifier", "bundle", "--data", str(running.folder), "-o", str(bundle)]) == 0
    assert run(["ledger", "verify", str(file), "--trust", str(bundle)]) == 0


def test_only_an_operator_is_given_a_proof(
    running: VerifierProcess, options: list[str], tmp_path: Path
) -> None:
    """Without the admin credential nobody learns of a lease; an unknown one is not found."""
    (tmp_path / "credential").write_text("wrong")
    asked = ["ledger", "proof", "00" * 16, *options, "--out", str(tmp_path / "lease.proof")]
    assert run(asked) == 1
    (tmp_path / "credential").write_text(running.credential)
    for place in (options, ["--data", str(running.folder)]):
        assert run([*asked[:3], *place, *asked[-2:]]) == 2
    assert not (tmp_path / "lease.proof").exists()


def test_an_id_of_another_form_is_not_found(http: object, running: VerifierProcess) -> None:
    """The route takes 32 hex digits and nothing else."""
    answer = http.get(  # type: ignore[attr-defined]  # an httpx2 client
        "/v1/admin/leases/XYZ/proof", headers={"authorization": f"Bearer {running.credential}"}
    )
    assert answer.status_code == 404
