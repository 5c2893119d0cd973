"""What the exit codes of ``bootlease`` mean: people and scripts rely on them."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The one table of exit codes."""

    ACCEPTED = 0
    REFUSED = 1
    USAGE = 2
    """Wrong usage or malformed input."""
    UNREACHABLE = 3
    """A verifier, TPM or other peer could not be reached."""
    INTERRUPTED = 130
