"""Deterministic CBOR: one value, one encoding, and none of the traps of general decoders."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError

LIMIT = 4096

INTEGERS = st.integers(cbor.INT_MIN, cbor.INT_MAX)
LEAVES = INTEGERS | st.binary(max_size=40) | st.text(max_size=40) | st.booleans() | st.none()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(INTEGERS | st.text(max_size=30), inner, max_size=6)
    ),
    max_leaves=25,
)


def decode(data: bytes, **options: Any) -> Any:
    """Decode with the tests' limit."""
    return cbor.decode(data, max_bytes=LIMIT, **options)


REFUSED = {
    "trailing bytes": "0000",
    "nothing": "",
    "integer 23 in two bytes": "1817",
    "integer 1 in three bytes": "190001",
    "integer 1 in five bytes": "1a00000001",
    "integer 1 in nine bytes": "1b0000000000000001",
    "negative integer in two bytes": "3800",
    "byte string length in two bytes": "580100",
    "text length in two bytes": "780161",
    "array length in two bytes": "980100",
    "map length in two bytes": "b8010000",
    "tag number in two bytes": "d81200",
    "indefinite byte string": "5f4100ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f00ff",
    "indefinite map": "bf0000ff",
    "a lone break": "ff",
    "duplicate integer key": "a201000101",
    "duplicate text key": "a2616100616101",
    "keys out of order": "a202000100",
    "keys length-first (RFC 7049)": "a40a04200261610319010901",
    "text key before integer key": "a2616100 0100",
    "longer text key first": "a262616100616200",
    "true as a key": "a1f503",
    "true beside the key 1": "a20102f503",
    "false as a key": "a1f400",
    "null as a key": "a1f600",
    "half float 1.0 as a key": "a1f93c0003",
    "double 1.0 as a key": "a1fb3ff000000000000003",
    "bignum 1 as a key": "a1c2410103",
    "byte string as a key": "a1410000",
    "array as a key": "a18000",
    "map as a key": "a1a000",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "double float": "fb3ff0000000000000",
    "NaN": "f97e00",
    "undefined": "f7",
    "simple value 16": "f0",
    "simple value 32": "f820",
    "false in two bytes": "f814",
    "reserved head": "1c",
    "text date": "c074323031332d30332d32315432303a30343a30305a",
    "epoch date": "c11a514b67b0",
    "bignum": "c249010000000000000000",
    "bignum that is small": "c24101",
    "negative bignum": "c349010000000000000000",
    "integer below 64 bits": "3bffffffffffffffff",
    "decimal fraction": "c48221196ab3",
    "shareable (28)": "d81c80",
    "cyclic list (28, 29)": "d81c81d81d00",
    "shared reference (29)": "d81d00",
    "rational": "d81e820102",
    "regular expression (35)": "d82363285b2b",
    "regular expression that compiles (35)": "d8236161",
    "mail message (36)": "d82462610a",
    "UUID (37)": "d82550" + "00" * 16,
    "IPv4 (52)": "d83444c0000201",
    "set (258)": "d9010280",
    "string reference (25, 256)": "d9010082626161d81900",
    "self-described CBOR (55799)": "d9d9f700",
    "COSE_Sign1 tag not asked for": "d280",
    "unknown tag": "d903e700",
    "text that is not UTF-8": "62c328",
    "text with a lone surrogate": "63eda080",
    "overlong UTF-8": "62c080",
    "byte string cut short": "4200",
    "text cut short": "6261",
    "array cut short": "8200",
    "map cut short": "a100",
    "head cut short": "19ff",
    "array that claims 2^60 members": "9b1000000000000000",
    "array that claims 2^32 members": "9a ffffffff",
    "map that claims 2^60 members": "bb1000000000000000",
    "byte string that claims 2^60 bytes": "5b1000000000000000",
    "17 nested arrays": "81" * 17 + "00",
    "3000 nested arrays": "81" * 3000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_trap_is_refused(name: str) -> None:
    """Every encoding that is not the one deterministic form of an accepted value is malformed."""
    with pytest.raises(MalformedError):
        decode(bytes.fromhex(REFUSED[name]))


FORM_ONLY = frozenset(
    {
        "integer 23 in two bytes",
        "integer 1 in three bytes",
        "integer 1 in five bytes",
        "integer 1 in nine bytes",
        "negative integer in two bytes",
        "byte string length in two bytes",
        "text length in two bytes",
        "array length in two bytes",
        "map length in two bytes",
        "tag number in two bytes",
        "keys out of order",
        "keys length-first (RFC 7049)",
        "text key before integer key",
        "longer text key first",
    }
)
"""What is another form of an accepted value: free for others, never for ourselves."""

FOREIGN_TOO = sorted(REFUSED.keys() - FORM_ONLY)


@pytest.mark.parametrize("name", sorted(FORM_ONLY - {"tag number in two bytes"}))
def test_foreign_object_may_have_another_form(name: str) -> None:
    """Head length and key order are free in others' objects."""
    cbor.decode_foreign(bytes.fromhex(REFUSED[name]), max_bytes=LIMIT)


@pytest.mark.parametrize("name", FOREIGN_TOO)
def test_trap_is_refused_in_foreign_objects(name: str) -> None:
    """For others' objects too: all traps but key order and head length."""
    with pytest.raises(MalformedError):
        cbor.decode_foreign(bytes.fromhex(REFUSED[name]), max_bytes=LIMIT)


def test_foreign_object_may_order_keys_its_own_way() -> None:
    """A map in length-first order, with a long head, is read."""
    data = bytes.fromhex("a40a04200261610319010918ff")
    assert cbor.decode_foreign(data[:-2] + b"\x18\x01", max_bytes=LIMIT) == {
        10: 4,
        -1: 2,
        "a": 3,
        265: 1,
    }


def test_keys_are_ordered_bytewise() -> None:
    """RFC 8949 §4.2.1: 10, 265, -1, "a"; a length-first encoder would put 265 last."""
    assert cbor.encode({265: 1, -1: 2, "a": 3, 10: 4}).hex() == "a40a04190109012002616103"


def test_longer_input_than_allowed_is_refused_unread() -> None:
    """The limit applies to the bytes, whatever they are."""
    assert cbor.decode(bytes(1), max_bytes=1) == 0
    with pytest.raises(MalformedError, match="at most 1"):
        cbor.decode(b"\x40\x40", max_bytes=1)


def test_depth_is_counted_in_containers() -> None:
    """Sixteen containers fit into the default, the caller can allow fewer."""
    assert decode(bytes.fromhex("81" * 16 + "00"))
    assert decode(bytes.fromhex("8100"), max_depth=1) == [0]
    with pytest.raises(MalformedError):
        decode(bytes.fromhex("818100"), max_depth=1)


def test_tag_is_returned_uninterpreted_where_allowed() -> None:
    """An allowed tag arrives as a tag, and only that one."""
    tagged = decode(bytes.fromhex("d28100"), tags=frozenset({18}))
    assert (tagged.tag, list(tagged.value)) == (18, [0])
    with pytest.raises(MalformedError):
        decode(bytes.fromhex("d18100"), tags=frozenset({18}))


def test_no_tag_runs_anybodys_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tag up to 1100 comes back as anything but a refusal, and none compiles a pattern."""

    def compiled(*_: object) -> None:
        pytest.fail("a pattern was compiled")

    monkeypatch.setattr(re, "compile", compiled)
    for tag in [*range(1101), 43000, 55799]:
        contents: list[Any] = [0, b"\x01", "a", [1, 2], {}]
        for content in contents:
            data = cbor2.dumps(cbor2.CBORTag(tag, content))
            with pytest.raises(MalformedError):
                decode(data)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {1.5: 0},
        {True: 0},
        {None: 0},
        {b"a": 0},
        {(1,): 0},
        1 << 64,
        -(1 << 63) - 1,
        {1 << 64: 0},
        cbor.CBORTag(18, 0),
        {1, 2},
        cbor2.undefined,
        bytearray(b"a"),
        [object()],
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_outside_the_data_model_is_not_encoded(value: object) -> None:
    """What decode would refuse, encode does not write: that is our own misuse."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message names the type
        cbor.encode(value)


@given(VALUES)
def test_value_survives_and_has_one_encoding(value: Any) -> None:
    """Decoding gives the value back, and encoding that gives the same bytes."""
    data = cbor.encode(value)
    again = cbor.decode(data, max_bytes=1 << 20)
    assert again == value
    assert cbor.encode(again) == data
    assert cbor.decode_foreign(data, max_bytes=1 << 20) == value
    assert cbor.decode_to_compare(data, max_bytes=1 << 20) == value


@given(st.dictionaries(INTEGERS | st.text(max_size=300), st.integers(0, 9), max_size=12))
def test_map_order_is_that_of_the_encoded_keys(value: dict[int | str, int]) -> None:
    """The order in which a map was filled leaves no trace."""
    expected = sorted(cbor2.dumps(key) + cbor2.dumps(member) for key, member in value.items())
    head = cbor2.dumps({})[0] + len(value)
    assert cbor.encode(value) == bytes([head]) + b"".join(expected)


@given(st.binary(max_size=300))
def test_byte_string_shortcut_writes_what_encode_writes(data: bytes) -> None:
    """``encode_bytes`` and ``encode`` agree on every length."""
    assert cbor.encode_bytes(data) == cbor.encode(data)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536])
