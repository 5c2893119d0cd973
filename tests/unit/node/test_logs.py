"""Event log sources: bounded, and clear about what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.node.logs import MAX_EVENT_LOG, EventLogFile, KernelEventLog, kernel_log_of

if TYPE_CHECKING:
    from pathlib import Path


def test_file(tmp_path: Path) -> None:
    """A log is presented as it is, whatever its bytes mean."""
    path = tmp_path / "a log"
    path.write_bytes(b"\0any\xff")
    assert EventLogFile(path).read() == b"\0any\xff"


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(TransportError, match=r"cannot read event log .*none: No such file"):
        EventLogFile(tmp_path / "none").read()


def test_empty_file(tmp_path: Path) -> None:
    """An empty log is none."""
    (tmp_path / "log").touch()
    with pytest.raises(TransportError, match="is empty"):
        EventLogFile(tmp_path / "log").read()


def test_folder(tmp_path: Path) -> None:
    """A folder is no log."""
    with pytest.raises(TransportError, match="Is a directory"):
        EventLogFile(tmp_path).read()


def test_endless_file(tmp_path: Path) -> None:
    """A file without end is given up at the limit."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(MAX_EVENT_LOG + 1)
    with pytest.raises(TransportError, match="longer than"):
        EventLogFile(path).read()
    path.write_bytes(bytes(MAX_EVENT_LOG))
    assert len(EventLogFile(path).read()) == MAX_EVENT_LOG


def test_kernel_log(tmp_path: Path) -> None:
    """The kernel's log of a TPM is read from securityfs."""
    log = KernelEventLog(1, tmp_path)
    log.path.parent.mkdir()
    log.path.write_bytes(b"log")
    assert log.path == tmp_path / "tpm1" / "binary_bios_measurements"
    assert log.read() == b"log"


def test_no_securityfs(tmp_path: Path) -> None:
    """Where securityfs is not mounted, the message says how to mount it."""
    with pytest.raises(TransportError, match="mount -t securityfs"):
        KernelEventLog(0, tmp_path).read()
    with pytest.raises(TransportError, match="mount -t securityfs"):
        KernelEventLog(0, tmp_path / "none").read()


def test_no_log_of_this_tpm(tmp_path: Path) -> None:
    """Where the firmware handed over no log, that is what is said."""
    (tmp_path / "lockdown").touch()
    with pytest.raises(TransportError, match="firmware handed none"):
        KernelEventLog(0, tmp_path).read()


@pytest.mark.parametrize(
    ("tcti", "number"),
    [
        ("device:/dev/tpmrm0", 0),
        ("device:/dev/tpmrm12", 12),
        ("device:/dev/tpm3", 3),
        ("device", 0),
        ("tabrmd", 0),
    ],
)
def test_log_of_a_device(tcti: str, number: int) -> None:
    """The kernel's log belongs to the TPM that the TCTI names."""
    assert kernel_log_of(tcti).number == number
