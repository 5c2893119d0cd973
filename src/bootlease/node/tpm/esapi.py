"""A connection to a TPM through tpm2-tss: errors in plain words, NV memory, PCRs, handles.

Specification: TCG TSS 2.0 ESAPI 1.0; TPM 2.0 Library part 3 §22 (PCR), §31 (NV), §30.2
(GetCapability).

Deliberately not handled: sessions that encrypt parameters. Who reads the bus between CPU and TPM
sees an activated credential; it is worthless without the TPM.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tpm2_pytss import ESAPI, ESYS_TR
from tpm2_pytss.constants import TPM2_CAP, TPM2_RC, TPMA_NV
from tpm2_pytss.TSS2_Exception import TSS2_Exception
from tpm2_pytss.types import (
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPM2B_SIMPLE_OBJECT,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMT_PUBLIC,
)

from bootlease.errors import TransportError
from bootlease.model import PCR_COUNT, ClockInfo, HashAlg, PCRValues
from bootlease.tpm import PCRSelection, TPMTPublic
from bootlease.tpm.wire import sized, u16, u32

ENDORSEMENT_FIRST: Final = 0x81010000
ENDORSEMENT_LAST: Final = 0x8101FFFF
"""Persistent handles of primary keys in the endorsement hierarchy."""

_PERSISTENT_FIRST: Final = 0x81000000
_HANDLES_AT_ONCE: Final = 254
_RESOURCE_MANAGED: Final = "/dev/tpmrm"
_NV_CHUNK: Final = 512
_NV_LIMIT: Final = 16384
_HINTS: Final = {
    TPM2_RC.AUTH_FAIL: "a hierarchy has a password that was not given",
    TPM2_RC.BAD_AUTH: "a hierarchy has a password that was not given",
    TPM2_RC.LOCKOUT: "the TPM is in dictionary-attack lockout",
    TPM2_RC.OBJECT_MEMORY: "its object slots are taken; use /dev/tpmrm0, or tpm2_flushcontext -t",
    TPM2_RC.SESSION_MEMORY: "its session slots are taken; use /dev/tpmrm0, or tpm2_flushcontext -l",
    TPM2_RC.EXPIRED: "the permit to use the key is over",
    TPM2_RC.TICKET: "the permit is for another key, or from before the TPM's last reset",
    TPM2_RC.NV_SPACE: "its non-volatile memory is full",
    TPM2_RC.INITIALIZE: "it was not started (TPM2_Startup)",
    TPM2_RC.REFERENCE_H0: "the object is no longer loaded: the TPM was reset",
}


class Connection:
    """An open TPM. Not to be shared between threads: a TSS context has one command in flight."""

    def __init__(
        self, tcti: str, *, owner_auth: bytes = b"", endorsement_auth: bytes = b""
    ) -> None:
        """Open the TPM.

        Args:
            tcti: For example ``device:/dev/tpmrm0`` or ``swtpm:path=/run/tpm``.
            owner_auth: Password of the owner hierarchy.
            endorsement_auth: Password of the endorsement hierarchy.

        Raises:
            TransportError: There is no TPM, or it may not be used.
        """
        # The libraries write to standard error what is raised here as one clear line.
        os.environ.setdefault("TSS2_LOG", "all+none")
        self.tcti = tcti
        self._turn = threading.RLock()
        self._open: dict[int, tuple[ESYS_TR, bytes]] = {}
        try:
            self.esapi = ESAPI(tcti)
        except TSS2_Exception as exc:
            raise TransportError(_unreachable(tcti, exc)) from exc
        try:
            self.esapi.tr_set_auth(ESYS_TR.OWNER, owner_auth)
            self.esapi.tr_set_auth(ESYS_TR.ENDORSEMENT, endorsement_auth)
            # Some transports connect with the first command only.
            self.esapi.get_capability(TPM2_CAP.HANDLES, _PERSISTENT_FIRST, 1)
        except TSS2_Exception as exc:
            self.esapi.close()
            raise TransportError(_unreachable(tcti, exc)) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.esapi.close()

    def alone(self) -> contextlib.AbstractContextManager[object]:
        """Keep other threads' commands away for the length of a block.

        For whoever holds an object or a session of the TPM meanwhile: it has three places for each.
        """
        return self._turn

    @contextlib.contextmanager
    def command(self, name: str) -> Iterator[None]:
        """Turn what the TSS raises within the block into a TransportError that names ``name``.

        One thread at a time: a confirmation key may sign while the agent quotes, and an ESYS
        context serves one command after the other.
        """
        try:
            with self._turn:
                yield
        except TSS2_Exception as exc:
            hint = _HINTS.get(exc.error, "")
            raise TransportError(
                f"{name} failed on TPM {self.tcti}: {exc} (0x{int(exc.rc):08x})"
                + (f"; {hint}" if hint else "")
            ) from exc

    @contextlib.contextmanager
    def primary(self, template: TPMTPublic, hierarchy: int) -> Iterator[tuple[ESYS_TR, bytes]]:
        """Make a primary key for the length of a block.

        Yields:
            Its ESYS handle and TPMT_PUBLIC.
        """
        area, _ = TPMT_PUBLIC.unmarshal(template.marshal())
        with self.command("TPM2_CreatePrimary"):
            handle, public, *_ = self.esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area), hierarchy
            )
        try:
            yield handle, bytes(public.publicArea.marshal())
        finally:
            with self.command("TPM2_FlushContext"):
                self.esapi.flush_context(handle)

    def handles(self, first: int, last: int) -> tuple[int, ...]:
        """Return the TPM handles in use between ``first`` and ``last``, ascending."""
        found: list[int] = []
        more = True
        while more:
            with self.command("TPM2_GetCapability"):
                more, data = self.esapi.get_capability(
                    TPM2_CAP.HANDLES, found[-1] + 1 if found else first, _HANDLES_AT_ONCE
                )
            page = [int(handle) for handle in data.data.handles]
            found += [handle for handle in page if handle <= last]
            more = bool(more) and bool(page) and page[-1] < last
        return tuple(found)

    @contextlib.contextmanager
    def persistent(self, handle: int) -> Iterator[tuple[ESYS_TR, bytes]]:
        """Refer to a persistent key for the length of a block; yields as :meth:`primary` does."""
        # libtss2 hands out one reference per key: whoever closed it would close it for all.
        if handle in self._open:
            yield self._open[handle]
            return
        with self.command("TPM2_ReadPublic"):
            reference = self.esapi.tr_from_tpmpublic(handle)
            public, *_ = self.esapi.read_public(reference)
        self._open[handle] = reference, bytes(public.publicArea.marshal())
        try:
            yield self._open[handle]
        finally:
            del self._open[handle]
            with self.command("Esys_TR_Close"):
                self.esapi.tr_close(reference)

    def nv_indices(self, first: int, last: int) -> tuple[int, ...]:
        """Return the defined NV indices between ``first`` and ``last``."""
        return self.handles(first, last)

    def nv_read(self, index: int) -> bytes | None:
        """Return the content of an NV index, or None where it is not defined or not written."""
        if index not in self.handles(index, index):
            return None
        with self.command(f"TPM2_NV_Read of 0x{index:08x}"):
            reference = self.esapi.tr_from_tpmpublic(index)
            try:
                return self._nv_content(reference)
            finally:
                self.esapi.tr_close(reference)

    def _nv_content(self, reference: ESYS_TR) -> bytes | None:
        public, _ = self.esapi.nv_read_public(reference)
        if not public.nvPublic.attributes & TPMA_NV.WRITTEN:
            return None
        size = min(int(public.nvPublic.dataSize), _NV_LIMIT)
        by_index = public.nvPublic.attributes & TPMA_NV.AUTHREAD
        authority = reference if by_index else ESYS_TR.OWNER
        content = b""
        while len(content) < size:
            wanted = min(_NV_CHUNK, size - len(content))
            content += bytes(
                self.esapi.nv_read(reference, wanted, len(content), auth_handle=authority)
            )
        return content

    def read_pcrs(self, selection: Mapping[HashAlg, Sequence[int]]) -> PCRValues:
        """Read PCRs; not signed, so worth nothing to anybody but this node.

        Raises:
            TransportError: A selected bank is not active.
        """
        wanted = {alg: set(pcrs) for alg, pcrs in selection.items()}
        values: dict[HashAlg, dict[int, bytes]] = {alg: {} for alg in wanted}
        while any(wanted.values()):
            with self.command("TPM2_PCR_Read"):
                _, selected, digests = self.esapi.pcr_read(pcr_selection(wanted))
            taken = _selected(selected)
            if not taken:
                banks = ", ".join(alg.label for alg, pcrs in wanted.items() if pcrs)
                raise TransportError(f"TPM {self.tcti} has no active PCR bank {banks}")
            for (alg, pcr), digest in zip(taken, digests, strict=True):
                values[alg][pcr] = bytes(digest)
                wanted[alg].discard(pcr)
        return {alg: dict(sorted(bank.items())) for alg, bank in values.items()}

    def pcr_extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        """Extend one PCR in the given banks; the TPM leaves its other banks as they are."""
        if not 0 <= pcr < PCR_COUNT:
            raise ValueError(f"a TPM has PCRs 0 to {PCR_COUNT - 1}, not {pcr}")
        entries = b"".join(u16(alg) + digest for alg, digest in digests.items())
        values, _ = TPML_DIGEST_VALUES.unmarshal(u32(len(digests)) + entries)
        with self.command(f"TPM2_PCR_Extend of PCR {pcr}"):
            self.esapi.pcr_extend(ESYS_TR(pcr), values)

    def read_clock(self) -> ClockInfo:
        """Return clock and reset counters; not signed."""
        with self.command("TPM2_ReadClock"):
            info = self.esapi.read_clock().clockInfo
        return ClockInfo(
            int(info.clock), int(info.resetCount), int(info.restartCount), bool(info.safe)
        )


def pcr_selection(selection: Mapping[HashAlg, Sequence[int] | set[int]]) -> TPML_PCR_SELECTION:
    """Return the TPML_PCR_SELECTION of ``selection``, its banks in the mapping's order."""
    entries = [PCRSelection(alg, tuple(sorted(pcrs))) for alg, pcrs in selection.items()]
    wire = u32(len(entries)) + b"".join(entry.marshal() for entry in entries)
    parsed, _ = TPML_PCR_SELECTION.unmarshal(wire)
    return parsed


