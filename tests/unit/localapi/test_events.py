"""Events, problems, proofs: what is read is what was written; lines may come in any pieces."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.localapi import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    EventLines,
    Granted,
    Unreached,
    encode_event,
    parse_event,
    parse_problem,
)
from bootlease.localapi.findings import MAX_FINDINGS
from bootlease.localapi.info import AgentInfo, parse_info
from bootlease.localapi.proofs import encode_proof, parse_proof
from bootlease.localapi.wire import MAX_ANSWER
from bootlease.model import Effect, Finding
from bootlease.token import TokenFormat

GRANTED = Granted(
    handle="A" * 43,
    lease_id="ab" * 16,
    token="AAAA",
    encoding=TokenFormat.CWT,
    sequence=3,
    scope=("tool:search",),
    audience="https://tools.example",
    expires_at=1_900_000_000,
    deadline=1234.5,
    life=120.0,
)
FINDING = Finding("quote.nonce.mismatch", "No.", pcr=4, event=2, expected="a", seen="b")
EVENTS: list[Event] = [
    GRANTED,
    dataclasses.replace(GRANTED, level=2, encoding=TokenFormat.JWT, token="AA.AA.AA"),
    Unreached("no answer", 2.5),
    Denied((FINDING, Finding("a.b", "Note.", Effect.NOTES))),
    Ended(EndedReason.REFUSED, (FINDING,)),
    Ended(EndedReason.LAPSED),
    Alive(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_is_written_is_read_again(event: Event) -> None:
    """Agent and client agree on every event."""
    line = encode_event(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


def test_a_token_is_given_as_its_issuer_wrote_it() -> None:
    """A CWT travels as base64url, a JWT as itself."""
    assert GRANTED.token_bytes() == bytes(3)
    assert dataclasses.replace(GRANTED, encoding=TokenFormat.JWT, token="A.B.C").token_bytes() == (
        b"A.B.C"
    )


def test_times_are_rounded_down() -> None:
    """Nobody runs a part of a millisecond longer for having been told in text."""
    event = parse_event(encode_event(dataclasses.replace(GRANTED, deadline=10.0019)))
    assert isinstance(event, Granted)
    assert event.deadline == 10.001


@pytest.mark.parametrize(
    "changes",
    [
        {"handle": "A"},
        {"lease_id": "AB" * 16},
        {"lease_id": None},
        {"token": "a b"},
        {"token": "A.A"},
        {"token": "AA\r\nX: y"},
        {"token": ""},
        {"encoding": "xml"},
        {"sequence": -1},
        {"sequence": True},
        {"scope": []},
        {"audience": ""},
        {"expires_at": "1"},
        {"deadline_ms": None},
        {"deadline_ms": 1.5},
        {"life_ms": -1},
        {"level": 4},
        {"event": "renamed"},
        {"event": None},
        {"event": ["granted"]},
    ],
)
def test_a_grant_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    """A client rests its life on each member."""
    members = {**json.loads(encode_event(GRANTED)), **changes}
    with pytest.raises(MalformedError):
        parse_event(json.dumps(members).encode())


@pytest.mark.parametrize(
    "members",
    [
        {"event": "ended", "reason": "tired", "findings": []},
        {"event": "ended", "reason": "lapsed"},
        {"event": "denied", "findings": [{"id": "a"}]},
        {"event": "denied", "findings": [{"id": "a", "message": "b", "effect": "x"}]},
        {"event": "denied", "findings": ["x"]},
        {"event": "unreached", "error": "", "retry_in_ms": 1},
        {"event": "unreached", "error": "x", "retry_in_ms": 0.5},
    ],
)
def test_another_event_of_another_form_is_refused(members: dict[str, Any]) -> None:
    """An end that cannot be read is no reason to go on as if nothing had come."""
    with pytest.raises(MalformedError):
        parse_event(json.dumps(members).encode())


def test_unknown_members_are_passed_over() -> None:
    """A newer agent may say more."""
    assert parse_event(b'{"event":"alive","mood":"good"}') == Alive()


def test_what_the_verifier_wrote_is_cut_to_what_a_client_reads() -> None:
    """Findings of any number and length never keep an end from being heard."""
    long = Finding("🔒" * 500, "🔒" * 9000, expected="🔒" * 9000, seen="\x1b[31m")
    line = encode_event(Ended(EndedReason.REFUSED, (long,) * 200))
    event = parse_event(line)
    assert isinstance(event, Ended)
    assert 0 < len(event.findings) <= MAX_FINDINGS
    assert event.findings[0].seen == "?[31m"
    assert len(line) <= MAX_ANSWER


@given(st.data())
def test_lines_come_in_any_pieces(data: st.DataObject) -> None:
    """Where the bytes were cut on their way changes nothing."""
    stream = b"".join(map(encode_event, EVENTS))
    lines, come, at = EventLines(), list[Event](), 0
    while at < len(stream):
        size = data.draw(st.integers(1, 400))
        come += lines.feed(stream[at : at + size])
        at += size
    assert come == EVENTS


def test_a_line_that_does_not_end_is_bounded() -> None:
    """An agent that is none cannot fill a workload's memory."""
    lines = EventLines()
    lines.feed(b"x" * MAX_ANSWER)
    with pytest.raises(MalformedError):
        lines.feed(b"x")
    with pytest.raises(MalformedError):
        EventLines().feed(b"\n" + b"x" * (MAX_ANSWER + 1))
    with pytest.raises(MalformedError):
        parse_event(b" " * (MAX_ANSWER + 1))


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """Never any other error."""
    for parser in (parse_event, parse_proof, parse_info, EventLines().feed):
        try:
            parser(data)
        except MalformedError:
            continue
    assert parse_problem(data).text


def test_a_problem_is_read() -> None:
    """Title, detail and findings."""
    document = {"title": "No", "detail": "Because.", "findings": [FINDING.as_dict()]}
    problem = parse_problem(json.dumps(document).encode())
    assert (problem.text, problem.findings) == ("No: Because.", (FINDING,))
    assert parse_problem(b"x" * (MAX_ANSWER + 1)).text == "no reason given"


def test_proofs_are_read() -> None:
    """Two headers, or one for a token that needs no proof."""
    for headers in (
        {"Authorization": "DPoP AA", "DPoP": "a.b.c"},
        {"Authorization": "Bearer a.b.c"},
    ):
        assert parse_proof(encode_proof(headers)) == headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"DPoP": "a.b.c"},
        {"Authorization": "Basic AA"},
        {"Authorization": "DPoP AA\r\nX: y"},
        {"Authorization": "DPoP AA", "DPoP": "a b"},
        {"Authorization": "DPoP AA", "DPoP": 1},
        {"Authorization": "DPoP AA", "Cookie": "x"},
        ["Authorization"],
    ],
)
def test_headers_that_are_no_proof_are_refused(headers: Any) -> None:
    """What is put into a request cannot begin another header."""
    with pytest.raises(MalformedError):
        parse_proof(json.dumps({"headers": headers}).encode())


def test_an_agent_tells_of_itself() -> None:
    """Version, verifier and node."""
    for info in (AgentInfo("1", "https://v"), AgentInfo("1", "https://v", "ab")):
        assert parse_info(info.encode()) == info
