"""What shim measured of itself."""

from __future__ import annotations

import pytest

from bootlease.bootstate import parse_sbat_level, shim_state
from bootlease.bootstate.keyfacts import SBATLevel, ShimState
from bootlease.bootstate.tri import Tri
from bootlease.eventlog import EventType
from bootlease.model import Effect, HashAlg
from bootlease.testing import efi
from bootlease.testing.measurements import Measurement, attested_log

AUTHORITY, IPL = EventType.EV_EFI_VARIABLE_AUTHORITY, EventType.EV_IPL
LEVEL = b"sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n"


def proven(name: str, value: bytes) -> Measurement:
    """A variable that shim measures with its name, into PCR 7."""
    return Measurement(7, AUTHORITY, efi.variable_data(efi.SHIM_LOCK, name, value))


def named(name: bytes, content: bytes) -> Measurement:
    """A variable that shim measures under a logged name, into PCR 14."""
    return Measurement(14, IPL, name + b"\0", content)


LISTS = (named(b"MokList", b"list"), named(b"MokListX", b"forbidden"))


def read(*measurements: Measurement) -> ShimState:
    """Read a log in which all PCRs are attested."""
    return shim_state(attested_log(*measurements))


def test_a_whole_boot() -> None:
    """Revocation list, the owner's lists and switches of a sound log are read."""
    seen = read(
        proven("SbatLevel", LEVEL),
        proven("MokListTrusted", b"\x01"),
        *LISTS,
        named(b"MokListTrusted", b"\x01"),
    )
    assert seen.present is Tri.ON
    assert seen.sbat_level is not None
    assert seen.sbat_level.generation("grub") == 3
    assert seen.sbat_level.generation("systemd-boot") is None
    assert seen.mok_list == HashAlg.SHA256.digest(b"list")
    assert seen.mok_list_x == HashAlg.SHA256.digest(b"forbidden")
    assert (seen.mok_list_trusted, seen.validation_disabled) == (Tri.ON, Tri.OFF)
    assert [(each.pcr, each.name) for each in seen.variables] == [
        (7, "SbatLevel"),
        (7, "MokListTrusted"),
        (14, "MokList"),
        (14, "MokListX"),
        (14, "MokListTrusted"),
    ]
    assert seen.findings == ()


def test_without_shim() -> None:
    """A log without shim's marks says nothing of it."""
    seen = read(Measurement(4, EventType.EV_EFI_ACTION, b"x"))
    assert (seen.present, seen.validation_disabled) == (Tri.UNKNOWN, Tri.UNKNOWN)


def test_validation_disabled_by_a_proven_switch() -> None:
    """MokSBState turns validation off (D7)."""
    assert read(proven("MokSBState", b"\x01"), *LISTS).validation_disabled is Tri.ON
    assert read(proven("MokSBState", b"\x00"), *LISTS).validation_disabled is Tri.OFF


@pytest.mark.parametrize("content", [b"\x01", b"?"])
def test_validation_disabled_by_a_name_in_pcr14(content: bytes) -> None:
    """A name that no digest covers may make matters worse, never better."""
    assert read(*LISTS, named(b"MokSBState", content)).validation_disabled is Tri.ON


def test_validation_without_pcr7() -> None:
    """Without PCR 7, nobody can say that validation was on."""
    seen = shim_state(attested_log(*LISTS, attested=(14,)))
    assert (seen.present, seen.validation_disabled) == (Tri.ON, Tri.UNKNOWN)


def test_lists_count_only_where_shim_puts_them() -> None:
    """A list that the system extends later, under shim's name, is not the owner's."""
    seen = read(named(b"MokListX", b"real"), named(b"MokList", b"late"))
    assert (seen.mok_list, seen.mok_list_x) == (None, None)
    seen = read(*LISTS, named(b"MokList", b"late"))
    assert (seen.mok_list, seen.mok_list_x) == (None, HashAlg.SHA256.digest(b"forbidden"))
    seen = read(named(b"something else", b"?"), *LISTS)
    assert seen.mok_list is None


def test_lists_of_a_ccel_share_their_register() -> None:
    """In a CCEL, other boot loaders' events stand in the same register."""
    lists = [Measurement(3, IPL, each.data, each.measured) for each in LISTS]
    seen = shim_state(
        attested_log(Measurement(3, IPL, b"grub_cmd: ls\0", b"ls"), *lists, ccel=True)
    )
    assert seen.mok_list == HashAlg.SHA256.digest(b"list")


def test_an_unnamed_shim_is_known_by_its_authorities() -> None:
    """An authority without its owner was logged by shim, though nothing else was."""
    data = efi.variable_data(efi.IMAGE_SECURITY_DATABASE, "db", b"h" * 32)
    seen = read(Measurement(7, AUTHORITY, data))
    assert (seen.present, seen.variables) == (Tri.ON, ())


@pytest.mark.parametrize(
    "levels",
    [(b"\xff",), (LEVEL, b"sbat,1,2021030218\n")],
    ids=["unreadable", "two-that-differ"],
)
def test_an_unreadable_level_is_unknown(levels: tuple[bytes, ...]) -> None:
    """A list that is none, or two that differ, leave the level unknown, and noted."""
    seen = read(*[proven("SbatLevel", level) for level in levels])
    assert seen.sbat_level is None
    (finding,) = seen.findings
    assert (finding.id, finding.effect) == ("boot.shim.sbat-level-unreadable", Effect.NOTES)


def test_sbat_levels() -> None:
    """The date stands in the first line, generations in all."""
    generations = (("sbat", 1), ("shim", 2), ("grub", 3), ("grub.debian", 4))
    assert parse_sbat_level(LEVEL) == SBATLevel("2023012900", generations)
    assert parse_sbat_level(b"sbat,1\0") == SBATLevel("", (("sbat", 1),))


@pytest.mark.parametrize(
    "value",
    [b"", b"shim,2\n", b"sbat,x\n", b"sbat,1\nshim,2\nshim,3\n", b"sbat,1\n\xe4,2\n", b"s" * 5000],
)
def test_what_is_no_sbat_level(value: bytes) -> None:
    """Anything else is no revocation list; a component named twice leaves the choice to no one."""
    assert parse_sbat_level(value) is None