def as_2b(kind: type[TPM2B_SIMPLE_OBJECT], content: bytes) -> TPM2B_SIMPLE_OBJECT:
    """Return the TPM2B structure ``kind`` that holds ``content``."""
    parsed, _ = kind.unmarshal(sized(content))
    return parsed


def _selected(selection: TPML_PCR_SELECTION) -> list[tuple[HashAlg, int]]:
    return [
        (HashAlg(int(entry.hash)), pcr)
        for entry in selection
        for pcr in range(PCR_COUNT)
        if bytes(entry.pcrSelect)[pcr // 8] >> (pcr % 8) & 1
    ]


def _unreachable(tcti: str, error: TSS2_Exception) -> str:
    kind, _, rest = tcti.partition(":")
    path = rest.removeprefix("path=") if kind == "swtpm" else rest
    if kind in ("device", "swtpm") and path.startswith("/"):
        try:
            Path(path).stat()
        except PermissionError:
            return f"permission denied on the way to {path}"
        except OSError:
            return f"no TPM at {path} (TCTI {tcti})"
        if not os.access(path, os.R_OK | os.W_OK):
            hint = "; is this user in the group tss?" if path.startswith(_RESOURCE_MANAGED) else ""
            return f"permission denied on {path}{hint}"
    return f"cannot reach a TPM through TCTI {tcti!r}: {error}"
