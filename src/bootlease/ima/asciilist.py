"""Measurement lists in text, for people: what ``ascii_runtime_measurements`` shows.

Specification: Linux ``security/integrity/ima/ima_fs.c`` (``ima_ascii_measurements_show``)::

    10 <template hash> <template name> <field> <field> ...

Such a list is never appraised. A name is printed as it is: one with a line break pretends to be
several entries (attack E6), and a field that is empty leaves two spaces. What cannot be told apart
for sure is refused.

Deliberately not handled: templates with more than digest, name and signature or buffer.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ima.entry import IMA_NAME_SIZE, IMAEntry
from bootlease.ima.framing import DEFAULT_LIMITS, HASH_SIZES, IMALimits
from bootlease.ima.templates import Field, template_fields
from bootlease.model import PCR_COUNT

_LINE: Final = re.compile(rb" ?(\d{1,2}) ([0-9a-f]+) (\S+) ([0-9a-z:_-]+) (.*)", re.DOTALL)
_HEX: Final = re.compile(rb"(?:[0-9a-f]{2})*")
_U32: Final = struct.Struct("<I")


def looks_like_text(data: bytes) -> bool:
    """Tell a list in text from a binary one, which starts with a PCR index and zeros."""
    return bool(data) and b"\0" not in data[:64]


def parse_ascii_list(data: bytes, limits: IMALimits = DEFAULT_LIMITS) -> tuple[IMAEntry, ...]:
    """Read a list in text; its entries get the template data that the kernel must have hashed.

    Args:
        data: Unverified text.
        limits: What the list may cost.

    Raises:
        MalformedError: It is no such list, or shows what it cannot show for sure.
    """
    if len(data) > limits.max_bytes:
        raise MalformedError(f"a measurement list of more than {limits.max_bytes} bytes")
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if len(lines) > limits.max_entries:
        raise MalformedError(f"a measurement list of more than {limits.max_entries} entries")
    return tuple(_parse_line(number, line) for number, line in enumerate(lines))


def _parse_line(number: int, line: bytes) -> IMAEntry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedError(f"line {number + 1} is no entry of a measurement list")
    pcr, hexadecimal, template, digest, rest = match.groups()
    template_hash = _unhex(hexadecimal, number)
    if int(pcr) >= PCR_COUNT or len(template_hash) not in HASH_SIZES:
        raise MalformedError(f"line {number + 1} has a PCR or a template hash that cannot be")
    fields = template_fields(template)
    data = _template_data(fields, digest, rest, number)
    entry = IMAEntry(number, int(pcr), template, template_hash, data)
    entry.measurement()
    return entry


def _template_data(fields: tuple[Field, ...], digest: bytes, rest: bytes, number: int) -> bytes:
    if fields == (Field.DIGEST, Field.NAME):
        return _unhex(digest, number) + rest.ljust(IMA_NAME_SIZE, b"\0")
    prefix, separator, value = digest.rpartition(b":")
    values = [prefix + separator + b"\0" + _unhex(value, number)]
    if fields[:2] not in _LEADING or fields[2:] not in _TRAILING:
        raise MalformedError(f"line {number + 1} has a template that text does not show for sure")
    name = rest
    if fields[2:]:
        name, separator, last = rest.rpartition(b" ")
        if not separator:
            raise MalformedError(f"line {number + 1} has too few fields")
    values.append(name + b"\0")
    if fields[2:]:
        values.append(_unhex(last, number))
    if b" " in name:
        # The kernel writes a space in a name as "_": this one has lost or won a field.
        raise MalformedError(f"line {number + 1} has too many fields")
    return b"".join(_U32.pack(len(value)) + value for value in values)


_LEADING: Final = ((Field.DIGEST_NG, Field.NAME_NG), (Field.DIGEST_NGV2, Field.NAME_NG))
_TRAILING: Final = ((), (Field.SIGNATURE,), (Field.BUFFER,))


def _unhex(value: bytes, number: int) -> bytes:
    if _HEX.fullmatch(value) is None:
        raise MalformedError(f"line {number + 1} has something other than hexadecimal digits")
    return bytes.fromhex(value.decode("ascii"))
