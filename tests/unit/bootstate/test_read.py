"""All aspects of a boot together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootlease.bootstate import AttestedLog, opaque_events, read_boot_state
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import OpaqueEvents, SeparatorState
from bootlease.errors import MalformedError
from bootlease.eventlog import EventRecord, EventType, parse_event_log, replay
from bootlease.eventlog.encode import encode_event_log
from bootlease.model import HashAlg, refusals
from bootlease.testing.boot import simulate_boot
from bootlease.testing.boot_description import load_boot_description
from bootlease.testing.measurements import Measurement, attested_log

BOOTS: Final = Path(__file__).resolve().parents[3] / "fixtures" / "boots"
BANK: Final = (HashAlg.SHA256,)
GRUB_BOOT, UKI_BOOT = (
    simulate_boot(load_boot_description(BOOTS / name), BANK)
    for name in ("grub-server.toml", "uki-machine.toml")
)


@pytest.mark.parametrize("boot", [GRUB_BOOT, UKI_BOOT], ids=["grub", "uki"])
def test_simulated_boots(boot: object) -> None:
    """A sound boot reads in every aspect, and nothing of it contradicts itself."""
    log = parse_event_log(boot.event_log)  # type: ignore[attr-defined]  # a SimulatedBoot
    state = read_boot_state(AttestedLog.of(replay(log), HashAlg.SHA256))
    assert state.findings == ()
    assert state.secure_boot.state is Tri.ON
    assert {each.state for each in state.separators} == {SeparatorState.SOUND}
    assert state.exit_boot_services.state is Tri.ON
    assert state.boot_options.order is not None
    assert len(state.partitions.tables) == 1
    assert state.boot_applications.images
    assert state.option_roms.images == ()
    assert state.firmware.version
    assert state.kernel_command_lines.lines
    assert state.opaque == ()
    assert state.quirks == ()


def test_nothing_attested_is_nothing_known() -> None:
    """Without attested PCRs no aspect claims anything."""
    replayed = replay(parse_event_log(GRUB_BOOT.event_log))
    state = read_boot_state(AttestedLog.of(replayed, HashAlg.SHA256, ()))
    assert state.secure_boot.state is Tri.UNKNOWN
    assert state.exit_boot_services.state is Tri.UNKNOWN
    assert (state.separators, state.findings, state.quirks) == ((), (), ())
    assert state.boot_applications.images == ()


def test_unknown_types_are_counted() -> None:
    """Events that no specification names are kept as digests, by PCR and type (C7)."""
    view = attested_log(
        Measurement(4, 0x8000_BEEF, b"a"),
        Measurement(4, 0x8000_BEEF, b"b"),
        Measurement(2, 0x8401, b"c"),
        Measurement(2, EventType.EV_EFI_ACTION, b"known"),
    )
    assert opaque_events(view) == (OpaqueEvents(2, 0x8401, 1), OpaqueEvents(4, 0x8000_BEEF, 2))


def test_an_altered_event_is_told_once() -> None:
    """Where an aspect says what is wrong with an event, the general finding is left out."""
    altered = Measurement(8, EventType.EV_IPL, b"grub_cmd: set x=2\0", b"set x=1")
    separator = Measurement(4, EventType.EV_SEPARATOR, bytes(5), bytes(4))
    state = read_boot_state(attested_log(separator, altered))
    assert [(each.event, each.id) for each in refusals(state.findings)] == [
        (1, "boot.event.data-mismatch"),
        (2, "boot.grub.altered-string"),
    ]


RECORDS: Final = (*GRUB_BOOT.events, *UKI_BOOT.events)
TYPES: Final = st.sampled_from([*map(int, EventType), 0x8000_BEEF])


@st.composite
def records(draw: st.DrawFn) -> EventRecord:
    """A record of a sound boot, its PCR, type, data and digest changed at will."""
    record = draw(st.sampled_from(RECORDS))
    data = bytearray(record.data)
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)
    true = draw(st.booleans())
    return EventRecord(
        draw(st.sampled_from([record.pcr, *range(16)])),
        draw(st.one_of(st.just(record.type), TYPES)),
        {HashAlg.SHA256: HashAlg.SHA256.digest(cut)} if true else record.digests,
        cut,
    )


@settings(max_examples=150)
@given(st.lists(records(), max_size=24), st.booleans())
def test_reading_never_raises(mutated: list[EventRecord], ccel: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever the events of a well-formed log hold, every aspect is read."""
    try:
        log = parse_event_log(encode_event_log(mutated, BANK), ccel=ccel)
    except MalformedError:
        return
    state = read_boot_state(AttestedLog.of(replay(log), HashAlg.SHA256))
    assert state == read_boot_state(AttestedLog.of(replay(log), HashAlg.SHA256))
