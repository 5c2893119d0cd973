"""Collecting evidence for offline use: a quote with everything that it speaks of.

The files are those that ``bootlease quote verify``, ``bootlease eventlog``, ``bootlease ima`` and
``bootlease reference learn`` read. Nothing here is a lease: no verifier is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError
from bootlease.model import HashAlg
from bootlease.node.files import reason
from bootlease.node.ima import IMASource
from bootlease.ports import TPMDevice

ATTEST: Final = "attest.bin"
SIGNATURE: Final = "signature.bin"
AK_PUBLIC: Final = "ak.pub"
PCRS: Final = "pcrs.json"
EVENT_LOG: Final = "eventlog.bin"
IMA_LIST: Final = "ima.bin"


def collect(
    device: TPMDevice,
    nonce: bytes,
    selection: Mapping[HashAlg, Sequence[int]],
    log: bytes | None,
    ima: IMASource | None = None,
) -> dict[str, bytes]:
    """Quote and return the files by name.

    Args:
        device: The node's TPM.
        nonce: qualifyingData of the quote, 1 to 64 bytes.
        selection: PCRs by bank.
        log: The event log, where there is one.
        ima: The IMA list, where there is one. It is read once the quote is made.

    Raises:
        TransportError: The TPM cannot be reached or refuses, or the IMA list cannot be read.
    """
    quoted = device.quote(nonce, selection)
    pcrs = {
        bank.label: {str(index): value.hex() for index, value in values.items()}
        for bank, values in quoted.pcrs.items()
    }
    files = {
        ATTEST: quoted.attest,
        SIGNATURE: quoted.signature,
        AK_PUBLIC: device.ak_public(),
        PCRS: json.dumps(pcrs, indent=1).encode() + b"\n",
    }
    if log is not None:
        files[EVENT_LOG] = log
    entries = None if ima is None else ima.since(0)
    return files if entries is None else {**files, IMA_LIST: entries}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``, which is made if it is missing.

    Raises:
        TransportError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as exc:
        raise TransportError(f"cannot write to {folder}: {reason(exc)}") from exc
