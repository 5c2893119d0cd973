"""Programs and drivers that firmware loaded: boot applications and option ROMs.

Specifications: TCG PFP 1.06 §3.3.4.3 (PCR 2), §3.3.4.5 (PCR 4), §10.2.3 (UEFI_IMAGE_LOAD_EVENT),
§10.4.1 (EV_EFI_BOOT_SERVICES_APPLICATION, EV_EFI_BOOT_SERVICES_DRIVER,
EV_EFI_RUNTIME_SERVICES_DRIVER, EV_EFI_ACTION).

The digest is over the image as Authenticode hashes it (attack D15); the device path beside it is
over nothing. Several boot attempts are what firmware does when the first boot option fails (D12).
Whether an image was loaded before or after ExitBootServices no quote tells: the two are in
different PCRs (D14).
"""

from __future__ import annotations

from typing import Final

from bootlease.bootstate.devicepath import device_path_text
from bootlease.bootstate.digests import (
    CALLING_APPLICATION,
    RETURNING_FROM_APPLICATION,
    known_digests,
)
from bootlease.bootstate.findings import keep, malformed_body
from bootlease.bootstate.pcrs import BOOT_CONFIGURATION_PCR, BOOT_MANAGER_PCR, OPTION_ROM_PCR
from bootlease.bootstate.values import BootApplications, LoadedImage, OptionROMs
from bootlease.bootstate.view import AttestedLog
from bootlease.errors import MalformedError
from bootlease.eventlog import Event, EventType
from bootlease.eventlog.bodies import parse_image_load_event
from bootlease.model import Finding

IMAGE_TYPES: Final = frozenset(
    {
        int(EventType.EV_EFI_BOOT_SERVICES_APPLICATION),
        int(EventType.EV_EFI_BOOT_SERVICES_DRIVER),
        int(EventType.EV_EFI_RUNTIME_SERVICES_DRIVER),
    }
)
_SEPARATOR: Final = int(EventType.EV_SEPARATOR)


def boot_applications(view: AttestedLog) -> BootApplications:
    """Return what the boot manager and its successors started, as far as PCR 4 is attested."""
    findings: list[Finding] = []
    images, _ = _images(view, BOOT_MANAGER_PCR, findings)
    actions = known_digests(view.bank).actions
    # Firmware of TCG EFI platform specification 1.2 measures attempts into PCR 5.
    pcrs = (BOOT_MANAGER_PCR,) if view.is_ccel else (BOOT_MANAGER_PCR, BOOT_CONFIGURATION_PCR)
    texts = [actions.get(view.digest(event)) for pcr in pcrs for event in view.events(pcr)]
    return BootApplications(
        images=images,
        attempts=texts.count(CALLING_APPLICATION),
        returns=texts.count(RETURNING_FROM_APPLICATION),
        findings=tuple(findings),
    )


def option_roms(view: AttestedLog) -> OptionROMs:
    """Return what add-in hardware brought along, as far as PCR 2 is attested."""
    findings: list[Finding] = []
    # PCR 2 and 4 share a register of a CCEL, where option ROMs cannot be told from applications.
    known = view.attests(OPTION_ROM_PCR) and not view.is_ccel
    images, others = _images(view, OPTION_ROM_PCR, findings) if known else ((), 0)
    return OptionROMs(known=known, images=images, others=others, findings=tuple(findings))


def _images(
    view: AttestedLog, pcr: int, findings: list[Finding]
) -> tuple[tuple[LoadedImage, ...], int]:
    """Return the images of a PCR, and how many events are neither image nor separator."""
    separators = known_digests(view.bank).separators
    images: list[LoadedImage] = []
    separated, others = False, 0
    for event in view.events(pcr):
        if event.type == _SEPARATOR or view.digest(event) in separators:
            separated = True
        elif event.type in IMAGE_TYPES:
            images.append(_image(view, event, findings, separated=separated))
        else:
            others += 1
    return tuple(images), others


def _image(
    view: AttestedLog, event: Event, findings: list[Finding], *, separated: bool
) -> LoadedImage:
    path = file = ""
    try:
        loaded = parse_image_load_event(event.unverified_data)
    except MalformedError as exc:
        keep(findings, malformed_body(event, str(exc)))
    else:
        path, file = device_path_text(loaded.device_path), loaded.file_path
        if not file and loaded.firmware_file is not None:
            file = str(loaded.firmware_file)
    return LoadedImage(
        event.number, event.pcr, event.type, view.digest(event), separated, path, file
    )
