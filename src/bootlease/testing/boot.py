"""A measured boot without a machine: its event log, and a TPM extended by it.

Specifications: TCG PFP 1.06 §3.3.4 (PCR usage), §10.4 (events); shim 15.8 ``mok.c`` and
``tpm.c`` (PCR 7, 14); GRUB 2.06 ``tpm.c`` (PCR 8, 9); systemd 252 ``stub.c`` (PCR 11); Linux
6.1 EFI stub (PCR 9). The order of events is that of OVMF 2022.11.

Deliberately not handled: H-CRTM, dynamic launch, option ROMs, IMA (the kernel's, not the
firmware's).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bootlease.eventlog import (
    EventLog,
    EventRecord,
    EventType,
    LogFormat,
    encode_event_log,
    parse_event_log,
)
from bootlease.eventlog.encode import startup_locality_data
from bootlease.model import HashAlg, PCRValues
from bootlease.testing import efi
from bootlease.testing.boot_certificates import boot_certificate
from bootlease.testing.boot_description import GRUB, UKI, BootDescription, Shim

_EVERY_SEPARATOR_BUT_7: Final = range(7)
_NO_ERROR: Final = bytes(4)
_LOAD_OPTIONS_TAG: Final = 0x8F3B22ED
_INITRD_TAG: Final = 0x8F3B22EC
_GRUB_CONFIGURATION: Final = "(hd0,gpt1)/EFI/debian/grub.cfg"


class ExtendsPCRs(Protocol):
    """Something whose PCRs can be extended: a device, or a simulated one."""

    def pcr_extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        """Extend one PCR in the given banks."""


class PowerCycles(Protocol):
    """A TPM whose power can be cycled."""

    def reboot(self, *, orderly: bool = True, locality: int = 0) -> None:
        """Reset PCRs and start the TPM from ``locality``."""


@dataclass(frozen=True, slots=True)
class SimulatedBoot:
    """What was measured, and the log of it.

    Attributes:
        banks: Banks that are extended.
        events: What extends the PCRs, in order, without the Spec ID event; event ``n`` of the
            log is ``events[n - 1]``.
        event_log: The log that is presented.
        startup_locality: Locality of TPM2_Startup that the events speak of.
    """

    banks: tuple[HashAlg, ...]
    events: tuple[EventRecord, ...]
    event_log: bytes
    startup_locality: int = 0

    def extend(self, device: ExtendsPCRs) -> None:
        """Extend a TPM that has just been reset by every event, in order."""
        for event in self.events:
            if event.type != EventType.EV_NO_ACTION:
                device.pcr_extend(event.pcr, event.digests)

    def pcrs(self) -> PCRValues:
        """Return the PCRs that :meth:`extend` leads to, of those that it extends."""
        values: dict[HashAlg, dict[int, bytes]] = {bank: {} for bank in self.banks}
        for event in self.events:
            if event.type == EventType.EV_NO_ACTION:
                continue
            for bank, digest in event.digests.items():
                old = values[bank].get(event.pcr, self._start_value(bank, event.pcr))
                values[bank][event.pcr] = bank.digest(old + digest)
        return values

    def _start_value(self, bank: HashAlg, pcr: int) -> bytes:
        return (self.startup_locality if pcr == 0 else 0).to_bytes(bank.size, "big")


def simulate_boot(
    description: BootDescription, banks: Sequence[HashAlg] = (HashAlg.SHA256,)
) -> SimulatedBoot:
    """Return the boot that ``description`` describes.

    Args:
        description: Machine and software.
        banks: Banks the firmware extends. Leaving out one that the TPM has leaves it idle
            (attack A6).
    """
    recorder = _Recorder(tuple(banks))
    _firmware(recorder, description)
    _secure_boot(recorder, description)
    _boot_manager(recorder, description)
    if description.grub is not None:
        _shim_and_grub(recorder, description, description.grub)
    if description.uki is not None:
        _unified_kernel_image(recorder, description, description.uki)
    recorder.add(5, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation")
    recorder.add(5, EventType.EV_EFI_ACTION, b"Exit Boot Services Returned with Success")
    return boot_of_events(
        recorder.events, recorder.banks, startup_locality=description.firmware.startup_locality
    )


def boot_of_events(
    events: Sequence[EventRecord], banks: Sequence[HashAlg], *, startup_locality: int = 0
) -> SimulatedBoot:
    """Return the boot that measures exactly ``events``."""
    log = encode_event_log(events, banks)
    return SimulatedBoot(tuple(banks), tuple(events), log, startup_locality)


def recorded_boot(event_log: bytes) -> SimulatedBoot:
    """Return the boot that a recorded log speaks of; its digests are taken as they are.

    Raises:
        MalformedError: The log is malformed.
        ValueError: It is not the log of a TPM, or starts with an H-CRTM measurement.
    """
    log = parse_event_log(event_log)
    if log.format is LogFormat.CCEL:
        raise ValueError("the log speaks of measurement registers, not of PCRs")
    if any(event.type == EventType.EV_EFI_HCRTM_EVENT for event in log.events):
        raise ValueError("boots that start with an H-CRTM measurement are not simulated")
    banks = tuple(HashAlg(bank) for bank in log.banks)
    events = tuple(_records(log, banks))
    return SimulatedBoot(banks, events, event_log, log.startup_locality)


def power_on(tpm: PowerCycles, device: ExtendsPCRs, boot: SimulatedBoot) -> None:
    """Cycle the power of a TPM, start it from the boot's locality and measure the boot."""
    tpm.reboot(locality=boot.startup_locality)
    boot.extend(device)


