"""What a table of problems is made of: each shell that answers over HTTP has its own.

Specification: RFC 9457 (problem details).
"""

from __future__ import annotations

import enum


class Problem(enum.Enum):
    """A kind of problem; its tables are subclasses.

    Attributes:
        status: The HTTP status.
        label: Its name in its ``type``.
        title: Its ``title``.
    """

    def __init__(self, status: int, label: str, title: str) -> None:
        self.status = status
        self.label = label
        self.title = title
