"""What a log and a witness say to each other: ``add-checkpoint``.

Specification: C2SP tlog-witness v1 §add-checkpoint. A request is the size that the witness last
saw, the proof that the tree only grew since, and the checkpoint; a conflict is answered with the
size that the witness has.

Not here: cosignatures (``cosignature``), HTTP. The proof's lines stand alone in what the verifier
publishes as a consistency proof, so they have functions of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ledger.merkle import MAX_PATH
from bootlease.ledger.text import decode_hash, decode_number, encode_base64

MAX_REQUEST: Final = 64 * 1024
"""Bytes: 63 hashes are 3 kB, and a checkpoint with 16 post-quantum signatures is some 55 kB."""
MAX_SIZE_ANSWER: Final = 32
SIZE_MEDIA_TYPE: Final = "text/x.tlog.size"

_OLD: Final = b"old "
_LINE: Final = 44
"""Base64 of 32 bytes."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign: unverified.

    Attributes:
        old: Size of the tree that the witness cosigned last; 0 for none.
        proof: Consistency proof from that tree to the checkpoint's.
        checkpoint: The checkpoint, a signed note.
    """

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the request's body."""
        return b"old %d\n%s\n%s" % (self.old, encode_proof(self.proof), self.checkpoint)


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Parse a request's body; the checkpoint within stays as it is.

    Raises:
        MalformedError: It has not the form that the specification demands.
    """
    if len(data) > MAX_REQUEST:
        raise MalformedError(f"an add-checkpoint request is at most {MAX_REQUEST} bytes long")
    head, gap, checkpoint = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if not gap or not first.startswith(_OLD):
        raise MalformedError("an add-checkpoint request is `old N`, a proof, an empty line, a note")
    return AddCheckpoint(decode_number(first[len(_OLD) :]), _parse_lines(lines), checkpoint)


def parse_size_answer(data: bytes) -> int:
    """Parse the body of a conflict: the size that the witness has.

    Raises:
        MalformedError: It is no decimal number and a newline.
    """
    if len(data) > MAX_SIZE_ANSWER or data[-1:] != b"\n":
        raise MalformedError("a witness's size is one decimal number and a newline")
    return decode_number(data[:-1])


def encode_proof(path: Iterable[bytes]) -> bytes:
    """Return a proof as lines of base64."""
    return b"".join(encode_base64(one) + b"\n" for one in path)


def parse_proof(data: bytes) -> tuple[bytes, ...]:
    """Parse a proof of lines of base64, each with its newline.

    Raises:
        MalformedError: A line is no hash, or there are too many.
    """
    if not data:
        return ()
    if data[-1:] != b"\n" or len(data) > MAX_PATH * (_LINE + 1):
        raise MalformedError(f"a proof is at most {MAX_PATH} lines, each with its newline")
    return _parse_lines(data[:-1].split(b"\n"))


def _parse_lines(lines: Sequence[bytes]) -> tuple[bytes, ...]:
    if len(lines) > MAX_PATH:
        raise MalformedError(f"a proof has at most {MAX_PATH} lines")
    return tuple(map(decode_hash, lines))
