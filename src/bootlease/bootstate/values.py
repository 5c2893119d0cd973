"""What a boot log says, once it is attested: the facts that rules and people ask for.

Specifications: TCG PFP 1.06 §3.3.4 (what each PCR holds), UEFI 2.11 §32.3 (Secure Boot modes),
§32.4.1 (signature databases), §3.1.3 (load options), §5.3 (GPT).

Every value here comes from events of attested PCRs. What a digest proves stands in plainly named
fields; what is only written beside a digest is named ``unverified_…`` and decides nothing. A fact
that the log does not prove is ``None`` or :attr:`Tri.UNKNOWN`, never a default. ``findings`` name
what contradicts itself; what a policy should weigh is a fact.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass

from bootlease.bootstate.tri import Tri
from bootlease.frozen import quick_init
from bootlease.model import Finding


@quick_init
@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A program or driver that firmware loaded.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        type: Event type.
        digest: Authenticode digest of the image in the log's bank: not a digest of the file.
        after_separator: Measured after the PCR's separator: by the boot manager or later.
        unverified_path: Device path as text, not escaped. No digest is over it.
        unverified_file: File that the path names, empty where it names none.
    """

    event: int
    pcr: int
    type: int
    digest: bytes
    after_separator: bool
    unverified_path: str
    unverified_file: str


@dataclass(frozen=True, slots=True)
class BootApplications:
    """What the boot manager started (PCR 4).

    Attributes:
        images: Images in order, boot applications and drivers.
        attempts: Boot options that were tried: how often an EFI application was called.
        returns: How often one returned, so that the next option was tried.
        findings: Contradictions.
    """

    images: tuple[LoadedImage, ...]
    attempts: int
    returns: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class OptionROMs:
    """Drivers and applications from add-in hardware (PCR 2).

    Attributes:
        known: Whether PCR 2 is attested; without it, an empty tuple says nothing.
        images: Images in order.
        others: Events of PCR 2 that are neither an image nor a separator: some firmware measures
            option ROMs as code of another kind.
        findings: Contradictions.
    """

    known: bool
    images: tuple[LoadedImage, ...]
    others: int
    findings: tuple[Finding, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class Partition:
    """An entry of a GPT.

    Attributes:
        type: Type GUID.
        guid: Unique GUID.
        first: First block.
        last: Last block.
        attributes: Attribute bits.
        name: Name; lone surrogates are replaced.
    """

    type: uuid.UUID
    guid: uuid.UUID
    first: int
    last: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """A measured GPT.

    Attributes:
        event: Number of the event.
        disk: Disk GUID.
        partitions: Entries in use, as measured.
    """

    event: int
    disk: uuid.UUID
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Partitions:
    """Partition tables of the disks that were booted from (PCR 5).

    Attributes:
        tables: Tables in order.
        findings: What could not be read.
    """

    tables: tuple[PartitionTable, ...]
    findings: tuple[Finding, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class BootOption:
    """A ``Boot####`` variable (EFI_LOAD_OPTION).

    Attributes:
        event: Number of the event.
        name: Variable name.
        name_verified: Whether the digest is over the name too; many firmwares measure the value
            alone.
        active: LOAD_OPTION_ACTIVE.
        description: Title.
        device_path: Device path as text.
        optional_data: What is handed to the program.
    """

    event: int
    name: str
    name_verified: bool
    active: bool
    description: str
    device_path: str
    optional_data: bytes


@dataclass(frozen=True, slots=True)
class BootOptions:
    """Boot order and boot options (PCR 1).

    Attributes:
        order: Numbers in order, ``None`` where it was not measured or is not verified.
        order_name_verified: Whether the digest is over the name ``BootOrder`` too.
        options: Options as measured.
        findings: What could not be read.
    """

    order: tuple[int, ...] | None
    order_name_verified: bool
    options: tuple[BootOption, ...]
    findings: tuple[Finding, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class ExitBootServices:
    """Whether firmware handed over to an operating system (PCR 5).

    Whoever runs later can extend PCR 5 by the same words: presence proves only that somebody
    measured them, absence proves that nobody did.

    Attributes:
        state: On: invoked, and the last call returned with success. Off: PCR 5 shows no such end.
        invocations: Events of calls.
        successes: Events of returns with success.
        failures: Events of returns with failure.
        events_after: Events of PCR 5 after the first success.
    """

    state: Tri
    invocations: tuple[int, ...]
    successes: tuple[int, ...]
    failures: tuple[int, ...]
    events_after: int


class SeparatorState(enum.Enum):
    """What ends firmware's measurements in one PCR."""

    SOUND = "sound"
    MISSING = "missing"
    REPEATED = "repeated"
    ERROR = "error"
    INVALID = "invalid"
    RETYPED = "retyped"


@dataclass(frozen=True, slots=True)
class Separator:
    """The separator of one PCR, or register of a CCEL.

    Attributes:
        pcr: The PCR, or the register's index in a CCEL.
        state: What is there.
        events: Events that are a separator by type or by digest.
    """

    pcr: int
    state: SeparatorState
    events: tuple[int, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class FirmwareComponent:
    """Firmware code or data that was measured.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        type: Event type.
        digest: Digest in the log's bank.
        text: Text that the digest is over, ``None`` where it is over something else.
        unverified_text: Description beside the digest.
    """

    event: int
    pcr: int
    type: int
    digest: bytes
    text: str | None
    unverified_text: str


@quick_init
@dataclass(frozen=True, slots=True)
class Firmware:
    """The platform's firmware (PCR 0) and how its measurement began.

    Attributes:
        version: Firmware version (EV_S_CRTM_VERSION), where its digest proves it.
        startup_locality: What PCR 0 started from: the locality of TPM2_Startup, 4 where ``hcrtm``.
        hcrtm: Measurement began in hardware (EV_EFI_HCRTM_EVENT).
        components: Code, data and devices, in order within each PCR.
        omits_boot_attempts: Firmware says that boot attempts are not measured.
    """

    version: str | None
    startup_locality: int | None
    hcrtm: Tri
    components: tuple[FirmwareComponent, ...]
    omits_boot_attempts: Tri


@dataclass(frozen=True, slots=True)
class Quirk:
    """An oddity of real firmware or boot loaders that is understood and harmless.

    Attributes:
        id: Stable identifier.
        pcr: The PCR it affects.
        event: The first event that shows it.
        count: How many events of that PCR do.
        sentence: What it is.
    """

    id: str
    pcr: int
    event: int
    count: int
    sentence: str


@dataclass(frozen=True, slots=True)
class OpaqueEvents:
    """Events of one PCR and type whose meaning is not known. They are digests, nothing more.

    Attributes:
        pcr: The PCR.
        type: Event type.
        count: How many there are.
    """

    pcr: int
    type: int
    count: int
