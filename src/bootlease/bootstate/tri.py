"""A state that may be unknown."""

from __future__ import annotations

import enum


class Tri(enum.Enum):
    """A state that may be unknown, which is neither of the others (attack D5)."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"
