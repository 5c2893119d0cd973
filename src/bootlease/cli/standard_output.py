"""Standard output whose failures cannot be taken for another file's, nor for a verdict.

click ends a program whose pipe broke with exit code 1, which stands for a refusal here; and the
error of a full disk does not say which file was written.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class OutputError(Exception):
    """Standard output cannot be written.

    Attributes:
        reader_gone: It is a pipe that nobody reads any more.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"cannot write to standard output: {cause.strerror or cause}")
        self.reader_gone = isinstance(cause, BrokenPipeError)


class _Descriptor(io.FileIO):
    """A file descriptor that raises ``OutputError``."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer, as io has it
        try:
            return super().write(data)
        except OSError as exc:
            raise OutputError(exc) from exc


def install() -> None:
    """Put such a standard output in the place of ``sys.stdout``."""
    given = sys.stdout
    if not isinstance(given, io.TextIOWrapper):
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(given.fileno(), "wb", closefd=False)),
        encoding=given.encoding,
        errors=given.errors,
        # A terminal, or an interpreter that was told not to buffer.
        line_buffering=given.line_buffering or given.write_through,
    )


def drop() -> None:
    """Send what is still unwritten nowhere: the interpreter would complain of it at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
