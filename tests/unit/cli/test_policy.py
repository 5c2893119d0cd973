"""``bootlease policy check``: its output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.cli.admin import CREDENTIAL_VARIABLE
from bootlease.cli.admin_client import AdminClient
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg
from bootlease.policy import parse_policy
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
        .replace(", 14]", "]")
        .replace('unsafe_shim_validation = "refuse"', 'unsafe_shim_validation = "note"')
        .replace('accept = ["golden"]', 'accept = ["golden", "gone"]')
    )
    command = ["policy", "check", str(policy), "--reference", str(reference)]
    assert run(command) == 1
    lines = capfd.readouterr().out.splitlines()
    assert "to be mended" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:]] == ["problem", "unused"]
    assert "[policy.check.reference-missing]" in lines[1]
    assert run([*command, "--json"]) == 1
    shown = json.loads(capfd.readouterr().out)
    assert [each["id"].rpartition(".")[2] for each in shown["findings"]] == [
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


def test_cedar_policies_may_be_in_a_file_of_their_own(
    policy: Path, tmp_path: Path, capfd: Capture
) -> None:
    """One document comes of both, the same as if they had been in one file; never of two."""
    whole = policy_text()
    at = whole.index("[authorization]")
    policy.write_text(whole[:at])
    assert run(["policy", "check", str(policy)]) == 2
    assert "authorization is missing" in capfd.readouterr().err
    cedar = tmp_path / "scopes.cedar"
    cedar.write_text(parse_policy(whole).authorization.cedar)
    command = ["policy", "check", str(policy), "--cedar", str(cedar)]
    assert run(command) == 0
    assert parse_policy(whole).digest.hex() in capfd.readouterr().out
    policy.write_text(whole)
    assert run(command) == 2
    assert "given besides" in capfd.readouterr().err
    cedar.write_bytes(b"\xff")
    policy.write_text(whole[:at])
    assert run(command) == 2
    assert f"{cedar} is not UTF-8" in capfd.readouterr().err


def test_schemas_are_printed(capfd: Capture) -> None:
    """Of the file, and of the Cedar policies in it, as they are published."""
    docs = Path(__file__).parents[3] / "docs"
    assert run(["policy", "schema"]) == 0
    assert capfd.readouterr().out == (docs / "policy.schema.json").read_text()
    assert run(["policy", "schema", "--cedar"]) == 0
    assert capfd.readouterr().out == (docs / "policy.cedarschema").read_text()


@pytest.mark.parametrize(
    ("options", "route"),
    [([], "/v1/admin/policies"), (["--revoke-now"], "/v1/admin/policies?revoke_now=1")],
)
def test_a_policy_is_activated_whole(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    route: str,
) -> None:
    """With the Cedar policies of the other file in it, and the operator's wish to revoke."""
    sent: list[tuple[str, bytes]] = []

    def post(_client: AdminClient, path: str, body: bytes, *_: object) -> dict[str, object]:
        sent.append((path, body))
        return {"id": "example", "epoch": 2}

    monkeypatch.setattr(AdminClient, "post", post)
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "the-credential")
    whole = parse_policy(policy_text())
    policy.write_text(policy_text()[: policy_text().index("[authorization]")])
    cedar = tmp_path / "scopes.cedar"
    cedar.write_text(whole.authorization.cedar)
    command = ["policy", "activate", str(policy), "--verifier", "http://127.0.0.1:1"]
    assert run([*command, "--cedar", str(cedar), *options]) == 0
    ((path, body),) = sent
    assert path == route
    assert parse_policy(body).digest == whole.digest
