"""Deterministic CBOR, and nothing but: the one codec every signed or hashed structure uses.

Specification: RFC 8949, §3 (well-formedness), §4.2.1 (core deterministic encoding: shortest
heads, definite lengths, map keys in bytewise order of their encodings) and §5.6 (no duplicate
keys). The data model is smaller than CBOR's on purpose: integers of 64 bits, byte and text
strings, arrays, maps keyed by integers and text, ``false``, ``true``, ``null``, and tags that
the caller names.

``cbor2`` does the coding; this module takes away what it is too generous with. It accepts
non-minimal heads and trailing bytes, it lets ``true`` and ``1.0`` stand for the key 1, and it
*interprets* tags: 35 becomes a compiled pattern, 36 a mail message, 28 and 29 a cyclic list. Its
``canonical`` mode orders keys length-first (RFC 7049), which is not RFC 8949's order.

Not handled, on purpose: floating point, ``undefined`` and other simple values, bignums,
indefinite lengths, and every tag the caller did not name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any, Final, NoReturn

import cbor2
from cbor2 import CBORTag

from bootlease.errors import MalformedError

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "MAX_DEPTH",
    "CBORTag",
    "array",
    "cut_bytes",
    "decode",
    "decode_foreign",
    "decode_to_compare",
    "demand_few",
    "encode",
    "encode_bytes",
    "encode_integer",
]

MAX_DEPTH: Final = 16
"""Nesting that any structure of this project stays far below."""

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 64) - 1
"""What an ``int64`` or a ``uint64`` of another language can hold; beyond is a bignum."""

_NO_TAGS: Final[frozenset[int]] = frozenset()


_CONTAINERS: Final = frozenset({dict, cbor2.frozendict, list, tuple, CBORTag})


class _ForbiddenTagError(Exception):
    """A tag that ``cbor2`` would have interpreted."""


def _refuse_tag(*_: object) -> NoReturn:
    raise _ForbiddenTagError


_TIMES_AND_NUMBERS: Final = (0, 1, 2, 3, 4, 5, 30, 100, 1004, 43000)
_REFERENCES_AND_SETS: Final = (25, 28, 29, 256, 258)
_TEXTS_AND_ADDRESSES: Final = (35, 36, 37, 52, 54, 260, 261, 55799)

_INTERPRETED_TAGS: Final = dict.fromkeys(
    (*_TIMES_AND_NUMBERS, *_REFERENCES_AND_SETS, *_TEXTS_AND_ADDRESSES), _refuse_tag
)
"""Every tag for which ``cbor2`` has a decoder of its own: refused before it runs."""


@functools.lru_cache(maxsize=16)
def _decoders(tags: frozenset[int]) -> dict[int, Callable[..., object]]:
    """Return what becomes of interpreted tags: those that the caller names stay as they are."""
    kept = {tag: functools.partial(_keep_tag, tag) for tag in tags & _INTERPRETED_TAGS.keys()}
    return {**_INTERPRETED_TAGS, **kept}


def _keep_tag(tag: int, value: object, *_: object) -> CBORTag:
    return CBORTag(tag, value)


def decode(
    data: bytes,
    *,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    tags: frozenset[int] = _NO_TAGS,
) -> Any:  # noqa: ANN401 - the caller checks the shape; CBOR is dynamic
    """Decode one deterministically encoded item that fills ``data`` exactly.

    For every accepted input, ``encode(decode(data)) == data``: two different byte strings never
    decode to one value, so a digest over the bytes is a digest over the meaning.

    Args:
        data: The bytes.
        max_bytes: Refuse more than this before looking inside.
        max_depth: Containers and tags that may stand inside each other.
        tags: Tags that may occur; each arrives as a ``CBORTag``, uninterpreted.

    Returns:
        ``int``, ``bytes``, ``str``, ``bool``, ``None``, ``list``, ``dict`` or ``CBORTag``; inside
        a tag, ``tuple`` and a read-only mapping.

    Raises:
        MalformedError: Anything else.
    """
    _bound(data, max_bytes)
    try:
        value = cbor2.loads(
            data,
            allow_duplicate_keys=False,
            allow_indefinite=False,
            max_depth=max_depth,
            semantic_decoders=_decoders(tags) if tags else _INTERPRETED_TAGS,
        )
        _check(value, tags, ordered=True)
        again = cbor2.dumps(value)
    except (cbor2.CBORError, _ForbiddenTagError, RecursionError, UnicodeError) as exc:
        raise MalformedError(f"CBOR that cannot be accepted: {_reason(exc)}") from exc
    if again != data:
        raise MalformedError("CBOR is not in its shortest form, or bytes follow it")
    return value


def demand_few(data: bytes, *, at_most: int) -> None:
    """Refuse CBOR of more items than this, before any of them costs memory.

    An empty array takes one byte of input and a hundred of memory; ``max_bytes`` alone, where it
    must be large, bounds nothing. This counts heads and looks at nothing else: ``decode`` says
    what the items are, and whether they are any.

    Args:
        data: The bytes.
        at_most: Items, each array, map and tag counted with what is in it.

    Raises:
        MalformedError: There are more, or an array or map says that it holds more.
    """
    place, end, count = 0, len(data), 0
    while place < end:
        head = data[place]
        place += 1
        argument = head & 0x1F
        if 24 <= argument < 28:  # noqa: PLR2004 - RFC 8949 §3: in 1, 2, 4 or 8 bytes
            begin, place = place, place + (1 << (argument - 24))
            argument = int.from_bytes(data[begin:place], "big")
        kind = head >> 5
        if kind in _STRINGS:
            place += argument
        count += 1
        if count > at_most or (kind in _MEMBERED and argument > at_most):
            raise MalformedError(f"CBOR of more than {at_most} items")


_STRINGS: Final = frozenset({2, 3})
_MEMBERED: Final = frozenset({4, 5})
"""Major types (RFC 8949 §3.1): byte and text strings; arrays and maps."""


def decode_foreign(
    data: bytes,
    *,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    tags: frozenset[int] = _NO_TAGS,
) -> Any:  # noqa: ANN401 - CBOR is dynamic
    """Decode one item that somebody else encoded: key order and head length are free.

    Everything else that ``decode`` refuses is refused here too. The value must not be re-encoded
    to check a signature or digest: use the bytes that came.

    Raises:
        MalformedError: The bytes are not one acceptable item.
    """
    _bound(data, max_bytes)
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(
            stream,
            read_size=1,
            allow_duplicate_keys=False,
            allow_indefinite=False,
            max_depth=max_depth,
            semantic_decoders=_decoders(tags) if tags else _INTERPRETED_TAGS,
        ).decode()
        _check(value, tags, ordered=False)
    except (cbor2.CBORError, _ForbiddenTagError, RecursionError, UnicodeError) as exc:
        raise MalformedError(f"CBOR that cannot be accepted: {_reason(exc)}") from exc
    if stream.tell() != len(data):
        raise MalformedError("bytes follow the CBOR item", offset=stream.tell())
    return value


def decode_to_compare(data: bytes, *, max_bytes: int) -> Any:  # noqa: ANN401 - CBOR is dynamic
    """Decode what the caller encodes again and compares with ``data``; half the work of ``decode``.

    Only that comparison proves shortest form, key order and that nothing follows: a caller whose
    encoding differs must discard the value and call ``decode``. Key and value types are unchecked.

    Raises:
        MalformedError: The bytes do not begin with a well-formed item.
    """
    _bound(data, max_bytes)
    try:
        return cbor2.loads(
            data,
            allow_duplicate_keys=False,
            allow_indefinite=False,
            max_depth=MAX_DEPTH,
            semantic_decoders=_INTERPRETED_TAGS,
        )
    except (cbor2.CBORError, _ForbiddenTagError, RecursionError, UnicodeError) as exc:
        raise MalformedError(f"CBOR that cannot be accepted: {_reason(exc)}") from exc


def encode_bytes(data: bytes) -> bytes:
    """Encode one byte string; what ``encode`` returns for it, without its checks."""
    size = len(data)
    if size < _HEADS:
        return _BYTES_HEADS[size] + data
    return _U16(0x59, size) + data if size < 0x10000 else cbor2.dumps(data)  # noqa: PLR2004 - RFC 8949 §3: two bytes


def encode_integer(number: int) -> bytes:
    """Encode one integer: what ``encode`` does for it, with fewer steps."""
    if 0 <= number < 256:  # noqa: PLR2004 - the precomputed ones
        return _SHORT[number]
    if 0x10000 <= number < 0x1_0000_0000:  # noqa: PLR2004 - RFC 8949 §3: four bytes
        return _U32(0x1A, number)
    if 256 <= number < 0x10000:  # noqa: PLR2004 - two bytes
        return _U16(0x19, number)
    return encode(number)


_U16: Final = Struct(">BH").pack
_U32: Final = Struct(">BI").pack
_SHORT: Final = tuple(map(cbor2.dumps, range(256)))


def array(items: Sequence[bytes]) -> bytes:
    """Return the array of items that are encoded already."""
    size = len(items)
    if size < 24:  # noqa: PLR2004 - RFC 8949 §3: the head holds the length itself
        return _ARRAY_HEADS[size] + b"".join(items)
    return cbor2.dumps([None] * size)[:-size] + b"".join(items)


_ARRAY_HEADS: Final = tuple(bytes((0x80 + size,)) for size in range(24))


def cut_bytes(data: bytes, start: int) -> tuple[bytes, int]:
    """Read the byte string that stands at ``start``: its content, and where it ends.

    For layouts so fixed that what stands around it is compared as bytes.

    Raises:
        MalformedError: No byte string stands there whole and in its shortest form.
    """
    kind = data[start] - 0x40 if start < len(data) else -1
    begin = start + 1
    if 0 <= kind < 24:  # noqa: PLR2004 - RFC 8949 §3: the head holds the length itself
        end = begin + kind
    elif kind in _LEAST_LENGTHS:
        begin += 1 << (kind - 24)
        length = int.from_bytes(data[start + 1 : begin], "big")
        end = begin + length if length >= _LEAST_LENGTHS[kind] else -1
    else:
        end = -1
    if not begin <= end <= len(data):
        raise MalformedError("no byte string in its shortest form stands here", offset=start)
    return data[begin:end], end


_LEAST_LENGTHS: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""The length from which on RFC 8949 §3 takes 1, 2, 4 or 8 bytes for it."""