def _records(log: EventLog, banks: tuple[HashAlg, ...]) -> list[EventRecord]:
    first = 1 if log.events and log.events[0].type == EventType.EV_NO_ACTION else 0
    return [
        EventRecord(
            event.pcr,
            event.type,
            {bank: event.digests.get(bank, bytes(bank.size)) for bank in banks},
            event.unverified_data,
        )
        for event in log.events[first:]
    ]


class _Recorder:
    """Collects events; ``measured`` is what is hashed where that is not the event's data."""

    def __init__(self, banks: tuple[HashAlg, ...]) -> None:
        self.banks = banks
        self.events: list[EventRecord] = []

    def add(self, pcr: int, kind: EventType, data: bytes, measured: bytes | None = None) -> None:
        content = data if measured is None else measured
        digests = {bank: bank.digest(content) for bank in self.banks}
        self.events.append(EventRecord(pcr, kind, digests, data))

    def add_unmeasured(self, data: bytes) -> None:
        digests = {bank: bytes(bank.size) for bank in self.banks}
        self.events.append(EventRecord(0, EventType.EV_NO_ACTION, digests, data))

    def application(self, path: bytes, content: bytes) -> None:
        event = efi.image_load_event(len(content), path)
        self.add(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, event, content)


def _firmware(recorder: _Recorder, description: BootDescription) -> None:
    firmware = description.firmware
    if firmware.startup_locality:
        recorder.add_unmeasured(startup_locality_data(firmware.startup_locality))
    recorder.add(0, EventType.EV_S_CRTM_VERSION, efi.utf16(firmware.version))
    for blob in firmware.blobs:
        content = blob.content.encode()
        recorder.add(
            0,
            EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB,
            efi.firmware_blob(blob.base, len(content)),
            content,
        )


def _secure_boot(recorder: _Recorder, description: BootDescription) -> None:
    secure_boot = description.secure_boot
    enabled = bytes([secure_boot.enabled])
    forbidden = [HashAlg.SHA256.digest(content.encode()) for content in secure_boot.dbx]
    variables = (
        (efi.GLOBAL_VARIABLE, "SecureBoot", enabled),
        (efi.GLOBAL_VARIABLE, "PK", _database((secure_boot.pk,))),
        (efi.GLOBAL_VARIABLE, "KEK", _database(secure_boot.kek)),
        (efi.IMAGE_SECURITY_DATABASE, "db", _database(secure_boot.db)),
        (
            efi.IMAGE_SECURITY_DATABASE,
            "dbx",
            efi.sha256_signature_list(forbidden) if forbidden else b"",
        ),
    )
    for guid, name, content in variables:
        recorder.add(
            7,
            EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
            efi.variable_data(guid, name, content),
        )
    recorder.add(7, EventType.EV_SEPARATOR, _NO_ERROR)


def _database(names: Sequence[str]) -> bytes:
    return b"".join(efi.x509_signature_list(boot_certificate(name)) for name in names)


