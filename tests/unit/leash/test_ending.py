"""How a run ended, for programs and for people."""

from __future__ import annotations

import pytest

from bootlease.leash.ending import Ending, Reason, RunExit, of_status
from bootlease.model import Finding


@pytest.mark.parametrize(
    ("status", "reason", "code", "words"),
    [
        (0, Reason.EXITED, 0, "exited with 0"),
        (3, Reason.EXITED, 3, "exited with 3"),
        (-9, Reason.KILLED, 137, "SIGKILL"),
        (-15, Reason.KILLED, 143, "SIGTERM"),
        (-40, Reason.KILLED, 168, "signal 40"),
    ],
)
def test_own_end_of_a_workload(status: int, reason: Reason, code: int, words: str) -> None:
    """Its own exit code, or 128 + n."""
    ending = of_status(status)
    assert (ending.reason, ending.code) == (reason, code)
    assert words in ending.message


def test_exit_codes_are_those_of_the_record() -> None:
    """Scripts rely on them: docs/adr/0015-leash.md."""
    assert [code.value for code in RunExit] == [121, 122, 123, 124, 125, 126, 127]


def test_json_form() -> None:
    """What is not known is left out."""
    bare = Ending(Reason.LEVEL, 124, "no")
    assert bare.as_dict() == {"event": "ended", "reason": "level", "code": 124, "message": "no"}
    full = Ending(Reason.REFUSED, 121, "no", (Finding("a.b", "c."),), 0.00123)
    assert full.as_dict()["gone_after_ms"] == 1.23
    assert [found["id"] for found in full.as_dict()["findings"]] == ["a.b"]
