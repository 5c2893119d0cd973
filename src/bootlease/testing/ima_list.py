"""A kernel's IMA list without a kernel: entries written as the kernel writes them, and PCR 10.

Specification: Linux ``security/integrity/ima``: ``ima_fs.c`` (``ima_measurements_show``: PCR,
SHA-1, name and data of each entry, 32-bit lengths in front of names and data),
``ima_template_lib.c`` (fields, each with its length), ``ima_crypto.c`` (one hash of the template
data for each bank; ``boot_aggregate`` over PCR 0 to 9, for SHA-1 over 0 to 7), ``ima_queue.c`` (an
entry enters the list first and extends PCR 10 then; a violation extends it with ones).

Deliberately not handled: the template ``ima``, whose data is hashed otherwise; kernels before 5.8,
which pad a SHA-1 for all banks; kexec, which hands the list to the next kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from bootlease.model import HashAlg
from bootlease.testing.boot import ExtendsPCRs

PCR: Final = 10
BOOT_AGGREGATE: Final = "boot_aggregate"
_U32: Final = struct.Struct("<I")
_SHA1_PCRS: Final = 8
_OTHER_PCRS: Final = 10


def field(data: bytes) -> bytes:
    """Return a field of template data: its length, and itself."""
    return _U32.pack(len(data)) + data


def file_fields(path: str | bytes, digest: bytes, alg: HashAlg = HashAlg.SHA256) -> bytes:
    """Return the template data of ``ima-ng``: a digest with its algorithm, and a name."""
    name = path.encode() if isinstance(path, str) else path
    return field(alg.label.encode() + b":\0" + digest) + field(name + b"\0")


def list_entry(template: str, data: bytes, *, violation: bool = False, pcr: int = PCR) -> bytes:
    """Return one entry as the list shows it in binary.

    Args:
        template: Name of the template.
        data: Its data, all fields one after the other.
        violation: Zeros in place of its SHA-1.
        pcr: The PCR that it says it was extended into.
    """
    digest = bytes(HashAlg.SHA1.size) if violation else HashAlg.SHA1.digest(data)
    return _U32.pack(pcr) + digest + field(template.encode()) + field(data)


def boot_aggregate(pcrs: Mapping[int, bytes], alg: HashAlg) -> bytes:
    """Return what the kernel makes of the PCRs of a boot when it starts to measure."""
    last = _SHA1_PCRS if alg is HashAlg.SHA1 else _OTHER_PCRS
    return alg.digest(b"".join(pcrs[pcr] for pcr in range(last)))


class SimulatedIMA:
    """The list of one boot, and a TPM that it extends.

    Attributes:
        data: The list in binary, as securityfs shows it.
    """

    def __init__(self, device: ExtendsPCRs, banks: Sequence[HashAlg]) -> None:
        """Begin an empty list.

        Args:
            device: Its PCR 10 is extended.
            banks: Its active banks.
        """
        self._device = device
        self._banks = tuple(banks)
        self._waiting: list[Mapping[HashAlg, bytes]] = []
        self._offsets = [0]
        self.data = b""

    @property
    def count(self) -> int:
        """How many entries the list has."""
        return len(self._offsets) - 1

    def since(self, entries: int) -> bytes:
        """Return what follows the first entries, as ``bootlease.node.ima.IMASource``."""
        return self.data[self._offsets[min(entries, self.count)] :]

    def start(self, pcrs: Mapping[int, bytes], alg: HashAlg = HashAlg.SHA256) -> None:
        """Measure the boot, as the kernel does first of all.

        Args:
            pcrs: PCR 0 to 9 of the bank ``alg``.
            alg: The kernel's ``ima_hash``.
        """
        self.add("ima-ng", file_fields(BOOT_AGGREGATE, boot_aggregate(pcrs, alg), alg))

    def measure(self, path: str | bytes, content: bytes, *, signature: bytes | None = None) -> None:
        """Measure a file that is loaded.

        Args:
            path: Its path.
            content: What it holds.
            signature: Its ``security.ima``: the template is ``ima-sig`` then.
        """
        data = file_fields(path, HashAlg.SHA256.digest(content))
        if signature is None:
            self.add("ima-ng", data)
        else:
            self.add("ima-sig", data + field(signature))

    def violate(self, path: str) -> None:
        """Measure that a file was written while it was in use."""
        self.add("ima-ng", file_fields(path, bytes(HashAlg.SHA256.size)), violation=True)

    def add(
        self, template: str, data: bytes, *, violation: bool = False, extend: bool = True
    ) -> None:
        """Write an entry to the list, and extend the TPM by it.

        Args:
            template: Name of the template.
            data: Its data.
            violation: The entry is a violation.
            extend: Without it the TPM is left for :meth:`catch_up`: the list runs ahead.
        """
        self.data += list_entry(template, data, violation=violation)
        self._offsets.append(len(self.data))
        self._waiting.append(
            {bank: b"\xff" * bank.size if violation else bank.digest(data) for bank in self._banks}
        )
        if extend:
            self.catch_up()

    def catch_up(self) -> None:
        """Extend the TPM by everything that is in the list."""
        for digests in self._waiting:
            self._device.pcr_extend(PCR, digests)
        self._waiting.clear()