def test_byte_string_heads_are_shortest(size: int) -> None:
    """At every step of the head's length, encode and decode agree."""
    data = cbor.encode_bytes(bytes(size))
    assert cbor.decode(data, max_bytes=1 << 20) == bytes(size)


@given(INTEGERS)
@pytest.mark.parametrize("near", [0, 24, 256, 0x10000, 0x1_0000_0000])
def test_integer_shortcut_writes_what_encode_writes(near: int, number: int) -> None:
    """``encode_integer`` and ``encode`` agree, at every step of the head's length too."""
    for each in (number, near - 1, near, near + 1):
        assert cbor.encode_integer(each) == cbor.encode(each)


def test_integer_shortcut_keeps_the_data_model() -> None:
    """A bignum is no integer of this data model."""
    with pytest.raises(ValueError, match="64-bit"):
        cbor.encode_integer(1 << 64)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256])
def test_an_array_of_encoded_items_is_the_array(size: int) -> None:
    """``array`` puts the shortest head before its items."""
    items = [*range(size)]
    assert cbor.array([cbor.encode(item) for item in items]) == cbor.encode(items)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536])
def test_a_byte_string_is_read_where_it_stands(size: int) -> None:
    """Content and end come back, at every step of the head's length."""
    encoded = cbor.encode_bytes(bytes(size))
    assert cbor.cut_bytes(b"\x00" + encoded + b"\x01", 1) == (bytes(size), 1 + len(encoded))


