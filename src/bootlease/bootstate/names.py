"""The names in an X.509 certificate, and nothing else of it.

Specifications: RFC 5280 §4.1 (certificate), ITU-T X.690 §8 (DER), RFC 4514 (names as text).

    Certificate ::= SEQUENCE { SEQUENCE { [0] version OPTIONAL, INTEGER serial, SEQUENCE algorithm,
                                          Name issuer, SEQUENCE validity, Name subject, … }, … }
    Name        ::= SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, string }

Keys in firmware are what vendors shipped: negative serial numbers, country codes of three letters,
extensions twice. Libraries refuse some of these today and others tomorrow, while a decision must be
replayed in years with the same result. So the two names are read here, and only to be shown and
compared as text; trust follows from the certificate's bytes.
"""

from __future__ import annotations

from typing import Final

from bootlease.errors import MalformedError

_SEQUENCE, _SET, _INTEGER, _OID, _VERSION = 0x30, 0x31, 0x02, 0x06, 0xA0
_LONG_FORM: Final = 0x80
_MAX_LENGTH_BYTES: Final = 3
_MAX_ATTRIBUTES: Final = 64
_MAX_TEXT: Final = 1024

_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x12: "latin-1",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_SHORT_NAMES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_SPECIAL: Final = frozenset(',+"\\<>;')


def parse_names(der: bytes) -> tuple[str, str]:
    """Return subject and issuer of a certificate in RFC 4514 form.

    Args:
        der: Unverified bytes of one certificate and nothing else.

    Raises:
        MalformedError: The bytes are no certificate as far as its names.
    """
    start, end = _expect(der, 0, len(der), _SEQUENCE)
    if end != len(der):
        raise MalformedError("bytes behind a certificate")
    position, end = _expect(der, start, end, _SEQUENCE)
    tag, value, after = _element(der, position, end)
    if tag == _VERSION:
        tag, value, after = _element(der, after, end)
    if tag != _INTEGER:
        raise MalformedError("a certificate without a serial number", offset=value)
    _, position = _expect(der, after, end, _SEQUENCE)
    issuer_start, issuer_end = _expect(der, position, end, _SEQUENCE)
    _, position = _expect(der, issuer_end, end, _SEQUENCE)
    subject_start, subject_end = _expect(der, position, end, _SEQUENCE)
    return _name(der, subject_start, subject_end), _name(der, issuer_start, issuer_end)


def _element(der: bytes, position: int, end: int) -> tuple[int, int, int]:
    """Return tag, start of the value and end of the element at ``position``."""
    if position + 2 > end:
        raise MalformedError("a certificate is truncated", offset=position)
    tag, length = der[position], der[position + 1]
    start = position + 2
    if length >= _LONG_FORM:
        size = length - _LONG_FORM
        if not 0 < size <= _MAX_LENGTH_BYTES or start + size > end:
            raise MalformedError("an impossible length in a certificate", offset=position)
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if start + length > end:
        raise MalformedError("an element of a certificate ends beyond it", offset=position)
    return tag, start, start + length


def _expect(der: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    found, start, stop = _element(der, position, end)
    if found != tag:
        raise MalformedError(f"tag {found} in a certificate where {tag} belongs", offset=position)
    return start, stop


def _name(der: bytes, position: int, end: int) -> str:
    """Return a Name as text, the last relative name first (RFC 4514 §2.1)."""
    relative: list[str] = []
    attributes = 0
    while position < end:
        inner, position = _expect(der, position, end, _SET)
        parts: list[str] = []
        while inner < position:
            attributes += 1
            if attributes > _MAX_ATTRIBUTES:
                raise MalformedError(f"a name of more than {_MAX_ATTRIBUTES} attributes")
            at, inner = _expect(der, inner, position, _SEQUENCE)
            parts.append(_attribute(der, at, inner))
        relative.append("+".join(parts))
    return ",".join(reversed(relative))[:_MAX_TEXT]


def _attribute(der: bytes, position: int, end: int) -> str:
    start, position = _expect(der, position, end, _OID)
    oid = _dotted(der[start:position])
    tag, start, stop = _element(der, position, end)
    encoding = _ENCODINGS.get(tag)
    value = der[start:stop]
    text = f"#{value.hex()}" if encoding is None else _escaped(value.decode(encoding, "replace"))
    return f"{_SHORT_NAMES.get(oid, oid)}={text}"


def _dotted(raw: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for byte in raw[:_MAX_ATTRIBUTES]:
        number = number << 7 | byte & 0x7F
        if byte < _LONG_FORM:
            numbers.append(number)
            number = 0
    if not numbers:
        raise MalformedError("an empty object identifier in a certificate")
    # The first two arcs share a number (X.690 §8.19.4).
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escaped(text: str) -> str:
    """Escape what RFC 4514 §2.4 gives a meaning."""
    escaped = "".join(
        f"\\{char}" if char in _SPECIAL else "\\00" if char == "\0" else char for char in text
    )
    if escaped.startswith(("#", " ")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if len(escaped) > 1 and escaped.endswith(" ") else escaped
