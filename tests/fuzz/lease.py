"""The lease endpoint, in process: a node's honest evidence, changed as the fuzzer says.

An input is a list of edits of six bytes: two of position, one of what to do, three of what with.
Every byte of evidence is signed, or bound to what is, or a spelling that is not the only one; so
whatever the edits, nobody but the node itself may be granted a lease.
"""

from __future__ import annotations

import atexit
import contextlib
import struct
import tempfile
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded_verifier import evidence_for, recorded_verifier
from bootlease.testing.scene import default_lease
from bootlease.verifier.problems import ProblemError

_EDIT: Final = struct.Struct("<HB3s")


def edited(data: bytes, edits: bytes) -> bytes:
    """Return ``data`` with edits made."""
    changed = bytearray(data)
    for position, action, value in _EDIT.iter_unpack(
        edits[: len(edits) // _EDIT.size * _EDIT.size]
    ):
        at = position % (len(changed) + 1)
        count = 1 + action // 4 % 3
        match action % 4:
            case 0:
                changed[at : at + count] = value[:count]
            case 1:
                changed[at:at] = value[:count]
            case 2:
                del changed[at : at + value[0]]
            case _:
                start = int.from_bytes(value[:2], "little") % (len(changed) + 1)
                changed[at:at] = changed[start : start + value[2]]
    return bytes(changed)


class LeaseEndpoint:
    """A verifier with a node that is about to begin a lineage."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        atexit.register(self._stack.close)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()), "verifier")
        self._verifier = self._stack.enter_context(recorded_verifier(folder, LocalCA.create()))
        self._node = self._verifier.enrol()
        challenge = self._verifier.challenge(self._node)
        self._first = evidence_for(self._node, challenge, (default_lease(),))

    def present(self, edits: bytes) -> None:
        """Present evidence with edits made; what is left as it was is not presented."""
        body = edited(self._first, edits)
        if body == self._first:
            return
        try:
            decided = self._verifier.present(self._node, body)
        except (MalformedError, VerificationError, ProblemError):
            return
        raise AssertionError(f"{body.hex()} was decided on: {decided}")
