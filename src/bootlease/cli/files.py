"""Files that an operator names: read whole and bounded, and named where they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from bootlease.errors import MalformedError

MAX_FILE: Final = 16 * 1024 * 1024


def read_file(path: Path, *, at_most: int = MAX_FILE) -> bytes:
    """Return a file's bytes.

    Raises:
        MalformedError: It is too long.
    """
    with path.open("rb") as file:
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise MalformedError(f"{path} is longer than {at_most} bytes")
    return data


def name_of(file: IO[bytes]) -> str:
    """Return what to call a file in messages."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name not in {"-", "<stdin>"} else "standard input"


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Put ``file``, and what is said of it, before the message of a ``MalformedError``.

    Raises:
        MalformedError: One was raised within.
    """
    try:
        yield
    except MalformedError as exc:
        raise MalformedError(f"{file}: {exc}") from exc
