"""DER, read strictly and without copies: what certificates and revocation lists are made of.

Specifications: ITU-T X.690 §8 and §10 (one encoding for each value); RFC 5280 §4.1.2.5 (times).

Everything is addressed within the bytes as they came: what a signature covers is a slice of them,
and nothing is decoded, repaired and encoded again (attack B13).

Not handled on purpose: tags above 30, indefinite lengths, lengths that are not minimal, constructed
strings, REAL, and times with fractions or zones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_HIGH_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MAX_LENGTH_OCTETS: Final = 4
_MAX_OID: Final = 64
_CONTINUES: Final = 0x80
_SECOND_ARCS: Final = 40
_JOINT_ARC: Final = 2
_UTC_LENGTH: Final = 13
_GENERALIZED_LENGTH: Final = 15
_UTC_PIVOT: Final = 50

_STRINGS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""UTF8String, NumericString, PrintableString, T61String, IA5String, VisibleString,
UniversalString and BMPString."""


@dataclass(frozen=True, slots=True)
class Element:
    """One tag, length and value within a buffer.

    Attributes:
        data: The buffer.
        tag: The identifier octet.
        start: Where the identifier octet is.
        content: Where the value begins.
        end: Where the value ends.
    """

    data: bytes
    tag: int
    start: int
    content: int
    end: int

    @property
    def encoded(self) -> bytes:
        """Tag, length and value."""
        return self.data[self.start : self.end]

    @property
    def value(self) -> bytes:
        """The value's bytes."""
        return self.data[self.content : self.end]

    def inside(self) -> Reader:
        """Return a reader of what the value holds."""
        return Reader(self.data, self.content, self.end)


class Reader:
    """Takes elements one after another.

    Args:
        data: Unverified bytes.
        at: Where to begin.
        end: Where to stop; ``None`` for the end of ``data``.
    """

    __slots__ = ("_data", "_end", "at")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._data = data
        self.at = at
        self._end = len(data) if end is None else end

    def next_tag(self) -> int | None:
        """Return the identifier octet that comes next, ``None`` at the end."""
        return self._data[self.at] if self.at < self._end else None

    def any(self, what: str) -> Element:
        """Take the next element, whatever its tag.

        Raises:
            MalformedError: There is none, or its header is not DER.
        """
        data, at, end = self._data, self.at, self._end
        if end - at < 2:  # noqa: PLR2004 - a tag and a length
            raise MalformedError(f"{what} is missing or cut short")
        tag, length = data[at], data[at + 1]
        content = at + 2
        if tag & _HIGH_TAG == _HIGH_TAG:
            raise MalformedError(f"{what} has a tag above 30")
        if length & _LONG_LENGTH:
            octets = length & ~_LONG_LENGTH
            if not 0 < octets <= _MAX_LENGTH_OCTETS or end - content < octets:
                raise MalformedError(f"{what} has a length that DER does not allow")
            length = int.from_bytes(data[content : content + octets], "big")
            if length < _LONG_LENGTH or length >> 8 * (octets - 1) == 0:
                raise MalformedError(f"{what} has a length that is not minimal")
            content += octets
        if length > end - content:
            raise MalformedError(f"{what} is longer than what holds it")
        self.at = content + length
        return Element(data, tag, at, content, self.at)

    def take(self, tag: int, what: str) -> Element:
        """Take the next element, of this tag.

        Raises:
            MalformedError: It is another, or malformed.
        """
        element = self.any(what)
        if element.tag != tag:
            raise MalformedError(f"{what} has tag 0x{element.tag:02x} where 0x{tag:02x} must be")
        return element

    def optional(self, tag: int, what: str) -> Element | None:
        """Take the next element if it has this tag."""
        return self.take(tag, what) if self.next_tag() == tag else None

    def rest(self, what: str) -> Iterator[Element]:
        """Take all that is left."""
        while self.at < self._end:
            yield self.any(what)

    def finish(self, what: str) -> None:
        """Refuse anything that is left.

        Raises:
            MalformedError: Something is left.
        """
        if self.at != self._end:
            raise MalformedError(f"{what} has {self._end - self.at} bytes too many")