@given(st.binary(max_size=300) | st.binary(max_size=30).map(cbor.encode_bytes), st.integers(0, 40))
def test_reading_a_byte_string_is_decoding_it(data: bytes, start: int) -> None:
    """What ``cut_bytes`` cuts out is what ``decode`` makes of it; the rest is malformed."""
    try:
        value, end = cbor.cut_bytes(data, start)
    except MalformedError:
        return
    assert decode(data[start:end]) == value


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x41",
        b"\x58",
        b"\x58\x17" + bytes(23),
        b"\x59\x00\xff" + bytes(255),
        b"\x5a\x00\x00\xff\xff" + bytes(65535),
        b"\x5b\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(65536),
        b"\x58\x18" + bytes(23),
        b"\x5c" + bytes(40),
        b"\x5f\x41\x00\xff",
        b"\x3f",
        b"\x60",
    ],
)
def test_no_byte_string_is_read_from_another_form(encoded: bytes) -> None:
    """Cut short, in a longer head, of indefinite length or of another type."""
    with pytest.raises(MalformedError, match="shortest form"):
        cbor.cut_bytes(encoded, 0)


@given(VALUES)
def test_items_are_counted_whatever_they_are(value: Any) -> None:
    """Each head counts once: what has as many items as may be passes, and with one less not."""
    data = cbor.encode(value)
    count = _items(value)
    cbor.demand_few(data, at_most=count)
    if count > 1:
        with pytest.raises(MalformedError, match="items"):
            cbor.demand_few(data, at_most=count - 1)


def _items(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(_items, value))
    if isinstance(value, dict):
        return 1 + sum(_items(key) + _items(member) for key, member in value.items())
    return 1


@given(st.binary(max_size=200))
def test_counting_items_of_anything_ends(data: bytes) -> None:
    """Whatever the bytes are, they are counted, or there are too many."""
    with suppress(MalformedError):
        cbor.demand_few(data, at_most=50)


@pytest.mark.parametrize("head", ["9affffffff", "bbffffffffffffffff", "981f"])
def test_a_container_that_promises_too_much_is_refused(head: str) -> None:
    """A decoder might make room for what an array or a map says that it holds."""
    with pytest.raises(MalformedError, match="items"):
        cbor.demand_few(bytes.fromhex(head), at_most=30)
