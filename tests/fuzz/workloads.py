"""What workloads and agents say to each other, and the rules for it.

Each message is read again as it was written; streams and answers are read whole and in pieces,
which must come to the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from bootlease.errors import MalformedError
from bootlease.localapi import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    EventLines,
    Granted,
    LeaseAsk,
    ProofAsk,
    ResponseReader,
    Unreached,
    encode_event,
    parse_event,
    parse_lease_ask,
    parse_problem,
    parse_proof_ask,
)
from bootlease.localapi.info import AgentInfo, parse_info
from bootlease.localapi.proofs import encode_proof, parse_proof
from bootlease.model import Finding
from bootlease.node.tables import parse_tables
from bootlease.node.workloads.rules import parse_rules
from bootlease.testing.tokens import HOLDER
from bootlease.token import TokenFormat

_PIECE: Final = 7


def _again(parse: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Callable[[bytes], Any]:
    def check(data: bytes) -> None:
        value = parse(data)
        if parse(encode(value)) != value:
            raise AssertionError(f"{value!r} is written as something else")

    return check


def _pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _PIECE):
        yield data[at : at + _PIECE]


def _lines(data: bytes) -> None:
    whole, parts, come = EventLines(), EventLines(), list[Event]()
    try:
        expected = whole.feed(data)
    except MalformedError:
        return
    for piece in _pieces(data):
        come += parts.feed(piece)
    if come != expected:
        raise AssertionError("events depend on how their bytes come")


def _answer(data: bytes) -> None:
    outcomes: list[tuple[int, dict[str, str], bytes] | None] = []
    for pieces in ([data], list(_pieces(data))):
        reader, body = ResponseReader(), b""
        try:
            for piece in pieces:
                body += reader.feed(piece)
            reader.closed()
        except MalformedError:
            outcomes.append(None)
            continue
        outcomes.append((reader.status, dict(reader.headers), body))
    if outcomes[0] != outcomes[1]:
        raise AssertionError("an answer depends on how its bytes come")


PARSERS: Final[list[tuple[str, Callable[[bytes], Any]]]] = [
    ("lease", _again(parse_lease_ask, LeaseAsk.encode)),
    ("proof request", _again(parse_proof_ask, ProofAsk.encode)),
    ("event", _again(parse_event, encode_event)),
    ("proof", _again(parse_proof, encode_proof)),
    ("info", _again(parse_info, AgentInfo.encode)),
    ("problem", parse_problem),
    ("lines", _lines),
    ("answer", _answer),
    ("rules", lambda data: parse_rules(parse_tables(data).tables("workload"))),
]


def seeds() -> Iterator[tuple[str, bytes]]:
    """Return parser and input."""
    handle = "A" * 43
    scope, audience = ("tool:search",), "https://tools.example"
    yield "lease", LeaseAsk(scope, audience, handle, level=2).encode()
    yield "lease", json.dumps({"scope": ["a"], "audience": "b", "handle": handle}).encode()
    own = {"scope": ["a"], "audience": "b", "handle": handle, "key": HOLDER.public.jwk()}
    yield "lease", json.dumps(own).encode()
    yield "proof request", ProofAsk("GET", "https://tools.example/a", "n").encode()
    found = (Finding("quote.nonce.mismatch", "No.", pcr=1, event=2, expected="a", seen="b"),)
    events: list[Event] = [
        Granted(handle, "ab" * 16, "AAAA", TokenFormat.CWT, 1, scope, audience, 9, 1.5, 2.0, 1),
        Unreached("no answer", 1.0),
        Denied(found),
        Ended(EndedReason.REFUSED, found),
        Alive(),
    ]
    for event in events:
        yield "event", encode_event(event)
    yield "lines", b"".join(map(encode_event, events))
    yield "proof", encode_proof({"Authorization": "DPoP AAAA", "DPoP": "a.b.c"})
    yield "info", AgentInfo("0.1.0", "https://verifier.example", "ab").encode()
    yield "problem", json.dumps({"title": "No", "findings": [found[0].as_dict()]}).encode()
    yield "answer", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    yield (
        "answer",
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
    )
    yield (
        "rules",
        b"""[[workload]]
name = "a"
uid = [0]
exe = ["/a"]
cgroup = ["/b"]
scope = ["a"]
audience = ["b"]
confirmation = ["tpm"]
encoding = ["cwt"]
level = 1
leases = 2
""",
    )
