"""Distinguished names, as certificates hold them.

Specifications: RFC 5280 §4.1.2.4 and §7.1 (names, and when two are the same); RFC 4514 (their
text, for people only).

Names lead from a certificate to its issuer and no further: what counts is the issuer's signature.
STM's CAs spell one name as UTF8String and as PrintableString, so bytes do not do to compare them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from bootlease.endorsement import der
from bootlease.endorsement.der import Element
from bootlease.endorsement.tolerance import Tolerance
from bootlease.errors import MalformedError
from bootlease.model import legible

_MAX_ATTRIBUTES: Final = 64
_MAX_SHOWN: Final = 240

_SHORT: Final[Mapping[str, str]] = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "1.2.840.113549.1.9.1": "emailAddress",
}


def attributes(
    name: Element, tolerated: set[Tolerance], what: str
) -> Iterator[tuple[str, str | None]]:
    """Yield the attributes of a Name, in order: type, and text where the value is a string.

    Args:
        name: The Name, a SEQUENCE.
        tolerated: Where to note that a set is not sorted.
        what: What is read, for errors.

    Raises:
        MalformedError: It is no Name.
    """
    for part in _parts(name, tolerated, what):
        for kind, value in part:
            yield kind, der.text(value)


def name_key(name: Element, tolerated: set[Tolerance], what: str) -> bytes:
    """Return a digest that two names share when RFC 5280 §7.1 calls them the same.

    Raises:
        MalformedError: It is no Name.
    """
    parts = [
        sorted((kind, _folded(value)) for kind, value in part)
        for part in _parts(name, tolerated, what)
    ]
    return hashlib.sha256(repr(parts).encode()).digest()


def _folded(value: Element) -> str:
    text = der.text(value)
    if text is None:
        return f"#{value.encoded.hex()}"
    return " " + " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _parts(
    name: Element, tolerated: set[Tolerance], what: str
) -> Iterator[list[tuple[str, Element]]]:
    count = 0
    for relative in name.inside().rest(what):
        if relative.tag != der.SET:
            raise MalformedError(f"{what} is no name")
        part: list[tuple[str, Element]] = []
        before = b""
        for pair in relative.inside().rest(what):
            if pair.tag != der.SEQUENCE:
                raise MalformedError(f"{what} is no name")
            encoded = pair.encoded
            # X.690 §11.6.
            if encoded < before:
                tolerated.add(Tolerance.SET_ORDER)
            before = encoded
            reader = pair.inside()
            kind = der.object_identifier(reader.take(der.OID, what), what)
            part.append((kind, reader.any(what)))
            reader.finish(what)
            count += 1
            if count > _MAX_ATTRIBUTES:
                raise MalformedError(f"{what} has more than {_MAX_ATTRIBUTES} attributes")
        if not part:
            raise MalformedError(f"{what} has an empty part")
        yield part


def shown(name: bytes) -> str:
    """Return a name's text for people: bounded, printable, and no input to any decision."""
    try:
        pairs = list(attributes(der.parse_one(name, der.SEQUENCE, "name"), set(), "name"))
    except MalformedError:
        return name.hex()[:_MAX_SHOWN]
    text = ",".join(
        f"{_SHORT.get(kind, kind)}={'?' if value is None else value}" for kind, value in pairs
    )
    return legible(text, at_most=_MAX_SHOWN)
