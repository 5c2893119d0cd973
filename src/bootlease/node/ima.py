"""Where a node's IMA list comes from: what its kernel measured since the boot.

Specification: the Linux kernel shows the list through securityfs, entry after entry, and only ever
appends to it (``security/integrity/ima/ima_fs.c``). What the entries say is the verifier's
business; a node finds where one ends, to send those that its verifier has not seen.

Not handled: a list that the kernel writes big-endian (``ima_canonical_fmt`` on such a machine
makes it little-endian).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from bootlease.errors import MalformedError, TransportError
from bootlease.evidence.document import MAX_IMA_LIST
from bootlease.ima.framing import read_head, template_hash_size
from bootlease.node.files import read_bounded

KERNEL_LIST: Final = Path("/sys/kernel/security/ima/binary_runtime_measurements")


class IMASource(Protocol):
    """Gives the IMA list of the running system."""

    def since(self, entries: int) -> bytes | None:
        """Return what follows the first ``entries`` entries; None where the kernel has no list.

        Raises:
            TransportError: It cannot be read, is too long, or is no list.
        """


class IMAListFile:
    """The list in a file: the kernel's, or a simulator's.

    It remembers where it has been, so that a renewal reads what is new and not the whole list.

    Args:
        path: The file.
    """

    def __init__(self, path: Path = KERNEL_LIST) -> None:
        self._path = path
        self._entries = 0
        self._offset = 0

    def since(self, entries: int) -> bytes | None:
        """Return what follows; see ``IMASource``."""
        if not self._path.exists():
            return None
        try:
            if entries >= self._entries > 0:
                try:
                    return self._read(entries)
                except MalformedError:
                    # Another list than before: another boot, of which the verifier will hear.
                    pass
            self._entries = self._offset = 0
            return self._read(entries)
        except MalformedError as exc:
            raise TransportError(f"IMA list {self._path} is none: {exc}") from exc

    def _read(self, entries: int) -> bytes:
        data = read_bounded(self._path, "IMA list", at_most=MAX_IMA_LIST, start=self._offset)
        skipped, length = _skip(data, entries - self._entries)
        self._entries, self._offset = self._entries + skipped, self._offset + length
        return data[length:]


def _skip(data: bytes, entries: int) -> tuple[int, int]:
    """Return how many of so many entries there are, and how many bytes they take.

    Raises:
        MalformedError: They are none.
    """
    hash_size, position, total = template_hash_size(data), 0, len(data)
    for number in range(entries):
        if position == total:
            return number, position
        *_, position = read_head(data, position, hash_size)
    return entries, position
