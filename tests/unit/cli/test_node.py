"""``bootlease node``: what is found wrong before any TPM or verifier is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.cli.node_run import _PrintedStatus
from bootlease.cli.standard_output import OutputError
from bootlease.node.state import StateDirectory
from bootlease.node.status import LeaseState, Status
from bootlease.testing.sealing import SealedLedger
from bootlease.testing.tokens import ISSUER, FakeIssuer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """``node run`` with everything but a log."""
    bundle = tmp_path / "join.json"
    keys = FakeIssuer().keys.to_jwks()
    bundle.write_text(
        json.dumps(
            {"v": 1, "issuer": ISSUER, "keys": keys, "ledger_key": str(SealedLedger.create().key)}
        )
    )
    return [
        *("node", "run", "--bundle", str(bundle), "--scope", "a", "--audience", "b"),
        *("--state", str(tmp_path / "state")),
    ]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"x" * 64, "is not a TCG event log: "),
        (b"x", "is not a TCG event log: "),
    ],
)
def test_log_that_is_none(
    command: list[str], tmp_path: Path, capfd: Capture, data: bytes, what: str
) -> None:
    """A file that is no log is named before a verifier would refuse it."""
    log = tmp_path / "log"
    log.write_bytes(data)
    assert run([*command, "--log", str(log)]) == 2
    assert f"--log {log} {what}" in capfd.readouterr().err


@pytest.mark.parametrize("tcti", ["foo", "foo:path=/x", "tabrmd-none:", ""])
def test_unknown_tcti(command: list[str], capfd: Capture, tcti: str) -> None:
    """A TCTI that no library serves is wrong usage, whatever becomes of the log."""
    assert run([*command, "--tcti", tcti]) == 2
    error = capfd.readouterr().err
    assert f"unknown TCTI {tcti!r}" in error
    assert "such as device:/dev/tpmrm0, swtpm:path=" in error
    assert "--log" not in error


def test_log_that_may_not_be_reached(
    command: list[str], tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that one may not enter is not called a file that does not exist."""
    locked = tmp_path / "locked" / "log"
    known = Path.stat

    def stat(path: Path, **options: bool) -> object:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return known(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert run([*command, "--log", str(locked)]) == 2
    assert f"cannot read {locked}: Permission denied" in capfd.readouterr().err
    assert run([*command, "--log", str(tmp_path / "none")]) == 2
    assert "does not exist" in capfd.readouterr().err
    assert run([*command, "--log", str(tmp_path)]) == 2
    assert "is a directory" in capfd.readouterr().err


@pytest.mark.parametrize("runs", [True, False])
def test_statuses_that_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, runs: bool
) -> None:
    """A running agent is told to stop, once; the status is published all the same."""
    told: list[int] = []

    def gone(_: str) -> None:
        raise OutputError(BrokenPipeError(32, "Broken pipe"))

    monkeypatch.setattr("bootlease.cli.node_run.click.echo", gone)
    monkeypatch.setattr("bootlease.cli.node_run.os.kill", lambda _, number: told.append(number))
    with StateDirectory(tmp_path / "state") as directory:
        printed = _PrintedStatus(directory, runs)
        for _ in range(2):
            printed.report(Status(LeaseState.NONE, ISSUER, 1, 1))
    assert (tmp_path / "state" / "status.json").exists()
    assert printed.lost is not None
    assert printed.lost.reader_gone
    assert told == ([15] if runs else [])


@pytest.mark.parametrize("option", ["bundle", "scope", "audience"])
def test_what_must_be_given_without_a_configuration(
    command: list[str], capfd: Capture, option: str
) -> None:
    """Without --config the options say what to keep, and each of these is needed."""
    place = command.index(f"--{option}")
    assert run([*command[:place], *command[place + 2 :]]) == 2
    assert f"Missing option '--{option}'" in capfd.readouterr().err


def test_options_beside_a_configuration(command: list[str], tmp_path: Path, capfd: Capture) -> None:
    """A configuration says everything: an option that would say it too is refused."""
    config = tmp_path / "agent.toml"
    assert run([*command, "--config", str(config)]) == 2
    assert "--bundle does not go with --config: the file says it" in capfd.readouterr().err
    assert run(["node", "run", "--config", str(config), "--log-format", "json"]) == 3
    assert f"cannot read configuration {config}" in capfd.readouterr().err
