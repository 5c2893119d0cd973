"""What the exit codes of ``bootlease`` mean: people and scripts rely on them."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The one table of exit codes."""

    ACCEPTED = 0
    REFUSED = 1
    USAGE = 2
    """Wrong usage, malformed input, a file or folder that will not do, a closed standard output."""
    UNREACHABLE = 3
    """A verifier, TPM or other peer could not be reached, or standard output not be written."""
    HUNG_UP = 129
    """128 + SIGHUP."""
    INTERRUPTED = 130
    """128 + SIGINT."""
    READER_GONE = 141
    """128 + SIGPIPE: whoever read standard output has gone. It says nothing of any verdict."""
    TERMINATED = 143
    """128 + SIGTERM."""
