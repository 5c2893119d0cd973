"""Bytes of a measurement list to entries, without reading what the entries say.

Specification: Linux ``security/integrity/ima/ima_fs.c`` (``ima_measurements_show``)::

    u32 pcr
    u8  template_hash[20]          SHA-1; in a list per bank (Linux 6.10), that bank's hash
    u32 template_name_length
    u8  template_name[]
    u32 template_data_length       not for the template "ima"
    u8  template_data[]

Numbers are little-endian. The template "ima" has ``digest[20]``, ``u32 name_length`` and the
name instead of the last two; its data as hashed is the digest and the name padded to 256 bytes.

A list that was cut exactly between two entries is a shorter, well-formed list: only the
comparison with a quoted PCR tells.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bootlease.errors import MalformedError
from bootlease.ima.entry import IMA_NAME_SIZE, IMAEntry
from bootlease.ima.templates import (
    IMA_TEMPLATE,
    MAX_TEMPLATE_NAME,
    UnknownTemplateError,
    template_fields,
)
from bootlease.model import PCR_COUNT, HashAlg

if TYPE_CHECKING:
    from collections.abc import Iterator

_U32: Final = struct.Struct("<I")
_SHA1_SIZE: Final = HashAlg.SHA1.size

HASH_SIZES: Final = tuple(sorted({alg.size for alg in HashAlg}))
"""Sizes a list's template hashes may have, SHA-1's first: every kernel writes that list."""


@dataclass(frozen=True, slots=True)
class IMALimits:
    """What a list may cost before it is refused.

    Attributes:
        max_bytes: Length of the bytes given at once. An entry of a usual list takes 110 bytes,
            with an RSA-4096 signature 640.
        max_entries: Entries given at once. Policies that measure whatever root reads reach
            100,000 in weeks.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_entries: int = 500_000


DEFAULT_LIMITS: Final = IMALimits()


@lru_cache(maxsize=256)
def head_layout(name_size: int, hash_size: int) -> struct.Struct:
    """Return everything of an entry before its data, for a name of so many bytes."""
    return struct.Struct(f"<I{hash_size}sI{name_size}sI")


def template_hash_size(data: bytes) -> int:
    """Return the size of the template hashes of a list, from its first entry.

    A known template's name stands in one place only.

    Raises:
        MalformedError: Nowhere stands the name of a template.
        UnknownTemplateError: Where a SHA-1 list has it stands the name of another template.
    """
    if not data:
        return _SHA1_SIZE
    other: UnknownTemplateError | None = None
    for size in HASH_SIZES:
        start = 2 * _U32.size + size
        if start > len(data):
            break
        (length,) = _U32.unpack_from(data, start - _U32.size)
        name = data[start : start + length]
        if not 0 < length == len(name) <= MAX_TEMPLATE_NAME:
            continue
        try:
            template_fields(name)
        except UnknownTemplateError as exc:
            other = other or (exc if name.isascii() and name.decode().isprintable() else None)
            continue
        return size
    raise other or MalformedError("no entry of a measurement list", offset=0)


