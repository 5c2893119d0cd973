"""``bootlease eventlog show``: what a log means, as text and as JSON."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from bootlease.cli.eventlog import eventlog
from bootlease.eventlog import EventRecord, EventType, encode_event_log, encode_sha1_event
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = HashAlg.SHA256
IPL = EventType.EV_IPL
ESCAPE = "\x1b[31m"


def record(pcr: int, kind: int, data: bytes, measured: bytes | None = None) -> EventRecord:
    """A record, with the digest of its data or of something else."""
    digest = SHA256.digest(data if measured is None else measured)
    return EventRecord(pcr, kind, {SHA256: digest}, data)


def variable(name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA in the global namespace."""
    guid = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
    encoded = name.encode("utf-16-le")
    return guid + struct.pack("<QQ", len(name), len(value)) + encoded + value


def sipa(kind: int, data: bytes) -> bytes:
    """A SIPA event of Windows."""
    return struct.pack("<II", kind, len(data)) + data


RECORDS = [
    record(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1")),
    record(7, EventType.EV_SEPARATOR, bytes(4)),
    record(8, IPL, b"grub_cmd: linux /k ro\0", b"linux /k ro"),
    record(8, IPL, b"kernel_cmdline: /k ro\0", b"/k ro"),
    record(9, IPL, f"/k{ESCAPE}\0".encode(), b"a kernel"),
    record(11, IPL, ".cmdline\0".encode("utf-16-le"), b".cmdline\0"),
    record(11, IPL, ".cmdline\0".encode("utf-16-le"), b"quiet"),
    record(12, IPL, "Credentials initrd\0".encode("utf-16-le"), b"credentials"),
    record(12, EventType.EV_EVENT_TAG, sipa(0x40010001, sipa(0x00050003, b"\1"))),
    record(10, 0xBEEF, b"x"),
]


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log of many boot loaders."""
    path = tmp_path / "log"
    path.write_bytes(encode_event_log(RECORDS, [SHA256]))
    return path


def text(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(eventlog, ["show", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def shown(*arguments: str) -> dict[str, Any]:
    """What the command prints as JSON."""
    document: dict[str, Any] = json.loads(text("--json", *arguments))
    return document


def sections(output: str) -> dict[str, list[str]]:
    """The lines of each section by its heading."""
    found: dict[str, list[str]] = {}
    for block in output.split("\n\n")[2:]:
        heading, *lines = block.splitlines()
        found[heading] = [line.strip() for line in lines]
    return found


def test_it_says_that_nothing_is_attested(log_file: Path) -> None:
    """Between the events and their meaning stands that no quote was given."""
    assert text(str(log_file)).split("\n\n")[1] == (
        "What this means, by bank sha256. Nothing is attested: no quote was given."
    )
    assert shown(str(log_file))["attested"] is False


def test_sections(log_file: Path) -> None:
    """Each aspect that the log speaks of has its section, in the words of a person."""
    found = sections(text(str(log_file)))
    digest = SHA256.digest(b"quiet").hex()[:16]
    assert "state: on" in found["Secure Boot"]
    assert found["GRUB"][0] == "2 strings and 1 file"
    assert found["Unified kernel image"][0] == f"event 7: .cmdline {digest}"
    assert found["Kernel command lines"] == [
        "event 4, GRUB: BOOT_IMAGE=/k ro",
        f"event 7, .cmdline of the image: text not in the log, digest {digest}",
        "not readable, and perhaps command lines: events 8",
    ]
    assert "test signing: on" in found["Windows"][0]
    assert found["Events of unknown types"] == ["PCR 10: 1 event of type 0x0000beef"]
    assert "Partitions" not in found


def test_text_of_a_log_is_escaped(log_file: Path) -> None:
    """A name that would drive a terminal is shown as what it is."""
    output = text(str(log_file))
    assert ESCAPE not in output
    assert r"(/k\x1b[31m)" in output


def test_contradictions_are_named(tmp_path: Path) -> None:
    """A log whose words are not what was measured says so at its end."""
    path = tmp_path / "log"
    forged = record(8, IPL, b"kernel_cmdline: /k ro\0", b"/k ro init=/bin/sh")
    path.write_bytes(encode_event_log([forged], [SHA256]))
    (line,) = sections(text(str(path)))["Contradictions"]
    assert line.endswith("[boot.grub.altered-string]")


def test_pcrs_limit_what_counts(log_file: Path) -> None:
    """With --pcrs, events and meaning are those of these PCRs alone."""
    output = text(str(log_file), "--pcrs", "7,11")
    assert "PCR  8" not in output
    assert "PCRs 7, 11 alone, bank sha256" in output
    assert [event["pcr"] for event in shown(str(log_file), "--pcrs", "7")["events"]] == [7, 7]
    meaning = shown(str(log_file), "--pcrs", "8")["meaning"]
    assert meaning["secure_boot"]["state"] == "unknown"
    assert meaning["kernel_command_lines"]["unattested"] == [9, 11, 12]


def test_json(log_file: Path) -> None:
    """The JSON form has every aspect, texts as text and digests in hex."""
    document = shown(str(log_file))
    meaning = document["meaning"]
    assert document["meaning_bank"] == "sha256"
    line = meaning["kernel_command_lines"]["lines"][0]
    assert line == {
        "event": 4,
        "pcr": 8,
        "source": "grub",
        "text": "BOOT_IMAGE=/k ro",
        "digest": SHA256.digest(b"/k ro").hex(),
        "confirmed_by": None,
        "image": "/k",
        "parameters": ["ro"],
        "other_readings": [],
        "too_long": False,
    }
    assert meaning["secure_boot"]["pk"] is None
    assert meaning["windows"]["test_signing"] == "on"
    assert meaning["grub"]["strings"][0]["text"] == "linux /k ro"
    assert meaning["opaque"] == [{"pcr": 10, "type": 0xBEEF, "count": 1}]


def test_a_log_of_unknown_banks_has_no_meaning(tmp_path: Path) -> None:
    """Where no digest can be computed, events are shown and nothing is made of them."""
    body = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1)
    body += struct.pack("<HH", 0x99, 4) + b"\0"
    log = encode_sha1_event(0, EventType.EV_NO_ACTION, bytes(20), body)
    path = tmp_path / "log"
    path.write_bytes(log + struct.pack("<IIIHII", 4, 5, 1, 0x99, 0, 0))
    assert "What this means is not known" in text(str(path))
    document = shown(str(path))
    assert (document["meaning"], document["meaning_bank"]) == (None, None)
    assert len(document["events"]) == 2
