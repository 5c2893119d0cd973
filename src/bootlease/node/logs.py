"""Where a node's measured-boot log comes from.

Specification: the Linux kernel exports the firmware's event log as the firmware wrote it, through
securityfs (``drivers/char/tpm/eventlog/common.c``). What the bytes mean is the verifier's
business: a node presents its log and does not interpret it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bootlease.errors import TransportError
from bootlease.node.files import read_bounded

MAX_EVENT_LOG: Final = 8 * 1024 * 1024
_SECURITYFS: Final = Path("/sys/kernel/security")
_DEVICE: Final = re.compile(r"device:/dev/tpm(?:rm)?([0-9]{1,5})", re.ASCII)


class EventLogSource(Protocol):
    """Gives the event log of the running boot."""

    def read(self) -> bytes:
        """Return the log.

        Raises:
            TransportError: There is none, or it cannot be read.
        """


@dataclass(frozen=True, slots=True)
class EventLogFile:
    """An event log in a file, for example a simulator's.

    Attributes:
        path: The file.
    """

    path: Path

    def read(self) -> bytes:
        """Return the log; see ``EventLogSource``."""
        data = read_bounded(self.path, "event log", at_most=MAX_EVENT_LOG)
        if not data:
            raise TransportError(f"event log {self.path} is empty")
        return data


@dataclass(frozen=True, slots=True)
class KernelEventLog:
    """The event log that the kernel exports for one of its TPMs.

    Attributes:
        number: The TPM's number, 0 for ``/dev/tpm0``.
        securityfs: Where securityfs is mounted.
    """

    number: int = 0
    securityfs: Path = _SECURITYFS

    @property
    def path(self) -> Path:
        """The file that the kernel exports."""
        return self.securityfs / f"tpm{self.number}" / "binary_bios_measurements"

    def read(self) -> bytes:
        """Return the log; see ``EventLogSource``."""
        if not self.securityfs.is_dir() or not any(self._entries()):
            raise TransportError(
                f"no event log: securityfs is not mounted at {self.securityfs}"
                f" (mount -t securityfs securityfs {self.securityfs}); --log names another file"
            )
        if not self.path.exists():
            raise TransportError(
                f"no event log at {self.path}: the firmware handed none to the kernel,"
                " or no TPM driver is loaded; --log names another file"
            )
        return EventLogFile(self.path).read()

    def _entries(self) -> list[Path]:
        try:
            return list(self.securityfs.iterdir())
        except OSError as exc:
            raise TransportError(
                f"cannot read event log {self.path}: {exc.strerror}; the agent runs as root,"
                " or --log names another file"
            ) from exc


def kernel_log_of(tcti: str) -> KernelEventLog:
    """Return the kernel's log of the TPM that a TCTI names, of TPM 0 where it names no device."""
    match = _DEVICE.match(tcti)
    return KernelEventLog(int(match[1]) if match else 0)