def read_head(
    data: bytes, position: int, hash_size: int = _SHA1_SIZE
) -> tuple[int, bytes, bytes, int, int]:
    """Read an entry up to its data.

    Returns:
        PCR, template hash, template name, start and end of the data in the list.

    Raises:
        MalformedError: The entry is truncated, or names no PCR.
        UnknownTemplateError: No kernel defines its template.
    """
    total = len(data)
    name_start = position + 2 * _U32.size + hash_size
    if name_start > total:
        raise MalformedError("the last entry is truncated", offset=position)
    (pcr,) = _U32.unpack_from(data, position)
    if pcr >= PCR_COUNT:
        raise MalformedError(f"an entry for PCR {pcr}; there are {PCR_COUNT}", offset=position)
    (name_size,) = _U32.unpack_from(data, name_start - _U32.size)
    if not 0 < name_size <= MAX_TEMPLATE_NAME:
        raise MalformedError(f"a template name of {name_size} bytes", offset=position)
    name_end = name_start + name_size
    name = data[name_start:name_end]
    length_start = name_end + (_SHA1_SIZE if name == IMA_TEMPLATE else 0)
    start = length_start + _U32.size
    if start > total:
        raise MalformedError("an entry is truncated before its data", offset=position)
    try:
        template_fields(name)
    except UnknownTemplateError as exc:
        raise UnknownTemplateError(name, offset=position) from exc
    (length,) = _U32.unpack_from(data, length_start)
    if start + length > total:
        raise MalformedError("an entry ends beyond the list", offset=start)
    if name == IMA_TEMPLATE:
        if not 0 < length < IMA_NAME_SIZE:
            raise MalformedError(f"an ima template with a name of {length} bytes", offset=start)
        return pcr, data[position + 4 : name_start - 4], name, name_end, start + length
    return pcr, data[position + 4 : name_start - 4], name, start, start + length


def hashed_data(data: bytes, name: bytes, start: int, end: int) -> bytes:
    """Return an entry's template data as the kernel hashes it, from what the list has."""
    if name != IMA_TEMPLATE:
        return data[start:end]
    digest_end = start + _SHA1_SIZE
    return data[start:digest_end] + data[digest_end + _U32.size : end].ljust(IMA_NAME_SIZE, b"\0")


def parse_list(data: bytes, limits: IMALimits = DEFAULT_LIMITS) -> Iterator[IMAEntry]:
    """Return the entries of a whole list, each made when it is asked for.

    Args:
        data: Unverified bytes of the kernel's binary list.
        limits: What the list may cost.

    Raises:
        MalformedError: The bytes are no list; for an entry further on, when it is asked for.
        UnknownTemplateError: Likewise, of an entry with a template that no kernel defines.
    """
    if len(data) > limits.max_bytes:
        raise MalformedError(f"a measurement list of more than {limits.max_bytes} bytes")
    return entries_between(data, 0, len(data), number=0, hash_size=template_hash_size(data))


def count_entries(data: bytes, start: int, hash_size: int, *, at_most: int) -> int:
    """Return how many entries follow ``start``.

    Raises:
        MalformedError: As :func:`read_head` does, or there are more than ``at_most``.
    """
    position, total, count = start, len(data), 0
    while position < total:
        *_, position = read_head(data, position, hash_size)
        count += 1
        if count > at_most:
            raise MalformedError("a measurement list of too many entries", offset=position)
    return count


def entries_between(
    data: bytes, start: int, end: int, *, number: int, hash_size: int
) -> Iterator[IMAEntry]:
    """Yield the entries of part of a list, one at a time.

    Args:
        data: The list.
        start: Where the first entry starts.
        end: Where to stop.
        number: Number of the first entry.
        hash_size: Size of the template hashes.

    Raises:
        MalformedError: As :func:`read_head` does.
    """
    position, total = start, len(data)
    new = tuple.__new__
    known, head = b"", head_layout(0, hash_size)
    while position < end:
        begin = position + head.size
        if known and begin <= total:
            pcr, template_hash, name_size, name, size = head.unpack_from(data, position)
            if name == known and name_size == len(known) and pcr < PCR_COUNT:
                position = begin + size
                if position > total:
                    raise MalformedError("an entry ends beyond the list", offset=begin)
                yield new(IMAEntry, (number, pcr, name, template_hash, data[begin:position]))
                number += 1
                continue
        pcr, template_hash, name, begin, position = read_head(data, position, hash_size)
        body = hashed_data(data, name, begin, position)
        yield new(IMAEntry, (number, pcr, name, template_hash, body))
        number += 1
        # The template "ima" lies differently; its entries are all read the slow way.
        known = b"" if name == IMA_TEMPLATE else name
        head = head_layout(len(name), hash_size)
