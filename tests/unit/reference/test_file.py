"""The file form of reference sets: strict, and without a second reading."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bootlease.errors import MalformedError
from bootlease.reference import parse_reference, serialise_reference

HEX = "00" * 32
EVENT = {"type": "EV_SEPARATOR", "digest": HEX, "description": "separator", "required": True}


def good() -> dict[str, Any]:
    """Return a sound file."""
    return {
        "schema": 1,
        "name": "debian-12",
        "version": "1",
        "bank": "sha256",
        "not_before": 1,
        "not_after": 2,
        "pcrs": {
            "0": {"match": "value", "values": [HEX], "events": [EVENT]},
            "1": {"match": "value", "values": [HEX]},
            "4": {"match": "events", "events": [EVENT, {**EVENT, "type": "0x0000abcd"}]},
        },
    }


def changed(path: str, value: object) -> bytes:
    """Return the sound file with one member set, or removed where ``value`` is ``...``."""
    file = good()
    place: Any = file
    *parents, last = [int(part) if part.isdecimal() and path[:4] != "pcrs" else part
                      for part in path.split("/")]  # fmt: skip
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return json.dumps(file).encode()


def test_a_file_is_the_set_it_was_written_from() -> None:
    """Reading what was written changes nothing, digest included."""
    loaded = parse_reference(json.dumps(good()).encode())
    again = parse_reference(serialise_reference(loaded))
    assert again == loaded
    assert again.digest == loaded.digest
    assert loaded.pcrs[4].events[1].type == 0xABCD


def test_layout_is_not_content() -> None:
    """Two layouts of one set have one digest."""
    one = parse_reference(json.dumps(good()).encode())
    two = parse_reference(json.dumps(good(), indent=8, sort_keys=True).encode())
    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("schema", True),
        ("schema", ...),
        ("name", ...),
        ("name", 5),
        ("name", "Debian"),
        ("nmae", "debian-12"),
        ("version", ...),
        ("version", ""),
        ("bank", "sha1"),
        ("bank", "sha-256"),
        ("bank", 11),
        ("not_before", -1),
        ("not_before", "soon"),
        ("not_before", 3),
        ("not_after", True),
        ("pcrs", {}),
        ("pcrs", []),
        ("pcrs", ...),
        ("pcrs/24", {"match": "value", "values": [HEX]}),
        ("pcrs/00", {"match": "value", "values": [HEX]}),
        ("pcrs/-1", {"match": "value", "values": [HEX]}),
        ("pcrs/2", None),
        ("pcrs/2", {}),
        ("pcrs/2", {"match": "any"}),
        ("pcrs/2", {"match": "value", "values": []}),
        ("pcrs/2", {"match": "value", "values": HEX}),
        ("pcrs/2", {"match": "value", "values": [HEX, HEX]}),
        ("pcrs/2", {"match": "value", "values": ["0" * 63]}),
        ("pcrs/2", {"match": "value", "values": ["AB" * 32]}),
        ("pcrs/2", {"match": "value", "values": [HEX], "value": [HEX]}),
        ("pcrs/2", {"match": "events", "events": []}),
        ("pcrs/2", {"match": "events", "events": [EVENT], "values": [HEX]}),
        ("pcrs/2", {"match": "events", "events": [EVENT, EVENT]}),
        ("pcrs/4/events/0", []),
        ("pcrs/4/events/0/type", "EV_SEPERATOR"),
        ("pcrs/4/events/0/type", 4),
        ("pcrs/4/events/0/digest", "00"),
        ("pcrs/4/events/0/description", "\x1b[2J"),
        ("pcrs/4/events/0/description", None),
        ("pcrs/4/events/0/required", "yes"),
        ("pcrs/4/events/0/required", ...),
        ("pcrs/4/events/0/requierd", True),
    ],
)
def test_a_typo_is_an_error(path: str, value: object) -> None:
    """No unknown, missing, empty or mistyped member passes."""
    with pytest.raises(MalformedError):
        parse_reference(changed(path, value))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"schema":1,"schema":1}', b'{"schema":1.0}', b"\xff", b"[" * 100_000],
)
def test_what_is_no_object_is_malformed(data: bytes) -> None:
    """The parser has one error."""
    with pytest.raises(MalformedError):
        parse_reference(data)
