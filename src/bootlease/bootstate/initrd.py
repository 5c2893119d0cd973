"""Initial RAM disks, by digest, wherever a boot loader or the kernel measured them.

Sources: Linux drivers/firmware/efi/libstub (``Linux initrd``, PCR 9); systemd-stub's ``.initrd``
section (PCR 11) and add-ons (PCR 12).

GRUB measures an initrd like any other file it reads (see ``grub``), under a name that no digest
covers. The kernel's own measurement is over everything it unpacks, in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bootlease.bootstate.pcrs import KERNEL_INITRD_PCR
from bootlease.bootstate.stub import ExtraKind, unified_kernel
from bootlease.bootstate.tagged import Tag, read_tag

if TYPE_CHECKING:
    from bootlease.bootstate.view import AttestedLog


@dataclass(frozen=True, slots=True)
class Initrd:
    """An initial RAM disk.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        digest: Its digest in the log's bank.
        unverified_name: What the log calls it; of a section of a unified kernel image, its name.
    """

    event: int
    pcr: int
    digest: bytes
    unverified_name: str


def initrds(view: AttestedLog) -> tuple[Initrd, ...]:
    """Return the initial RAM disks, as far as PCR 9, 11 and 12 are attested."""
    found = [
        Initrd(event.number, event.pcr, view.digest(event), tagged[1])
        for event in view.events(KERNEL_INITRD_PCR)
        if (tagged := read_tag(event.type, event.unverified_data)) is not None
        and tagged[0] is Tag.LINUX_INITRD
    ]
    image = unified_kernel(view)
    found += [
        Initrd(section.event, section.pcr, section.digest, section.name)
        for section in image.sections
        if section.name == ".initrd"
    ]
    found += [
        Initrd(extra.event, extra.pcr, extra.digest, extra.unverified_name)
        for extra in image.extras
        if extra.unverified_kind is ExtraKind.INITRD
    ]
    return tuple(found)
