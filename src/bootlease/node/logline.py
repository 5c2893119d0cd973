"""What an agent says: a line for people that is an event for programs too.

``say`` everywhere takes a string. An ``Event`` is one, so that whoever only prints lines prints it,
and whoever writes JSON finds name and members. Names and members are stable: docs/agent.md lists
them. Tokens, keys, secrets and evidence are never members.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Self, TextIO

from bootlease.model import Finding

NOTE: Final = "agent.note"
"""The event of a line that has no name of its own."""
_NAME: Final = re.compile(r"[a-z]+(?:\.[a-z][a-z-]*)+", re.ASCII)
_RESERVED: Final = frozenset({"time", "level", "event", "message"})


class Level(enum.Enum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Member = str | int | float | bool | list[str] | list[dict[str, object]] | None


class Event(str):
    """One line, with its name and members.

    Args:
        name: Stable and dotted, such as ``lease.granted``.
        text: For people, one line.
        level: How much it matters.
        findings: Findings that belong to it.
        members: What programs read of it; None leaves a member out.
    """

    __slots__ = ("level", "members", "name")
    name: str
    level: Level
    members: dict[str, Member]

    def __new__(
        cls,
        name: str,
        text: str,
        *,
        level: Level = Level.INFO,
        findings: Iterable[Finding] = (),
        **members: Member,
    ) -> Self:
        """Make an event."""
        if not _NAME.fullmatch(name) or _RESERVED & members.keys():
            raise ValueError(f"{name} is no event's name, or a member's name is taken")
        made = super().__new__(cls, text)
        made.name, made.level = name, level
        made.members = {key: value for key, value in members.items() if value is not None}
        if found := [finding.as_dict() for finding in findings]:
            made.members["findings"] = found
        return made


class LogFormat(enum.Enum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


class Log:
    """Writes lines to a stream; several threads may.

    Attributes:
        format: How; may be changed at any time.
    """

    def __init__(self, stream: TextIO, form: LogFormat = LogFormat.TEXT) -> None:
        self._stream = stream
        self.format = form

    def __call__(self, line: str) -> None:
        """Write one line.

        A log that nobody reads any more, or a full disk under it, ends no lease.
        """
        moment = datetime.now(UTC)
        written = _json(line, moment) if self.format is LogFormat.JSON else _text(line, moment)
        with contextlib.suppress(OSError, ValueError):
            # One write: lines of two threads do not mix.
            self._stream.write(written + "\n")
            self._stream.flush()


def _text(line: str, moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ} {' '.join(line.splitlines())}"


def _json(line: str, moment: datetime) -> str:
    members: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": Level.INFO.value,
        "event": NOTE,
        "message": str(line),
    }
    if isinstance(line, Event):
        members |= {"level": line.level.value, "event": line.name, **line.members}
    return json.dumps(members, ensure_ascii=True)
