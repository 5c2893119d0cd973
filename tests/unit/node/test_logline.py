"""Lines for people that are events for programs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node.lease import EndReason
from bootlease.node.logline import Event, Level, Log, LogFormat
from bootlease.node.observing import Outcome
from bootlease.node.reporter import Reporter

if TYPE_CHECKING:
    from .conftest import Rig


class Silent:
    """A place for statuses."""

    def report(self, status: object) -> None:
        """Drop it."""


def test_text() -> None:
    """People get the time and one line, whatever is in it."""
    stream = io.StringIO()
    Log(stream)(Event("a.b", "one\ntwo", count=3))
    assert stream.getvalue()[20:] == " one two\n"


def test_json() -> None:
    """Programs get an object a line: time, level, event, message and members."""
    stream = io.StringIO()
    log = Log(stream, LogFormat.JSON)
    found = Finding("x.y", "It is so.")
    log(Event("a.b", "text", level=Level.ERROR, findings=(found,), count=3, none=None))
    log("only text")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "error",
        "event": "a.b",
        "message": "text",
        "count": 3,
        "findings": [found.as_dict()],
    }
    assert (second["event"], second["message"]) == ("agent.note", "only text")


@pytest.mark.parametrize("name", ["a", "A.b", "a.b c", ""])
def test_names_are_names(name: str) -> None:
    """An event's name is dotted and lower case."""
    with pytest.raises(ValueError, match="no event's name"):
        Event(name, "text")
    with pytest.raises(ValueError, match="is taken"):
        Event("a.b", "text", time=3)


def test_nobody_reads() -> None:
    """A log that cannot be written ends nothing."""
    stream = io.StringIO()
    stream.close()
    Log(stream)("text")


def test_no_token_and_no_key_in_any_line(rig: Rig) -> None:
    """Nothing that an agent and its reporter say of a whole story holds a token or a key."""
    stream = io.StringIO()
    log = Log(stream, LogFormat.JSON)
    reporter = Reporter("https://v.example", Silent(), rig.clock, log)
    rig.said = log  # type: ignore[assignment]
    log.append = log  # type: ignore[attr-defined]
    agent = rig.start()
    first = agent.step()
    rig.clock.pass_time(40)
    second = agent.step()
    for outcome in (first, second):
        reporter.stepped(outcome, agent.node)
    rig.verifier.refusal = (Finding("policy.scope.denied", "No."),)
    reporter.stepped(agent.step(), agent.node)
    reporter.stepped(Outcome(1.0, error=TransportError("gone")), agent.node)
    reporter.stepped(Outcome(1.0, error=VerificationError(Finding("a.b", "No."))), agent.node)
    assert second.granted is not None
    reporter.ended(EndReason.LAPSED, second.granted)
    said = stream.getvalue()
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert {"lease.granted", "attempt.refused", "attempt.failed", "lease.ended"} <= {*events}
    for outcome in (first, second):
        assert outcome.granted is not None
        for holding in outcome.granted.holdings:
            exported = holding.key.export()
            assert exported is not None
            secrets = (holding.encoded.hex(), holding.encoded[-16:].hex(), exported.decode())
            for secret in secrets:
                assert secret not in said
            assert exported.splitlines()[1].decode() not in said
