"""Partition tables."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate import partitions
from bootlease.bootstate.gpt import parse_gpt_data
from bootlease.errors import MalformedError
from bootlease.eventlog import EventType
from bootlease.model import Effect
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

GPT = efi.gpt_data("EFI System Partition")
KINDS = [EventType.EV_EFI_GPT_EVENT, EventType.EV_EFI_GPT_EVENT2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table(kind: int) -> None:
    """Disk and partitions of a verified table are told."""
    (table,) = partitions(attested_log(Measurement(5, kind, GPT))).tables
    assert str(table.disk) == "6f1f7c1e-2f0b-4d6b-9b52-7c5d1f3a9e01"
    (only,) = table.partitions
    assert (only.name, only.type) == ("EFI System Partition", efi.EFI_SYSTEM_PARTITION)
    assert (only.first, only.last) == (2048, 2048 + 262144 - 1)


def test_an_altered_table_is_refused() -> None:
    """Partitions that were not measured are none."""
    seen = partitions(attested_log(Measurement(5, KINDS[0], GPT, b"another")))
    assert seen.tables == ()
    assert [finding.id for finding in seen.findings] == ["boot.event.data-mismatch"]


@pytest.mark.parametrize(
    "body",
    [
        GPT[:99],
        b"XFI PART" + GPT[8:],
        GPT[:92] + struct.pack("<Q", 2**60) + GPT[100:],
        GPT[:92] + struct.pack("<Q", 2) + GPT[100:],
        GPT[:84] + struct.pack("<I", 0) + GPT[88:],
        GPT[:84] + struct.pack("<I", 127) + GPT[88:],
    ],
    ids=["truncated", "signature", "huge-count", "one-too-many", "entry-of-0", "small-entry"],
)
def test_malformed_tables(body: bytes) -> None:
    """A table that does not fit its event is noted and says nothing (D23)."""
    seen = partitions(attested_log(Measurement(5, KINDS[0], body)))
    assert seen.tables == ()
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.event.malformed-body", Effect.NOTES)


@given(st.integers(0, len(GPT) - 1), st.binary(max_size=20))
def test_any_bytes_parse_or_are_malformed(at: int, patch: bytes) -> None:
    """A table with bytes changed parses or is malformed, never another error."""
    body = GPT[:at] + patch + GPT[at + len(patch) :]
    try:
        parse_gpt_data(body)
    except MalformedError:
        return
