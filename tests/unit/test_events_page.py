"""``docs/events.md`` says what the code does: its examples are read, its tables compared."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from bootlease.relyingparty.events import EventReceiver
from bootlease.store.streams import MAX_AGE, MAX_QUEUED
from bootlease.token import base64url, strictjson
from bootlease.token.caep import (
    DeviceComplianceChange,
    SessionRevoked,
    StreamUpdated,
    TokenClaimsChange,
)
from bootlease.token.jws import encode_header
from bootlease.token.secevent import SET_TYP, SecurityEvent, parse_set
from bootlease.verifier.app import build_app
from bootlease.verifier.routes.events import LONGEST_WAIT, MOST_WAITING, _Poll
from bootlease.verifier.securityevents import pushing, source
from bootlease.verifier.securityevents.pushing import LOOK
from bootlease.verifier.securityevents.streams import MAX_STREAMS

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
EXAMPLES: list[dict[str, Any]] = [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
]
EVENTS = [each for each in EXAMPLES if "events" in each]


def section(heading: str) -> str:
    """The text under a heading."""
    return re.split(r"\n#+ ", PAGE.partition(f"# {heading}\n")[2])[0]


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return [row for row in lines if not set(row[0]) <= {"-", "|"}][1:]


def parsed(members: dict[str, Any]) -> SecurityEvent:
    """Read an example as a receiver does."""
    header = encode_header({"alg": "RS256", "kid": "x", "typ": SET_TYP})
    return parse_set(f"{header}.{base64url.encode(strictjson.serialise(members))}.AA")


@pytest.mark.parametrize("members", EVENTS, ids=lambda each: next(iter(each["events"])))
def test_every_example_of_an_event_is_one(members: dict[str, Any]) -> None:
    """It is read, and written again it is the same, member by member in this order."""
    assert json.dumps(parsed(members).members()) == json.dumps(members)


def test_there_is_an_example_of_every_event_that_says_something() -> None:
    """A verification is an empty one."""
    kinds = {type(parsed(members).event) for members in EVENTS}
    assert kinds == {SessionRevoked, DeviceComplianceChange, TokenClaimsChange, StreamUpdated}


def test_the_configuration_is_what_is_answered() -> None:
    """Member by member."""
    service: Any = SimpleNamespace(
        issuer=SimpleNamespace(url="https://verifier.example"),
        limits=SimpleNamespace(
            **dict.fromkeys(
                ("ordinary_bytes", "huge_bytes", "admin_bytes", "small", "ordinary"), 1
            ),
            **dict.fromkeys(
                ("evidence_ima", "reference", "ordinary_per_client", "huge_per_client"), 1
            ),
        ),
    )
    answer = TestClient(build_app(service)).get("/.well-known/ssf-configuration")
    (documented,) = [each for each in EXAMPLES if "spec_version" in each]
    assert answer.json() == documented


def test_the_poll_is_one_that_is_understood() -> None:
    """Every member that there is, and no other."""
    (documented,) = [each for each in EXAMPLES if "maxEvents" in each]
    asked = _Poll(documented)
    assert (asked.most, asked.at_once) == (32, False)
    assert asked.acknowledged == documented["ack"]
    assert [name for name, _ in asked.errors] == list(documented["setErrs"])


def test_what_is_told_is_what_the_source_tells() -> None:
    """The table is that of the module, but for its words for the verifier's nodes."""
    stated = rows(source.__doc__ or "")
    told = rows(section("What is told"))
    assert [(row[0], row[1].replace(" that counts", "").replace("`", "")) for row in told] == [
        (row[0], row[1].replace("`", "")) for row in stated
    ]
    assert len(told) == len(stated) > 10


def test_the_answers_to_a_push_are_those_of_the_code() -> None:
    """Which are about the event, and the pauses."""
    text = section("Push")
    assert set(re.findall(r"`(invalid_\w+)`", text)) == pushing._OF_THE_EVENT
    assert f"none within {pushing.TIMEOUT:g} s" in text
    assert (pushing.FIRST_PAUSE, pushing.MAX_PAUSE) == (0.5, 60)


def test_the_bounds_are_those_of_the_code() -> None:
    """Each number of the table is a constant's."""
    numbers = [float(row[1]) for row in rows(section("What can be lost"))]
    assert numbers == [MAX_QUEUED, MAX_AGE / 86_400, MAX_STREAMS, LOOK]
    assert f"up to {LONGEST_WAIT:g} s; four" in " ".join(section("Poll").split())
    assert MOST_WAITING == 4


def test_the_receiver_of_the_page_can_be_made() -> None:
    """The block of Python runs."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(ast.parse(block), "events.md", "exec"), names)  # noqa: S102 - the page's own code
    assert isinstance(names["receiver"], EventReceiver)
    names["poller"].close()
    names["continuity"].close()
