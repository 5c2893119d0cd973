"""What a monitor alarms on, each with its finding, and the evidence that goes with it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Final

from bootlease.errors import VerificationError
from bootlease.model import Finding

FORK: Final = "monitor.fork"
"""Two checkpoints that the log signed exclude each other."""
GAP: Final = "monitor.gap"
"""Something that a signed checkpoint covers, or the chain of shards demands, is not published."""
REWRITE: Final = "monitor.rewrite"
"""What is published is not what was signed."""
ROLLBACK: Final = "monitor.rollback"
"""The log shows less than it showed before."""
SIGNATURE: Final = "monitor.signature"
"""A checkpoint is not the log's."""


class AlarmError(VerificationError):
    """The log did what it must not do.

    Attributes:
        notes: The checkpoints that show it, as they came: keep them.
    """

    def __init__(
        self,
        finding_id: str,
        message: str,
        *notes: bytes,
        expected: str | None = None,
        seen: str | None = None,
    ) -> None:
        super().__init__(Finding(finding_id, message, expected=expected, seen=seen))
        self.notes = tuple(note for note in notes if note)

    def evidence(self) -> tuple[str, bytes]:
        """Return a file to keep: what makes its name unique, and its content.

        The same alarm gives the same file. Notes are shown as text where they are text, and in
        base64 in any case: a signature counts byte by byte.
        """
        content = {
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": [
                {
                    "base64": base64.b64encode(note).decode(),
                    "text": note.decode(errors="replace"),
                }
                for note in self.notes
            ],
        }
        data = json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
        return hashlib.sha256(data).hexdigest()[:12], data
