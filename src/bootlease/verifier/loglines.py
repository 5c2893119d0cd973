"""What the verifier logs: one JSON object a line, on standard error.

Identifiers are hex; secrets, tokens and evidence never appear. Grants are counted, not listed:
each is a row of the decisions table.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from bootlease.model import Finding

_LOGGER: Final = logging.getLogger("bootlease.verifier")


def log_event(
    event: str,
    *,
    findings: Iterable[Finding] = (),
    **members: bytes | str | int | dict[str, int] | None,
) -> None:
    """Log that something happened.

    Args:
        event: What, as a stable word.
        findings: Findings that belong to it.
        members: Further members; bytes are shown as hex.
    """
    shown = {
        name: value.hex() if isinstance(value, bytes) else value for name, value in members.items()
    }
    noted = [finding.as_dict() for finding in findings]
    extra = {**shown, "findings": noted} if noted else shown
    _LOGGER.info(event, extra={"members": extra})


class _Lines(logging.Formatter):
    """One JSON object for each record, tracebacks as a member."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "members", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def log_to_stderr() -> None:
    """Send every log of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(logging.INFO)