_HEADS: Final = 256
"""Lengths whose heads are made beforehand; RFC 8949 §3 takes up to one byte more for them."""
_BYTES_HEADS: Final = tuple(cbor2.dumps(bytes(size))[: 1 + (size >= 24)] for size in range(_HEADS))  # noqa: PLR2004 - RFC 8949 §3


def encode(value: object, *, tags: frozenset[int] = _NO_TAGS) -> bytes:
    """Encode ``value`` deterministically (RFC 8949 §4.2.1).

    Args:
        value: ``int`` of 64 bits, ``bytes``, ``str``, ``bool``, ``None``, ``list``, ``tuple``,
            mappings keyed by ``int`` or ``str``, and ``CBORTag`` of a number in ``tags``.
        tags: Tags that may occur.

    Raises:
        ValueError: The value is outside the data model: our own misuse.
    """
    try:
        _check(value, tags, ordered=True)
    except MalformedError:
        value = _ordered(value, tags)
    return cbor2.dumps(value)


def _bound(data: bytes, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise MalformedError(f"CBOR of {len(data)} bytes, at most {max_bytes} are accepted")


def _reason(exc: Exception) -> str:
    if isinstance(exc, _ForbiddenTagError) or isinstance(exc.__cause__, _ForbiddenTagError):
        return "a tag that has no place here"
    return str(exc)[:200]


def _check(  # noqa: C901, PLR0912 - one loop without calls: every message passes here
    value: Any,  # noqa: ANN401 - CBOR is dynamic
    tags: frozenset[int],
    *,
    ordered: bool,
) -> None:
    """Refuse what the data model lacks."""
    kind = type(value)
    if kind is dict or kind is cbor2.frozendict:
        if ordered:
            _check_order(value)
        else:
            for key in value:
                _place(key)
        members = value.values()
    elif kind is list or kind is tuple:
        members = value
    elif kind is CBORTag:
        if value.tag not in tags:
            raise MalformedError(f"CBOR tag {value.tag} has no place here")
        members = (value.value,)
    else:
        members = (value,)
    for member in members:
        kind = type(member)
        if kind is bytes or kind is str or kind is bool or member is None:
            continue
        if kind is int:
            if not INT_MIN <= member <= INT_MAX:
                raise MalformedError("CBOR integer is outside the 64-bit range")
        elif kind in _CONTAINERS:
            _check(member, tags, ordered=ordered)
        else:
            raise MalformedError(f"CBOR value of type {kind.__name__} has no place here")


def _check_order(value: Mapping[Any, Any]) -> None:
    """Refuse keys out of order; integers, by far the most, are compared without building places."""
    last_number = -1
    last: tuple[int, int, bytes] | None = None
    for key in value:
        if type(key) is int and last is None and last_number < key <= INT_MAX:
            last_number = key
            continue
        place = _place(key)
        if place <= (last or (0, last_number, b"")):
            raise MalformedError("CBOR map keys are not in bytewise order")
        last = place


def _place(key: object) -> tuple[int, int, bytes]:
    """Return what sorts like the key's encoding: major type, argument, then text.

    Raises:
        MalformedError: The key is neither exactly ``int`` nor exactly ``str``. In Python
            ``True == 1 == 1.0``: let ``true`` be a key, and a lookup of claim 1 answers with
            the attacker's value.
    """
    kind = type(key)
    if kind is int:
        number: int = key  # type: ignore[assignment]  # `kind is int` does not narrow
        if not INT_MIN <= number <= INT_MAX:
            raise MalformedError("CBOR map key is outside the 64-bit range")
        return (0, number, b"") if number >= 0 else (1, -1 - number, b"")
    if kind is str:
        text = key.encode()  # type: ignore[attr-defined]  # likewise
        return (3, len(text), text)
    raise MalformedError("CBOR map key is neither an integer nor text")


def _ordered(value: Any, tags: frozenset[int]) -> Any:  # noqa: ANN401 - CBOR is dynamic
    """Return ``value`` with every map in bytewise key order."""
    kind = type(value)
    if kind is bytes or kind is str or value is None or kind is bool:
        return value
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise ValueError("integer is outside the 64-bit range")
        return value
    if isinstance(value, Mapping):
        try:
            keys = sorted(value, key=_place)
        except MalformedError as exc:
            raise ValueError(str(exc)) from exc
        return {key: _ordered(value[key], tags) for key in keys}
    if kind is list or kind is tuple:
        return [_ordered(item, tags) for item in value]
    if kind is CBORTag and value.tag in tags:
        return CBORTag(value.tag, _ordered(value.value, tags))
    raise ValueError(f"{kind.__name__} has no place in deterministic CBOR")
