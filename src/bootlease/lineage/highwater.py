"""The furthest that a TPM's counters were ever seen to stand.

A lineage ends at a refusal, and another begins with no memory of the first. What a TPM may never
do, go back, is therefore kept for the EK and not for the lineage: a state that was restored from
a copy is refused however often it is tried, until an operator admits the node again.

Specification: TPM 2.0 Library part 1 §36 (clock, resetCount, restartCount). TPM2_Clear sets all
three to zero and so looks like a rollback: a cleared TPM needs the operator too.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from bootlease.errors import MalformedError
from bootlease.model import ClockInfo

_LAYOUT: Final = struct.Struct(">IIQ")


class HighWaterMark(NamedTuple):
    """Counters of a TPM, ordered as time orders them: a later boot is further, whatever its clock.

    Attributes:
        reset_count: TPM resets since the last clear.
        restart_count: Restarts and resumes since that reset.
        clock: Milliseconds powered since the last clear.
    """

    reset_count: int = 0
    restart_count: int = 0
    clock: int = 0

    @classmethod
    def of(cls, clock: ClockInfo) -> HighWaterMark:
        """Return where these counters stand."""
        return cls(clock.reset_count, clock.restart_count, clock.clock)

    def encode(self) -> bytes:
        """Return 16 bytes that compare, byte by byte, as the marks do."""
        return _LAYOUT.pack(*self)

    @classmethod
    def parse(cls, data: bytes) -> HighWaterMark:
        """Parse an encoded mark.

        Raises:
            MalformedError: It has another length.
        """
        if len(data) != _LAYOUT.size:
            raise MalformedError(f"a high-water mark has {_LAYOUT.size} bytes, not {len(data)}")
        return cls(*_LAYOUT.unpack(data))
