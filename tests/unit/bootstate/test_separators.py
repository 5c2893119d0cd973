"""Separators, and the hand-over to the operating system."""

from __future__ import annotations

import pytest

from bootlease.bootstate import exit_boot_services, separators
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import SeparatorState
from bootlease.eventlog import EventType
from bootlease.testing.measurements import Measurement, attested_log

SEPARATOR, ACTION = EventType.EV_SEPARATOR, EventType.EV_EFI_ACTION
SOUND = Measurement(4, SEPARATOR, bytes(4))
INVOKED = Measurement(5, ACTION, b"Exit Boot Services Invocation")
SUCCESS = Measurement(5, ACTION, b"Exit Boot Services Returned with Success")
FAILURE = Measurement(5, ACTION, b"Exit Boot Services Returned with Failure")
OTHER = Measurement(5, ACTION, b"something else")


@pytest.mark.parametrize(
    ("measurements", "state"),
    [
        ([SOUND], SeparatorState.SOUND),
        ([], SeparatorState.MISSING),
        ([SOUND, SOUND], SeparatorState.REPEATED),
        ([Measurement(4, SEPARATOR, b"\xff" * 4)], SeparatorState.ERROR),
        ([SOUND, Measurement(4, SEPARATOR, b"\xff" * 4)], SeparatorState.ERROR),
        ([Measurement(4, SEPARATOR, b"WBCL")], SeparatorState.INVALID),
        ([Measurement(4, SEPARATOR, bytes(5), bytes(4))], SeparatorState.INVALID),
        ([Measurement(4, ACTION, bytes(4))], SeparatorState.RETYPED),
        ([Measurement(4, ACTION, b"\xff" * 4)], SeparatorState.RETYPED),
        ([SOUND, Measurement(4, 0x8000_BEEF, b"x", bytes(4))], SeparatorState.RETYPED),
    ],
)
def test_states(measurements: list[Measurement], state: SeparatorState) -> None:
    """What is there is told, by type and by digest (D3, D4)."""
    (seen,) = separators(attested_log(*measurements, OTHER, attested=(4,)))
    assert (seen.pcr, seen.state) == (4, state)
    assert seen.events == tuple(range(1, len(measurements) + 1))


def test_only_attested_pcrs_that_must_have_one() -> None:
    """PCRs of the operating system need no separator."""
    seen = separators(attested_log(SOUND, attested=(0, 4, 9)))
    assert [(each.pcr, each.state) for each in seen] == [
        (0, SeparatorState.MISSING),
        (4, SeparatorState.SOUND),
    ]


def test_zeros_in_the_root_of_trust_are_no_separator() -> None:
    """Some firmware measures an empty part of its root of trust, which looks like a separator."""
    crtm = Measurement(0, EventType.EV_S_CRTM_CONTENTS, b"FIT Type 0x2D", bytes(4))
    end = Measurement(0, SEPARATOR, bytes(4))
    (seen,) = separators(attested_log(crtm, end, attested=(0,)))
    assert (seen.state, seen.events) == (SeparatorState.SOUND, (2,))
    elsewhere = Measurement(4, EventType.EV_S_CRTM_CONTENTS, b"FIT Type 0x2D", bytes(4))
    (seen,) = separators(attested_log(elsewhere, attested=(4,)))
    assert seen.state is SeparatorState.RETYPED


def test_registers_of_a_ccel_take_several() -> None:
    """A register stands for several PCRs and has a separator for each."""
    one = Measurement(1, SEPARATOR, bytes(4))
    seen = separators(attested_log(one, one, ccel=True))
    assert [(each.pcr, each.state) for each in seen] == [
        (1, SeparatorState.SOUND),
        (2, SeparatorState.MISSING),
    ]


@pytest.mark.parametrize(
    ("measurements", "state", "after"),
    [
        ([INVOKED, SUCCESS], Tri.ON, 0),
        ([INVOKED, FAILURE, INVOKED, SUCCESS], Tri.ON, 0),
        ([INVOKED, SUCCESS, OTHER], Tri.ON, 1),
        ([INVOKED, FAILURE], Tri.OFF, 0),
        ([INVOKED], Tri.OFF, 0),
        ([SUCCESS], Tri.OFF, 0),
        ([OTHER], Tri.OFF, 0),
    ],
)
def test_exit_boot_services(measurements: list[Measurement], state: Tri, after: int) -> None:
    """On only where it was invoked and last returned with success (D11)."""
    seen = exit_boot_services(attested_log(*measurements))
    assert (seen.state, seen.events_after) == (state, after)


def test_exit_boot_services_by_digest() -> None:
    """The words are known by their digest, whatever the record calls itself."""
    renamed = [Measurement(5, 0x8000_BEEF, b"?", each.data) for each in (INVOKED, SUCCESS)]
    seen = exit_boot_services(attested_log(*renamed))
    assert (seen.state, seen.invocations, seen.successes) == (Tri.ON, (1,), (2,))


def test_exit_boot_services_without_pcr5() -> None:
    """Without PCR 5 nobody knows."""
    assert exit_boot_services(attested_log(INVOKED, SUCCESS, attested=(4,))).state is Tri.UNKNOWN
