"""Boot order and boot options."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.bootstate import boot_options
from bootlease.bootstate.options import parse_load_option
from bootlease.errors import MalformedError
from bootlease.eventlog import EventType
from bootlease.model import Effect
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

BOOT = EventType.EV_EFI_VARIABLE_BOOT
OPTION = efi.load_option("Linux", "\\EFI\\debian\\shimx64.efi")


def variable(name: str, value: bytes, *, named: bool = True, pcr: int = 1) -> Measurement:
    """A boot variable, its digest over all of it or over the value alone."""
    data = efi.variable_data(efi.GLOBAL_VARIABLE, name, value)
    return Measurement(pcr, BOOT, data, data if named else value)


@pytest.mark.parametrize("named", [True, False], ids=["name-and-value", "value-alone"])
@pytest.mark.parametrize("pcr", [1, 5])
def test_order_and_options(named: bool, pcr: int) -> None:  # noqa: FBT001 - the case itself
    """Order and options are read, and whether their names are proven is told."""
    seen = boot_options(
        attested_log(
            variable("BootOrder", b"\x02\x00\x01\x00", named=named, pcr=pcr),
            variable("Boot0002", OPTION + b"more", named=named, pcr=pcr),
        )
    )
    assert (seen.order, seen.order_name_verified) == ((2, 1), named)
    (option,) = seen.options
    assert (option.name, option.name_verified, option.active) == ("Boot0002", named, True)
    assert (option.description, option.optional_data) == ("Linux", b"more")
    assert option.device_path.endswith("/\\EFI\\debian\\shimx64.efi")
    assert seen.findings == ()


def test_two_orders_are_none() -> None:
    """An order measured twice leaves the choice to nobody."""
    view = attested_log(*[variable("BootOrder", bytes([n, 0])) for n in (1, 2, 3)])
    assert boot_options(view).order is None


def test_other_variables_are_left_alone() -> None:
    """Other names and namespaces are no boot options."""
    other = efi.variable_data(efi.SHIM_LOCK, "Boot0001", OPTION)
    seen = boot_options(attested_log(variable("Bootleg01", OPTION), Measurement(1, BOOT, other)))
    assert (seen.order, seen.options, seen.findings) == (None, (), ())


def test_an_altered_option_is_refused() -> None:
    """An option that was not measured is none."""
    data = efi.variable_data(efi.GLOBAL_VARIABLE, "BootOrder", b"\1\0")
    seen = boot_options(attested_log(Measurement(1, BOOT, data, b"\2\0")))
    assert (seen.order, [finding.id for finding in seen.findings]) == (
        None,
        ["boot.event.data-mismatch"],
    )


@pytest.mark.parametrize(
    "value",
    [
        b"\1",
        struct.pack("<IH", 1, 0) + b"A\0",
        struct.pack("<IH", 1, 9) + b"A\0\0\0",
        struct.pack("<IH", 1, 4) + b"A\0\0\0" + bytes(4),
    ],
    ids=["truncated", "endless-title", "path-beyond", "bad-path"],
)
def test_malformed_options(value: bytes) -> None:
    """An option that cannot be read is noted (D23)."""
    seen = boot_options(attested_log(variable("Boot0001", value)))
    assert seen.options == ()
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.event.malformed-body", Effect.NOTES)


@pytest.mark.parametrize("body", [b"short", efi.GLOBAL_VARIABLE.bytes_le + b"\xff" * 16])
def test_bodies_that_are_no_variable(body: bytes) -> None:
    """A body that is no variable is noted (D23)."""
    seen = boot_options(attested_log(Measurement(1, BOOT, body)))
    assert [finding.id for finding in seen.findings] == ["boot.event.malformed-body"]


def test_an_order_of_odd_length() -> None:
    """A boot order is a list of 16-bit numbers."""
    seen = boot_options(attested_log(variable("BootOrder", b"\1")))
    assert [finding.id for finding in seen.findings] == ["boot.event.malformed-body"]


def test_titles_end_at_a_whole_character() -> None:
    """A NUL made of two halves of characters ends no title."""
    title = "\u0100\u0001"
    value = struct.pack("<IH", 0, 0) + efi.utf16(title)
    assert parse_load_option(value).description == title


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_are_malformed(raw: bytes) -> None:
    """Bytes are a boot option or malformed, never another error."""
    for value in (raw, OPTION[: len(raw)] + raw):
        try:
            parse_load_option(value)
        except MalformedError:
            continue
