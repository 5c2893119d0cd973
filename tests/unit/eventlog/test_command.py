"""The commands ``bootlease eventlog show`` and ``replay``."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bootlease.cli import run as command_line
from bootlease.cli.eventlog import eventlog
from bootlease.errors import MalformedError
from bootlease.eventlog import (
    EventRecord,
    EventType,
    encode_event_log,
    encode_sha1_event,
    encode_spec_id_event,
    encode_startup_locality,
)
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from pathlib import Path

BANKS = (HashAlg.SHA1, HashAlg.SHA256)


def record(pcr: int, data: bytes, kind: int = EventType.EV_EFI_ACTION) -> EventRecord:
    """A truthful record."""
    return EventRecord(pcr, kind, {bank: bank.digest(data) for bank in BANKS}, data)


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log with an honest record and one whose data was changed."""
    changed = EventRecord(5, EventType.EV_EFI_ACTION, record(5, b"honest").digests, b"changed")
    path = tmp_path / "log"
    path.write_bytes(encode_event_log([record(4, b"Calling"), changed], BANKS))
    return path


def run(*arguments: str, stdin: bytes | None = None) -> str:
    """Run a command that must succeed and return what it printed."""
    result = CliRunner().invoke(eventlog, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_prints_a_line_for_each_event(log_file: Path) -> None:
    """A line has number, PCR, type, digest prefix and phrase; changed data is marked."""
    events = run("show", str(log_file)).partition("\n\n")[0]
    header, honest, changed = events.splitlines()
    assert header.split()[:5] == ["0", "PCR", "0", "EV_NO_ACTION", "-"]
    assert header.endswith("  log header: Spec ID Event03")
    prefix = HashAlg.SHA256.digest(b"Calling").hex()[:16]
    assert honest.split() == ["1", "PCR", "4", "EV_EFI_ACTION", prefix, "action:", "Calling"]
    assert changed.endswith("action: changed  [its data is not what was measured]")


def test_show_json(log_file: Path) -> None:
    """The JSON form has every digest and says which data is covered."""
    shown = json.loads(run("show", "--json", str(log_file)))
    assert shown["format"] == "agile"
    assert shown["banks"] == ["sha1", "sha256"]
    assert [event["covered"] for event in shown["events"]] == [None, "whole", None]
    assert shown["events"][1] == {
        "number": 1,
        "pcr": 4,
        "type": 0x8000_0007,
        "type_name": "EV_EFI_ACTION",
        "digests": {bank.label: bank.digest(b"Calling").hex() for bank in BANKS},
        "unverified_data": b"Calling".hex(),
        "covered": "whole",
        "description": "action: Calling",
    }


def test_replay_json() -> None:
    """The stable form has banks, count of events and startup locality, and nothing else."""
    banks = [HashAlg.SHA256]
    log = encode_spec_id_event(banks) + encode_startup_locality(3, banks)
    assert json.loads(run("replay", "--json", "-", stdin=log)) == {
        "banks": {"sha256": {}},
        "events": 2,
        "startup_locality": 3,
    }


def test_replay_prints_pcrs(log_file: Path) -> None:
    """Without --json every PCR has a line of its own."""
    value = HashAlg.SHA256.digest(bytes(32) + HashAlg.SHA256.digest(b"Calling")).hex()
    assert f"sha256:4   {value}" in run("replay", str(log_file)).splitlines()


def test_an_unknown_bank_is_named() -> None:
    """A bank that cannot be replayed is named by its algorithm id in both forms."""
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1)
    body += struct.pack("<HH", 0x99, 4) + b"\0"
    log = encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body)
    log += struct.pack("<IIIHII", 4, 5, 1, 0x99, 0, 0)
    assert "alg_0x0099: not replayed" in run("replay", "-", stdin=log)
    assert json.loads(run("replay", "--json", "-", stdin=log))["unreplayed"] == ["alg_0x0099"]
    assert "EV_ACTION" in run("show", "-", stdin=log)


def test_ccel_can_be_forced() -> None:
    """--ccel reads a log as a CCEL whatever its header says."""
    log = encode_event_log([record(1, b"a")], BANKS) + b"\xff" * 32
    assert "  MR  1  EV_EFI_ACTION" in run("show", "--ccel", "-", stdin=log)
    assert json.loads(run("replay", "--ccel", "--json", "-", stdin=log))["events"] == 2


@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_malformed_log(command: str) -> None:
    """A malformed log raises the one error that exit code 2 stands for."""
    result = CliRunner().invoke(eventlog, [command, "-"], input=b"not a log")
    assert isinstance(result.exception, MalformedError)
    assert result.stdout == ""


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a usage error."""
    result = CliRunner().invoke(eventlog, ["show", str(tmp_path / "absent")])
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["show", "replay"])
def test_what_is_no_log_is_named(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file is named and the place in it kept; nothing stands on standard output."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"x" * 64)
    assert command_line(["eventlog", command, str(path), "--json"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"bootlease: error: {path} is not a TCG event log: ")
    assert "(at byte " in err
