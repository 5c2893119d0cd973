"""Optional leases on the wire, and what a verifier says of those that it left out."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import (
    Binding,
    CertifiedKey,
    Challenge,
    DeniedLease,
    Evidence,
    IssuedLease,
    LeaseAnswer,
    LeaseRequest,
    PlainKey,
    TokenEncoding,
    confirmation_digest,
    parse_evidence,
    scope_digest,
)
from bootlease.evidence.challenge import MAX_ANSWER, MAX_RECEIPT
from bootlease.evidence.denied import MAX_REASONS
from bootlease.evidence.request import MAX_LEASES, parse_lease_request
from bootlease.model import PCR_COUNT, Effect, Finding, HashAlg

WISHES = (
    LeaseRequest(("tool:a",), "https://rp.example", PlainKey(b"k")),
    LeaseRequest(
        ("repo:x/*", "tool:b"),
        "https://rp.example",
        CertifiedKey(b"p", b"a", b"s"),
        TokenEncoding.JWT,
        level=2,
    ),
)
CHALLENGE = Challenge(b"n" * 32, b"i" * 32, 10, 20, {HashAlg.SHA256: (0, 7)})
ISSUED = IssuedLease(b"l" * 16, TokenEncoding.JWT, b"token", b"c" * 32, 130, b"receipt")
ANSWER = LeaseAnswer(b"d" * 32, b"h" * 32, 3, 120, 119, (ISSUED,), CHALLENGE)
NOTE = Finding("policy.scope.denied", "Not that.", Effect.NOTES, seen="tool:x")


def document(leases: tuple[LeaseRequest, ...]) -> bytes:
    """Return evidence that asks for leases, signed by nobody."""
    binding = Binding(
        bytes(range(32)),
        None,
        scope_digest(leases),
        confirmation_digest(leases),
        {"tcg": b"\x07" * 32},
    )
    pcrs = {HashAlg.SHA256: {0: b"\x01" * 32}}
    encoded = binding.encode()
    return Evidence(binding, encoded, leases, bytes(145), bytes(72), pcrs, {}).encode()


def test_who_asks_for_nothing_optional_sends_what_was_always_sent() -> None:
    """Evidence and answer without it are the bytes that earlier versions wrote."""
    assert hashlib.sha256(document(WISHES)).hexdigest() == (
        "6d09ed03c2a17faa5b24b4ecf8a40ad93e3d1d2d674cf67584b3b7b7fe51c537"
    )
    assert hashlib.sha256(ANSWER.encode()).hexdigest() == (
        "088004cebf08cd3cf89103578c90bbb9e30ac160e99398878176fd52b5774e91"
    )
    assert scope_digest(WISHES).hex() == (
        "ef5b88d8e25480eae35731f18afff983a4120b5c80736d219ef5afaa42d95ffa"
    )


@pytest.mark.parametrize("level", [None, 0, 3])
def test_optional_goes_through_the_wire(level: int | None) -> None:
    """It arrives beside the level, and stands in what the quote is bound to."""
    asked = dataclasses.replace(WISHES[0], level=level, optional=True)
    assert parse_lease_request(asked.wire()) == asked
    assert asked.wire()["opt"] is True
    wish: list[object] = [["tool:a"], "https://rp.example", "cwt"]
    wish += ([] if level is None else [level]) + [True]
    assert asked.encoded()[0] == cbor.encode(wish)


def test_every_wish_is_bound_to_bytes_of_its_own() -> None:
    """No level reads as leave to leave a lease out, nor the other way round."""
    wishes = {
        dataclasses.replace(WISHES[0], level=level, optional=optional).encoded()[0]
        for level in (None, 0, 1, 2, 3)
        for optional in (False, True)
    }
    assert len(wishes) == 10


def test_evidence_asks_for_as_many_leases_as_one_quote_serves() -> None:
    """A node has 256 workloads at most."""
    leases = tuple(
        LeaseRequest((f"tool:{number}",), "x", PlainKey(b"k")) for number in range(MAX_LEASES)
    )
    assert parse_evidence(document(leases)).leases == leases
    with pytest.raises(MalformedError, match="more than 256"):
        parse_evidence(document((*leases, *leases[:1])))


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30)
findings = st.builds(
    Finding,
    id=texts,
    message=texts,
    effect=st.just(Effect.NOTES),
    pcr=st.none() | st.integers(0, PCR_COUNT - 1),
    event=st.none() | st.integers(0, 9),
    expected=st.none() | texts,
    seen=st.none() | texts,
)
left_out = st.lists(
    st.builds(
        DeniedLease,
        index=st.integers(0, MAX_LEASES - 1),
        findings=st.lists(findings, min_size=1, max_size=MAX_REASONS).map(tuple),
    ),
    max_size=4,
    unique_by=lambda each: each.index,
).map(lambda each: tuple(sorted(each, key=lambda one: one.index)))


@given(left_out)
def test_what_is_left_out_survives_the_wire(denied: tuple[DeniedLease, ...]) -> None:
    """An answer reads back as it was written, in deterministic CBOR."""
    answer = dataclasses.replace(ANSWER, denied=denied)
    encoded = answer.encode()
    assert LeaseAnswer.parse(encoded) == answer
    members = cbor.decode(ANSWER.encode(), max_bytes=4096)
    if denied:
        members["denied"] = [
            [each.index, list(map(Finding.as_dict, each.findings))] for each in denied
        ]
    assert encoded == cbor.encode(members)


@given(st.sets(st.integers(0, 6)), st.integers(1, 5))
def test_each_granted_lease_knows_its_place(left: set[int], granted: int) -> None:
    """Places are those of the wishes that nobody left out, in their order."""
    places = [place for place in sorted(left) if place < granted + len(left)]
    places = [place for number, place in enumerate(places) if place <= granted + number]
    denied = tuple(DeniedLease(place, (NOTE,)) for place in places)
    answer = dataclasses.replace(ANSWER, leases=(ISSUED,) * granted, denied=denied)
    assert sorted((*answer.granted(), *places)) == list(range(granted + len(places)))
    assert sorted(answer.granted()) == list(answer.granted())


WORDS: dict[str, Any] = {"id": "a.b", "effect": "notes", "message": "No."}


@pytest.mark.parametrize(
    ("denied", "complaint"),
    [
        ([], "without one"),
        ({}, "lacks the array"),
        ([[0, [WORDS]]] * MAX_LEASES, "more than 255 items"),
        ([5], "not a number and findings"),
        ([[0]], "not a number and findings"),
        ([[0, [WORDS], 1]], "not a number and findings"),
        ([[-1, [WORDS]]], "impossible number"),
        ([[256, [WORDS]]], "impossible number"),
        ([[True, [WORDS]]], "impossible number"),
        ([[0, []]], "1 to 4 findings"),
        ([[0, [WORDS] * 5]], "1 to 4 findings"),
        ([[0, WORDS]], "1 to 4 findings"),
        ([[1, [WORDS]], [0, [WORDS]]], "in no order"),
        ([[1, [WORDS]], [1, [WORDS]]], "or one twice"),
        ([[0, ["text"]]], "not a CBOR map"),
        ([[0, [WORDS | {"effect": "refuses"}]]], "refuses more"),
        ([[0, [WORDS | {"effect": "ignores"}]]], "refuses more"),
        ([[0, [WORDS | {"id": ""}]]], "1 to 128"),
        ([[0, [WORDS | {"message": "x" * 2049}]]], "1 to 2048"),
        ([[0, [WORDS | {"message": 7}]]], "another type"),
        ([[0, [WORDS | {"pcr": 24}]]], "0 to 23"),
        ([[0, [WORDS | {"event": -1}]]], "0 to 4294967295"),
        ([[0, [WORDS | {"seen": "x" * 2049}]]], "1 to 2048"),
    ],
)
def test_what_is_said_of_left_out_leases_has_its_form(denied: object, complaint: str) -> None:
    """Each deviation from it makes the answer malformed, and is named."""
    members = cbor.decode(ANSWER.encode(), max_bytes=4096) | {"denied": denied}
    with pytest.raises(MalformedError, match=complaint):
        LeaseAnswer.parse(cbor.encode(members))


def test_a_verifier_writes_nothing_on_a_terminal() -> None:
    """What it says of a lease that it left out is one line of what prints."""
    words = WORDS | {"message": "a\x1b[2Jb\nc", "seen": "\u202ex"}
    members = cbor.decode(ANSWER.encode(), max_bytes=4096) | {"denied": [[0, [words]]]}
    (finding,) = LeaseAnswer.parse(cbor.encode(members)).denied[0].findings
    assert (finding.message, finding.seen) == ("a?[2Jb?c", "?x")


def test_an_answer_of_as_many_leases_as_there_are_can_be_read() -> None:
    """Tokens of the usual kind, each with its receipt, are far below the limit."""
    lease = dataclasses.replace(ISSUED, token=bytes(4096), receipt=bytes(MAX_RECEIPT // 4))
    answer = dataclasses.replace(ANSWER, leases=(lease,) * MAX_LEASES)
    assert len(answer.encode()) < MAX_ANSWER
    assert LeaseAnswer.parse(answer.encode()) == answer