def _boot_manager(recorder: _Recorder, description: BootDescription) -> None:
    entries = description.boot_entries
    order = struct.pack(f"<{len(entries)}H", *(entry.number for entry in entries))
    variables = [("BootOrder", order)]
    variables += [
        (f"Boot{entry.number:04X}", efi.load_option(entry.title, entry.path)) for entry in entries
    ]
    for name, content in variables:
        data = efi.variable_data(efi.GLOBAL_VARIABLE, name, content)
        recorder.add(1, EventType.EV_EFI_VARIABLE_BOOT, data, content)
    recorder.add(4, EventType.EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
    for pcr in _EVERY_SEPARATOR_BUT_7:
        recorder.add(pcr, EventType.EV_SEPARATOR, _NO_ERROR)
    authorities: set[str] = set()
    signers = [application.signed_by for application in description.applications]
    if description.uki is not None:
        signers.append(description.uki.signed_by)
    for position, signer in enumerate(signers):
        # Firmware measures an authority once (§3.3.4.8), and only where it checks signatures.
        if description.secure_boot.enabled and signer not in authorities:
            authorities.add(signer)
            _authority(recorder, efi.IMAGE_SECURITY_DATABASE, "db", signer)
        if position == 0:
            recorder.add(5, EventType.EV_EFI_GPT_EVENT, efi.gpt_data("EFI System Partition"))
        if position < len(description.applications):
            application = description.applications[position]
            recorder.application(efi.disk_path(application.path), application.content.encode())


def _authority(recorder: _Recorder, guid: uuid.UUID, name: str, signer: str) -> None:
    content = efi.signature_data(boot_certificate(signer))
    data = efi.variable_data(guid, name, content)
    recorder.add(7, EventType.EV_EFI_VARIABLE_AUTHORITY, data)


def _shim_and_grub(recorder: _Recorder, description: BootDescription, grub: GRUB) -> None:
    if description.shim is not None:
        _shim(recorder, description, description.shim)
    recorder.application(efi.file_path(grub.path), grub.content.encode())
    kernel, initrd = grub.kernel.encode(), grub.initrd.encode()
    linux = f"{grub.kernel_path} {description.command_line}"
    script = (*grub.commands, f"linux {linux}", f"initrd {grub.initrd_path}", "boot")
    _grub_text(recorder, "grub_cmd: ", f"source {_GRUB_CONFIGURATION}")
    _grub_file(recorder, _GRUB_CONFIGURATION, "\n".join(script).encode())
    for command in grub.commands:
        _grub_text(recorder, "grub_cmd: ", command)
    _grub_text(recorder, "grub_cmd: ", f"linux {linux}")
    _grub_file(recorder, grub.kernel_path, kernel)
    recorder.application(b"", kernel)
    _grub_text(recorder, "kernel_cmdline: ", linux)
    _grub_text(recorder, "grub_cmd: ", f"initrd {grub.initrd_path}")
    _grub_file(recorder, grub.initrd_path, initrd)
    _grub_text(recorder, "grub_cmd: ", "boot")


def _shim(recorder: _Recorder, description: BootDescription, shim: Shim) -> None:
    keys = _database((shim.vendor_certificate, *shim.mok))
    recorder.add(14, EventType.EV_IPL, b"MokList\0", keys)
    recorder.add(14, EventType.EV_IPL, b"MokListX\0", efi.sha256_signature_list([bytes(32)]))
    level = efi.variable_data(efi.SHIM_LOCK, "SbatLevel", shim.sbat_level.encode())
    recorder.add(7, EventType.EV_EFI_VARIABLE_AUTHORITY, level)
    recorder.add(14, EventType.EV_IPL, b"MokListTrusted\0", b"\x01")
    if description.secure_boot.enabled:
        _authority(recorder, efi.SHIM_LOCK, "MokListRT", shim.vendor_certificate)


def _grub_text(recorder: _Recorder, prefix: str, text: str) -> None:
    # GRUB measures the text without prefix and NUL, and logs it with both.
    recorder.add(8, EventType.EV_IPL, (prefix + text).encode() + b"\0", text.encode())


def _grub_file(recorder: _Recorder, path: str, content: bytes) -> None:
    recorder.add(9, EventType.EV_IPL, path.encode() + b"\0", content)


def _unified_kernel_image(recorder: _Recorder, description: BootDescription, uki: UKI) -> None:
    command_line = description.command_line.encode()
    sections = {
        ".linux": uki.kernel.encode(),
        ".osrel": uki.os_release.encode(),
        ".cmdline": command_line,
        ".initrd": uki.initrd.encode(),
    }
    image = b"\0".join([uki.stub.encode(), *sections.values()])
    recorder.application(efi.disk_path(uki.path), image)
    if not description.secure_boot.enabled:
        # The stub lets the firmware load the kernel inside, which measures it once more.
        recorder.application(b"", sections[".linux"])
    for name, content in sections.items():
        recorder.add(11, EventType.EV_IPL, efi.utf16(name), name.encode() + b"\0")
        recorder.add(11, EventType.EV_IPL, efi.utf16(name), content)
    options = efi.utf16(description.command_line)
    recorder.add(
        9,
        EventType.EV_EVENT_TAG,
        _tagged(_LOAD_OPTIONS_TAG, b"LOADED_IMAGE::LoadOptions\0"),
        options,
    )
    recorder.add(
        9, EventType.EV_EVENT_TAG, _tagged(_INITRD_TAG, b"Linux initrd\0"), sections[".initrd"]
    )


def _tagged(tag: int, text: bytes) -> bytes:
    return struct.pack("<II", tag, len(text)) + text
