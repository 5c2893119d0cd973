"""How a ``bootlease run`` ended: exit codes that people and scripts rely on, and words."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import Any

from bootlease.model import Finding


class RunExit(enum.IntEnum):
    """Exit codes beside the workload's own; docs/adr/0015-leash.md."""

    REFUSED = 121
    """The lease was refused, or taken back."""
    LAPSED = 122
    """The lease ran out."""
    UNREACHED = 123
    """No lease came, and nothing was started."""
    LEVEL = 124
    """The system does not allow the level that was required."""
    LEASH = 125
    """The leash could not be laid, or broke."""
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


class Reason(enum.Enum):
    """Why it ended."""

    EXITED = "exited"
    KILLED = "killed"
    INTERRUPTED = "interrupted"
    """A signal came before the workload had started."""
    REFUSED = "refused"
    LAPSED = "lapsed"
    UNREACHED = "unreached"
    LEVEL = "level"
    LEASH = "leash"
    NOT_EXECUTABLE = "not-executable"
    NOT_FOUND = "not-found"


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended.

    Attributes:
        reason: Why, for programs.
        code: The exit code.
        message: Why, for people; one line.
        findings: What the verifier or the agent found, where it refused.
        gone_after: Seconds from the end of the lease to the end of the last process, where the
            guard killed.
    """

    reason: Reason
    code: int
    message: str
    findings: tuple[Finding, ...] = ()
    gone_after: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        members: dict[str, Any] = {
            "event": "ended",
            "reason": self.reason.value,
            "code": self.code,
            "message": self.message,
        }
        if self.findings:
            members["findings"] = [finding.as_dict() for finding in self.findings]
        if self.gone_after is not None:
            members["gone_after_ms"] = round(self.gone_after * 1000, 3)
        return members


def of_status(code: int) -> Ending:
    """Return how a workload ended by itself.

    Args:
        code: ``os.waitstatus_to_exitcode``: negative for a signal.
    """
    if code >= 0:
        return Ending(Reason.EXITED, code, f"the workload exited with {code}")
    named = {number.value: number.name for number in signal.Signals}
    name = named.get(-code, f"signal {-code}")
    return Ending(Reason.KILLED, 128 - code, f"the workload was ended by {name}")
