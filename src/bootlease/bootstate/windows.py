"""What Windows measured of its start: the SIPA events of its boot log (WBCL).

Sources: Windows SDK wbcl.h (flags, as in win32metadata); google/go-attestation
attest/win_events.go and Microsoft's TSS.MSR PCPTool (meaning of values). Records: see ``sipa``.

    PCR 12       how the boot manager and loader were told to start
    PCR 13       what the loader and kernel started with, and loaded modules
    PCR 14       authorities; PCR 11 is capped when BitLocker has its key

An event whose digest is over its whole data is read, whatever its type; what follows the separator
"WBCL" of its PCR is not, since anybody may have extended it by then. All of it says something about
Windows only where PCR 4 and 7 prove that its boot manager ran: another system can extend the same
events. The quote and AIK in EV_NO_ACTION (TrustPoint) extend nothing, were made for another
nonce, and are never read (attack D25).

A flag that was reported both ways counts as the worse; that it is as it should be is unknown as
long as one event before the separators could not be read. Not handled: ELAM configuration, DRTM,
KSR, and settings whose value has another length than expected, which leave the fact unknown.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from bootlease.bootstate.sipa import LOADED_MODULE, SIPA, SIPAReader, fields_of, is_container_start
from bootlease.bootstate.tri import Tri
from bootlease.eventlog.hashes import hash_constructor
from bootlease.frozen import quick_init
from bootlease.model import Effect, Finding

if TYPE_CHECKING:
    from bootlease.bootstate.view import AttestedLog
    from bootlease.model import HashAlg

WINDOWS_PCRS: Final = (12, 13)
WBCL_SEPARATOR: Final = b"WBCL"

MAX_FINDINGS: Final = 16
"""Unreadable events that are named; all of them are in ``unread``."""


class BitLockerUnlock(enum.IntFlag, boundary=enum.KEEP):
    """How a volume was unlocked (FVEB_UNLOCK_FLAG_*); unknown bits are kept."""

    CACHED = 0x1
    MEDIA = 0x2
    TPM = 0x4
    PIN = 0x10
    EXTERNAL = 0x20
    RECOVERY = 0x40
    PASSPHRASE = 0x80
    NBP = 0x100
    AUK_OSFVEINFO = 0x200


@quick_init
@dataclass(frozen=True, slots=True)
class WindowsModule:
    """A program or driver that Windows' loader measured.

    Attributes:
        event: Number of the event.
        path: Its file, ``None`` where the event does not say.
        digest: Authenticode digest.
        validated: Whether its signature was checked.
        issuer: Issuer of its signer.
        publisher: Its signer.
        signer_sha1: SHA-1 thumbprint of the signer's certificate.
    """

    event: int
    path: str | None
    digest: bytes | None
    validated: Tri
    issuer: str | None
    publisher: str | None
    signer_sha1: bytes | None


@quick_init
@dataclass(frozen=True, slots=True)
class WindowsBoot:
    """A start of Windows as PCR 12 and 13 prove it.

    Attributes:
        present: On: SIPA events were read. Off: both PCRs are attested, and nothing looks like one.
        boot_debugging: A debugger of the boot manager or loader was enabled.
        kernel_debugging: A kernel debugger was enabled.
        test_signing: Test signatures were accepted.
        flight_signing: Signatures of preview builds were accepted.
        code_integrity: Code integrity was on throughout.
        nx_policy: Data execution prevention as BCD's ``nx`` counts it: 0 opt-in, the default of
            clients, 1 opt-out, that of servers, 2 always off, 3 always on.
        safe_mode: Windows started in safe mode.
        winpe: Windows started as Windows PE.
        hypervisor_debugging: A hypervisor debugger was enabled.
        hibernation_disabled: Hibernation was disabled.
        cold_boot: Off: the boot manager handed over to another program than the loader, as when
            the machine resumes from hibernation.
        vbs_required: Virtualization-based security was required.
        hypervisor_launch_type: As measured, 0 for none.
        vsm_launch_type: As measured, 0 for none.
        hvci_policy: Policy bits of hypervisor-enforced code integrity, as measured.
        boot_counter: As measured.
        bitlocker_unlocks: How volumes were unlocked, in order (PCR 12).
        modules: What was loaded, in order within each PCR.
        separated: PCRs of ``WINDOWS_PCRS`` whose separator ends what Windows' start measured.
        unread: Events before the separators whose content is not proven; nothing where
            ``present`` is not on.
        others: How often each event was measured that has no meaning here, by its type.
        findings: What could not be read.
    """

    present: Tri
    boot_debugging: Tri
    kernel_debugging: Tri
    test_signing: Tri
    flight_signing: Tri
    code_integrity: Tri
    safe_mode: Tri
    winpe: Tri
    hypervisor_debugging: Tri
    hibernation_disabled: Tri
    cold_boot: Tri
    vbs_required: Tri
    nx_policy: int | None
    hypervisor_launch_type: int | None
    vsm_launch_type: int | None
    hvci_policy: int | None
    boot_counter: int | None
    bitlocker_unlocks: tuple[BitLockerUnlock, ...]
    modules: tuple[WindowsModule, ...]
    separated: tuple[int, ...]
    unread: tuple[int, ...]
    others: tuple[tuple[int, int], ...]
    findings: tuple[Finding, ...]


def windows(view: AttestedLog) -> WindowsBoot:
    """Return what Windows measured of its start, as far as PCR 12 and 13 are attested."""
    facts = _Facts()
    separated: list[int] = []
    separator = _separator_digest(view.bank)
    for pcr in () if view.is_ccel else WINDOWS_PCRS:
        for event in view.events(pcr):
            # By its digest: a separator that is called something else still ends what counts.
            if view.digest(event) == separator:
                separated.append(pcr)
                break
            data = event.unverified_data
            if not is_container_start(data):
                facts.unread.append(event.number)
            elif view.verified(event) is None:
                facts.malformed(pcr, event.number)
            else:
                facts.read(pcr, event.number, data)
    attested = all(map(view.attests, WINDOWS_PCRS)) and not view.is_ccel
    return facts.boot(tuple(separated), attested=attested)


@cache
def _separator_digest(bank: HashAlg) -> bytes | None:
    new_hash = hash_constructor(bank)
    return None if new_hash is None else new_hash(WBCL_SEPARATOR).digest()


class _Facts:
    """Collects what the containers of one log say."""

    def __init__(self) -> None:
        self.values: dict[int, list[int]] = {}
        self.unlocks: list[BitLockerUnlock] = []
        self.modules: list[WindowsModule] = []
        self.others: Counter[int] = Counter()
        self.findings: list[Finding] = []
        self.reader = SIPAReader()
        self.unread: list[int] = []
        self.seen = False
        self.certain = False

    def read(self, pcr: int, number: int, data: bytes) -> None:
        """Take in one verified container."""
        self.seen = True
        sound = True
        for kind, value in self.reader.events(data):
            if value is None:
                sound = False
            elif kind == LOADED_MODULE:
                self.modules.append(_module(number, value))
            elif kind == SIPA.BITLOCKER_UNLOCK:
                # PCR 13 repeats what PCR 12 says.
                if pcr == WINDOWS_PCRS[0] and 0 < len(value) <= _LONGEST_NUMBER:
                    self.unlocks.append(BitLockerUnlock(int.from_bytes(value, "little")))
            elif len(value) in _SIZES.get(kind, ()):
                self.values.setdefault(kind, []).append(int.from_bytes(value, "little"))
            else:
                self.others[kind] += 1
        if not sound:
            self.malformed(pcr, number)

    def malformed(self, pcr: int, number: int) -> None:
        """Note an event that cannot be read, or not to its end."""
        self.unread.append(number)
        if len(self.findings) >= MAX_FINDINGS:
            return
        self.findings.append(
            Finding(
                "boot.event.malformed-body",
                f"event {number}, PCR {pcr}: what Windows measured cannot be read, or not to its"
                " end, so it says nothing.",
                Effect.NOTES,
                pcr=pcr,
                event=number,
            )
        )

    def boot(self, separated: tuple[int, ...], *, attested: bool) -> WindowsBoot:
        """Return all facts."""
        self.certain = attested and not self.unread
        absent = Tri.OFF if attested and not self.findings else Tri.UNKNOWN
        on, throughout, last = self._ever, self._always, self._last
        return WindowsBoot(
            present=Tri.ON if self.seen else absent,
            boot_debugging=on(SIPA.BOOT_DEBUGGING),
            kernel_debugging=on(SIPA.KERNEL_DEBUG),
            test_signing=on(SIPA.TEST_SIGNING),
            flight_signing=on(SIPA.FLIGHT_SIGNING),
            code_integrity=throughout(SIPA.CODE_INTEGRITY),
            safe_mode=on(SIPA.SAFE_MODE),
            winpe=on(SIPA.WINPE),
            hypervisor_debugging=on(SIPA.HYPERVISOR_DEBUG),
            hibernation_disabled=throughout(SIPA.HIBERNATION_DISABLED),
            cold_boot=self._cold_boot(),
            vbs_required=throughout(SIPA.VBS_VSM_REQUIRED),
            nx_policy=last(SIPA.DATA_EXECUTION_PREVENTION),
            hypervisor_launch_type=last(SIPA.HYPERVISOR_LAUNCH_TYPE),
            vsm_launch_type=last(SIPA.VSM_LAUNCH_TYPE),
            hvci_policy=last(SIPA.VBS_HVCI_POLICY),
            boot_counter=last(SIPA.BOOT_COUNTER),
            bitlocker_unlocks=tuple(self.unlocks),
            modules=tuple(self.modules),
            separated=separated,
            unread=tuple(self.unread) if self.seen else (),
            others=tuple(sorted(self.others.items())),
            findings=tuple(self.findings),
        )

    def _ever(self, kind: SIPA) -> Tri:
        """Return on if it was ever reported on: for what weakens a machine."""
        values = self.values.get(kind, ())
        if any(values):
            return Tri.ON
        return Tri.OFF if values and self.certain else Tri.UNKNOWN

    def _always(self, kind: SIPA) -> Tri:
        """Return on only if it was never reported off: for what protects a machine."""
        values = self.values.get(kind, ())
        if not all(values):
            return Tri.OFF
        return Tri.ON if values and self.certain else Tri.UNKNOWN

    def _last(self, kind: SIPA) -> int | None:
        """Return the value if all reports agree."""
        values = set(self.values.get(kind, ()))
        return values.pop() if len(values) == 1 else None

    def _cold_boot(self) -> Tri:
        values = self.values.get(SIPA.TRANSFER_CONTROL)
        # The first is the boot manager's; 1 is the loader. The loader's own, which starts the
        # hypervisor's, come later.
        return Tri.UNKNOWN if not values else Tri.ON if values[0] == 1 else Tri.OFF


_LONGEST_NUMBER: Final = 8
_FLAG: Final = (1,)
_U32: Final = (4,)
_U64: Final = (8,)
_SIZES: Final[dict[int, tuple[int, ...]]] = {
    SIPA.BOOT_COUNTER: _U64,
    SIPA.TRANSFER_CONTROL: _U32,
    SIPA.BOOT_DEBUGGING: _FLAG,
    SIPA.KERNEL_DEBUG: _FLAG,
    SIPA.CODE_INTEGRITY: _FLAG,
    SIPA.TEST_SIGNING: _FLAG,
    SIPA.DATA_EXECUTION_PREVENTION: _U64,
    SIPA.SAFE_MODE: _FLAG,
    SIPA.WINPE: _FLAG,
    SIPA.HYPERVISOR_LAUNCH_TYPE: _U64,
    SIPA.HYPERVISOR_DEBUG: _FLAG,
    SIPA.VSM_LAUNCH_TYPE: _U64,
    SIPA.FLIGHT_SIGNING: _FLAG,
    SIPA.HIBERNATION_DISABLED: _FLAG,
    SIPA.VBS_VSM_REQUIRED: _FLAG,
    SIPA.VBS_HVCI_POLICY: (4, 8),
}
"""Lengths of the values that are numbers."""


def _module(number: int, data: bytes) -> WindowsModule:
    """Read what was said of a loaded module."""
    fields = fields_of(data)
    validated = fields.get(SIPA.IMAGE_VALIDATED)
    return WindowsModule(
        event=number,
        path=_text(fields.get(SIPA.FILE_PATH)),
        digest=fields.get(SIPA.AUTHENTICODE_HASH),
        validated=Tri.UNKNOWN if not validated else Tri.ON if validated == b"\1" else Tri.OFF,
        issuer=_text(fields.get(SIPA.AUTHORITY_ISSUER)),
        publisher=_text(fields.get(SIPA.AUTHORITY_PUBLISHER)),
        signer_sha1=fields.get(SIPA.AUTHORITY_SHA1),
    )


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-16-le", "replace").rstrip("\0")