def parse_one(data: bytes, tag: int, what: str) -> Element:
    """Parse bytes that are exactly one element of this tag.

    Raises:
        MalformedError: They are not.
    """
    reader = Reader(data)
    element = reader.take(tag, what)
    reader.finish(what)
    return element


def boolean(element: Element, what: str) -> bool:
    """Return a BOOLEAN's value."""
    if element.value not in (b"\x00", b"\xff"):
        raise MalformedError(f"{what} is no DER boolean")
    return element.value == b"\xff"


def integer(element: Element, what: str) -> int:
    """Return an INTEGER's value."""
    value = element.value
    if not value:
        raise MalformedError(f"{what} is an integer without digits")
    if len(value) > 1 and (
        (value[0] == 0 and not value[1] & 0x80) or (value[0] == 0xFF and value[1] & 0x80)  # noqa: PLR2004 - sign octets
    ):
        raise MalformedError(f"{what} is an integer that is not minimal")
    return int.from_bytes(value, "big", signed=True)


def object_identifier(element: Element, what: str) -> str:
    """Return an OBJECT IDENTIFIER in dotted form."""
    value = element.value
    if not 0 < len(value) <= _MAX_OID or value[-1] & _CONTINUES:
        raise MalformedError(f"{what} is no object identifier")
    arcs: list[int] = []
    arc, fresh = 0, True
    for octet in value:
        if fresh and octet == _CONTINUES:
            raise MalformedError(f"{what} is an object identifier that is not minimal")
        arc = arc << 7 | octet & 0x7F
        fresh = not octet & _CONTINUES
        if fresh:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // _SECOND_ARCS, _JOINT_ARC)
    return ".".join(map(str, (first, arcs[0] - first * _SECOND_ARCS, *arcs[1:])))


def whole_bytes(element: Element, what: str) -> bytes:
    """Return the bytes of a BIT STRING that has no unused bits.

    Nothing signs the count of unused bits in a signature: one certificate would have several forms.
    """
    value = element.value
    if not value or value[0] != 0:
        raise MalformedError(f"{what} is no string of whole bytes")
    return value[1:]


def named_bits(element: Element, what: str) -> int:
    """Return a BIT STRING of named bits as an integer in which bit 0 is the lowest."""
    value = element.value
    if not value or value[0] > 7 or (len(value) == 1 and value[0]):  # noqa: PLR2004 - bits of an octet
        raise MalformedError(f"{what} is no bit string")
    if len(value) > 1 and value[-1] & ((1 << value[0]) - 1):
        raise MalformedError(f"{what} has unused bits that are set")
    bits = 0
    for place, octet in enumerate(value[1:3]):
        bits |= int(f"{octet:08b}"[::-1], 2) << 8 * place
    return bits


def text(element: Element) -> str | None:
    """Return the text of a string, ``None`` where it is no string that decodes."""
    encoding = _STRINGS.get(element.tag)
    if encoding is None:
        return None
    try:
        return element.value.decode(encoding)
    except UnicodeDecodeError:
        return None


def time(element: Element, what: str) -> int:
    """Return a UTCTime or GeneralizedTime as seconds since the epoch."""
    value = element.value
    if element.tag == UTC_TIME and len(value) == _UTC_LENGTH:
        century = b"19" if value[:2] >= b"%d" % _UTC_PIVOT else b"20"
        value = century + value
    elif element.tag != GENERALIZED_TIME or len(value) != _GENERALIZED_LENGTH:
        raise MalformedError(f"{what} is no time that RFC 5280 allows")
    if not value[:-1].isdigit() or value[-1:] != b"Z":
        raise MalformedError(f"{what} is no time that RFC 5280 allows")
    numbers = (value[:4], *(value[at : at + 2] for at in range(4, 14, 2)))
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError as exc:
        raise MalformedError(f"{what} is no moment of any calendar") from exc
    return int(moment.timestamp())
