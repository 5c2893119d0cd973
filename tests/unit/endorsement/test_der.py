"""DER: one encoding for each value, and no other is read."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootlease.endorsement import der
from bootlease.endorsement.der import Element, Reader
from bootlease.errors import MalformedError
from bootlease.testing import handmade


def element(encoded: bytes) -> Element:
    """Return the one element in some bytes."""
    reader = Reader(encoded)
    found = reader.any("it")
    reader.finish("it")
    return found


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "30",
        "3080",
        "308100",
        "30817f" + "00" * 127,
        "3082007f" + "00" * 127,
        "3085000000000100",
        "1f8101",
        "3003020101ff",
        "30840fffffff00",
        "3001",
    ],
)
def test_a_header_that_der_forbids_is_malformed(encoded: str) -> None:
    """Indefinite, long where short does, cut off, above tag 30: none of it is read."""
    with pytest.raises(MalformedError):
        element(bytes.fromhex(encoded))


def test_a_buffer_ends_where_its_holder_does() -> None:
    """An element inside another cannot reach beyond it."""
    outer = element(bytes.fromhex("3003020401"))
    with pytest.raises(MalformedError, match="longer than what holds it"):
        outer.inside().any("inner")


@example(-128)
@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_survive(value: int) -> None:
    """What is written is read."""
    assert der.integer(element(handmade.integer(value)), "it") == value


@pytest.mark.parametrize("value", ["", "0000", "007f", "ff80", "ffff"])
def test_an_integer_that_is_not_minimal_is_malformed(value: str) -> None:
    """Leading octets that say nothing would give one number several forms."""
    with pytest.raises(MalformedError):
        der.integer(element(handmade.tlv(2, bytes.fromhex(value))), "it")


@pytest.mark.parametrize("dotted", ["2.5.29.15", "1.2.840.10045.4.3.2", "2.23.133.8.1", "2.999.3"])
def test_object_identifiers_are_dotted(dotted: str) -> None:
    """Each arc in its place, the first two out of one."""
    assert der.object_identifier(element(handmade.oid(dotted)), "it") == dotted


@pytest.mark.parametrize("value", ["", "81", "2a8001", "2a" * 65])
def test_an_object_identifier_that_is_none_is_malformed(value: str) -> None:
    """Empty, cut off, padded, endless."""
    with pytest.raises(MalformedError):
        der.object_identifier(element(handmade.tlv(6, bytes.fromhex(value))), "it")


@pytest.mark.parametrize("value", ["", "01", "ff00", "fe"])
def test_a_boolean_has_two_values(value: str) -> None:
    """BER's other ways to say true are none."""
    with pytest.raises(MalformedError):
        der.boolean(element(handmade.tlv(1, bytes.fromhex(value))), "it")


@pytest.mark.parametrize("value", ["", "01", "0801", "0103", "07"])
def test_bits_that_are_no_bits_are_malformed(value: str) -> None:
    """Unused bits are at most seven, of an octet that is there, and clear."""
    with pytest.raises(MalformedError):
        der.named_bits(element(handmade.tlv(3, bytes.fromhex(value))), "it")


def test_named_bits_count_from_the_left() -> None:
    """Bit 0 is the first octet's highest."""
    assert der.named_bits(element(bytes.fromhex("03020780")), "it") == 1
    assert der.named_bits(element(bytes.fromhex("03020106")), "it") == (1 << 5) | (1 << 6)
    assert der.named_bits(element(bytes.fromhex("030100")), "it") == 0


@given(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2049, 12, 31)))  # noqa: DTZ001 - naive by design
def test_times_are_seconds(moment: dt.datetime) -> None:
    """Both forms mean the same second."""
    moment = moment.replace(microsecond=0, tzinfo=dt.UTC)
    for tag, form in ((der.UTC_TIME, "%y%m%d%H%M%SZ"), (der.GENERALIZED_TIME, "%Y%m%d%H%M%SZ")):
        encoded = handmade.tlv(tag, moment.strftime(form).encode())
        assert der.time(element(encoded), "it") == int(moment.timestamp())


def test_a_certificate_may_never_end() -> None:
    """RFC 5280's last second of the calendar is a time."""
    encoded = handmade.tlv(der.GENERALIZED_TIME, b"99991231235959Z")
    assert der.time(element(encoded), "it") == 253_402_300_799


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"2001010000Z"),
        (0x17, b"200101000000+0000"),
        (0x17, b"201301000000Z"),
        (0x17, b"200101000000z"),
        (0x17, b"2001010000 0Z"),
        (0x18, b"20200101000000.5Z"),
        (0x18, b"00000101000000Z"),
        (0x0C, b"200101000000Z"),
    ],
)
def test_a_time_of_another_form_is_malformed(tag: int, text: bytes) -> None:
    """Fractions, zones, no such month, another type."""
    with pytest.raises(MalformedError):
        der.time(element(handmade.tlv(tag, text)), "it")


@pytest.mark.parametrize(
    ("tag", "value", "text"),
    [
        (0x0C, "Zürich".encode(), "Zürich"),
        (0x13, b"CH", "CH"),
        (0x14, b"Z\xfcrich", "Zürich"),
        (0x1E, "Zürich".encode("utf-16-be"), "Zürich"),
        (0x0C, b"\xff", None),
        (0x04, b"CH", None),
    ],
)
def test_strings_are_read_by_their_type(tag: int, value: bytes, text: str | None) -> None:
    """What does not decode states nothing."""
    assert der.text(element(handmade.tlv(tag, value))) == text


@given(st.binary(max_size=200))
def test_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Walking through anything ends, in elements or in the one error."""

    def walk(reader: Reader, depth: int) -> None:
        for each in reader.rest("it"):
            for read in (der.integer, der.boolean, der.object_identifier, der.time, der.named_bits):
                with contextlib.suppress(MalformedError):
                    read(each, "it")
            der.text(each)
            if depth < 8:
                walk(each.inside(), depth + 1)

    try:
        walk(Reader(data), 0)
    except MalformedError:
        return
