"""``bootlease policy check``: its output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.reference import DEFAULT_PCRS, learn, serialise_reference
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description, policy_text

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Write the example policy."""
    path = tmp_path / "policy.toml"
    path.write_text(policy_text())
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Write the set that it accepts."""
    log = replay(parse_event_log(simulate_boot(grub_description()).event_log))
    learned = learn(log, None, name="golden", version="1", bank=HashAlg.SHA256, pcrs=DEFAULT_PCRS)
    path = tmp_path / "golden.json"
    path.write_bytes(serialise_reference(learned))
    return path


def test_a_sound_policy_exits_with_0(policy: Path, reference: Path, capfd: Capture) -> None:
    """Alone, and with the sets that it accepts."""
    assert run(["policy", "check", str(policy)]) == 0
    assert run(["policy", "check", str(policy), "--reference", str(reference)]) == 0
    out, err = capfd.readouterr()
    assert out.count("a sound policy, digest ") == 2
    assert err == ""


def test_findings_exit_with_1(policy: Path, reference: Path, capfd: Capture) -> None:
    """One line for each, problems and what is unused told apart; JSON has the same."""
    policy.write_text(
        policy_text()
        .replace('"tool:search"', '"tool:search", "tool:*"')
        .replace(", 14]", "]")
        .replace('unsafe_shim_validation = "refuse"', 'unsafe_shim_validation = "note"')
        .replace('accept = ["golden"]', 'accept = ["golden", "gone"]')
    )
    command = ["policy", "check", str(policy), "--reference", str(reference)]
    assert run(command) == 1
    lines = capfd.readouterr().out.splitlines()
    assert "to be mended" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:]] == ["unused", "problem", "unused"]
    assert "[policy.check.reference-missing]" in lines[2]
    assert run([*command, "--json"]) == 1
    shown = json.loads(capfd.readouterr().out)
    assert [each["id"].rpartition(".")[2] for each in shown["findings"]] == [
        "scope-unused",
        "reference-missing",
        "pcr-unused",
    ]


def test_a_set_expires(policy: Path, reference: Path, capfd: Capture) -> None:
    """Whether it has is asked of the time that is given."""
    file = json.loads(reference.read_text())
    reference.write_text(json.dumps({**file, "not_after": 1000}))
    command = ["policy", "check", str(policy), "--reference", str(reference)]
    assert run([*command, "--now", "1000"]) == 0
    assert run([*command, "--now", "1001"]) == 1
    assert "expired at 1970-01-01 00:16:40 UTC" in capfd.readouterr().out
    assert run(command) == 1


def test_what_is_malformed_exits_with_2(policy: Path, reference: Path, capfd: Capture) -> None:
    """Policy or set, and the message names the file."""
    reference.write_text("{}")
    assert run(["policy", "check", str(policy), "--reference", str(reference)]) == 2
    assert str(reference) in capfd.readouterr().err
    policy.write_text("schema = 1\n")
    assert run(["policy", "check", str(policy)]) == 2
    assert "is missing" in capfd.readouterr().err


def test_report_only_is_remarked(policy: Path, capfd: Capture) -> None:
    """It is sound, but nobody gets a lease by it."""
    policy.write_text(policy_text().replace('"enforce"', '"report-only"'))
    assert run(["policy", "check", str(policy)]) == 0
    assert "nothing is issued" in capfd.readouterr().err
