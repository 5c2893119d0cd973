"""Unified kernel images: what systemd-stub and systemd-boot measured (PCR 1, 5, 11, 12, 13).

Sources: systemd "TPM2 PCR Measurements Made by systemd"; src/boot/stub.c, src/fundamental/uki.c
(names of sections and the order in which they are measured); UAPI.5 Unified Kernel Image.

    PCR 11   for each section, in the order of ``SECTIONS``: its name in ASCII with a NUL, then
             its content; the boot phases that follow are not in the log (see ``phases``)
    PCR 12   chosen profile, command lines, credentials, configuration extensions, add-ons
    PCR 13   system extensions
    PCR 5    loader.conf;  PCR 1  SMBIOS structures

A section's name is verified, since its digest can be recomputed; of a content only the digest is
known. What the rest is called in the log is the log's word: a digest says what was loaded, the
name beside it does not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bootlease.bootstate.pcrs import KERNEL_BOOT_PCR, KERNEL_CONFIG_PCR, SYSEXT_PCR
from bootlease.bootstate.tagged import Tag, read_tag
from bootlease.bootstate.tri import Tri
from bootlease.eventlog.bodies import text_of
from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.hashes import hash_constructor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootlease.bootstate.view import AttestedLog
    from bootlease.eventlog import Event
    from bootlease.model import HashAlg


SECTIONS: Final = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
)
"""Measured sections in their order. ``.pcrsig`` is never measured: it signs the others."""

_EV_IPL: Final = int(EventType.EV_IPL)
_EV_SEPARATOR: Final = int(EventType.EV_SEPARATOR)
_MAX_PROFILES: Final = 64
_MAX_SECTIONS: Final = 256


class ExtraKind(enum.Enum):
    """What a log says was handed to a kernel beside its image."""

    PROFILE = "profile"
    CREDENTIALS = "credentials"
    CONFIGURATION_EXTENSION = "configuration-extension"
    SYSTEM_EXTENSION = "system-extension"
    DEVICE_TREE = "device-tree"
    INITRD = "initrd"
    MICROCODE = "microcode"
    LOADER_CONFIGURATION = "loader-configuration"
    SMBIOS = "smbios"


@dataclass(frozen=True, slots=True)
class UKISection:
    """A section of a unified kernel image.

    Attributes:
        event: Number of the event that measured the content.
        pcr: PCR it was measured into.
        name: Its name, verified.
        digest: Digest of its content in the log's bank.
    """

    event: int
    pcr: int
    name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class BootExtra:
    """Something measured beside the image.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        digest: Digest of the thing in the log's bank.
        unverified_kind: What the log says it is; no digest is over it.
        unverified_name: Its name, likewise.
    """

    event: int
    pcr: int
    digest: bytes
    unverified_kind: ExtraKind
    unverified_name: str


@dataclass(frozen=True, slots=True)
class UnifiedKernel:
    """A unified kernel image as PCR 11 to 13 prove it.

    Attributes:
        present: On: PCR 11 begins with a section's name. Off: it does not.
        sections: Sections in order.
        unexpected: Events of PCR 11 that are no sections in their order; of an image that was
            started once, and of nothing else, there are none.
        profile: Number of the chosen profile, by its digest, and 0 where PCR 12 names none;
            ``None`` where it is not attested or names several or one beyond all reason. The
            sections of PCR 11 are those of the profile, whatever its number.
        extras: What else was measured, as the log names it.
    """

    present: Tri
    sections: tuple[UKISection, ...]
    unexpected: tuple[int, ...]
    profile: int | None
    extras: tuple[BootExtra, ...]

    def section(self, name: str) -> UKISection | None:
        """Return the first section of a name, ``None`` where there is none."""
        return next((section for section in self.sections if section.name == name), None)


def unified_kernel(view: AttestedLog) -> UnifiedKernel:
    """Return the unified kernel image, as far as PCR 11 to 13 are attested."""
    sections, unexpected = _sections(view)
    present = Tri.ON if sections else Tri.OFF
    if not view.attests(KERNEL_BOOT_PCR):
        present = Tri.UNKNOWN
    extras = tuple(_extras(view))
    return UnifiedKernel(
        present, sections, unexpected if sections else (), _profile(view, extras), extras
    )


def _sections(view: AttestedLog) -> tuple[tuple[UKISection, ...], tuple[int, ...]]:
    """Pair names with contents; whatever does not fit into the order is unexpected."""
    names = section_names(view.bank)
    sections: list[UKISection] = []
    unexpected: list[int] = []
    rank, pending = -1, ""
    for event in view.events(KERNEL_BOOT_PCR):
        digest = view.digest(event)
        if pending:
            if len(sections) < _MAX_SECTIONS:
                sections.append(UKISection(event.number, event.pcr, pending, digest))
            pending = ""
        elif (name := names.get(digest)) is not None:
            if (place := SECTIONS.index(name)) <= rank:
                unexpected.append(event.number)
            rank, pending = place, name
        elif not _is_separator(view, event):
            unexpected.append(event.number)
    return tuple(sections), tuple(unexpected)


def _is_separator(view: AttestedLog, event: Event) -> bool:
    return event.type == _EV_SEPARATOR and view.verified(event) is not None


@lru_cache(maxsize=16)
def section_names(bank: HashAlg) -> Mapping[bytes, str]:
    """Return the names of measured sections by the digest that stands for them."""
    new_hash = hash_constructor(bank)
    if new_hash is None:
        return {}
    return {new_hash(name.encode() + b"\0").digest(): name for name in SECTIONS}


@lru_cache(maxsize=16)
def _profile_numbers(bank: HashAlg) -> Mapping[bytes, int]:
    new_hash = hash_constructor(bank)
    if new_hash is None:
        return {}
    return {
        new_hash(f"{number}\0".encode("utf-16-le")).digest(): number
        for number in range(1, _MAX_PROFILES + 1)
    }


def _profile(view: AttestedLog, extras: tuple[BootExtra, ...]) -> int | None:
    if not view.attests(KERNEL_CONFIG_PCR):
        return None
    numbers = _profile_numbers(view.bank)
    chosen = {
        number
        for event in view.events(KERNEL_CONFIG_PCR)
        if (number := numbers.get(view.digest(event))) is not None
    }
    if len(chosen) > 1 or any(
        extra.unverified_kind is ExtraKind.PROFILE and extra.digest not in numbers
        for extra in extras
    ):
        return None
    return chosen.pop() if chosen else 0


def _extras(view: AttestedLog) -> list[BootExtra]:
    extras: list[BootExtra] = []
    seen: set[int] = set()
    for pcr in (1, 5, KERNEL_CONFIG_PCR, SYSEXT_PCR):
        for event in view.events(pcr):
            named = _named(event)
            if named is not None and event.number not in seen:
                seen.add(event.number)
                extras.append(BootExtra(event.number, event.pcr, view.digest(event), *named))
    return extras


def _named(event: Event) -> tuple[ExtraKind, str] | None:
    if event.type == _EV_IPL:
        name = text_of(event.unverified_data)
        kind = _ARCHIVES.get(name) if name else None
        return None if kind is None or name is None else (kind, name)
    tagged = read_tag(event.type, event.unverified_data)
    if tagged is None or (kind := _TAGS.get(tagged[0])) is None:
        return None
    return kind, tagged[1]


_ARCHIVES: Final = {
    "Credentials initrd": ExtraKind.CREDENTIALS,
    "Global credentials initrd": ExtraKind.CREDENTIALS,
    "Configuration extension initrd": ExtraKind.CONFIGURATION_EXTENSION,
    "Global configuration extension initrd": ExtraKind.CONFIGURATION_EXTENSION,
    "System extension initrd": ExtraKind.SYSTEM_EXTENSION,
    "Global system extension initrd": ExtraKind.SYSTEM_EXTENSION,
}

_TAGS: Final = {
    Tag.UKI_PROFILE: ExtraKind.PROFILE,
    Tag.DEVICE_TREE_ADDON: ExtraKind.DEVICE_TREE,
    Tag.INITRD_ADDON: ExtraKind.INITRD,
    Tag.MICROCODE_ADDON: ExtraKind.MICROCODE,
    Tag.LOADER_CONF: ExtraKind.LOADER_CONFIGURATION,
    Tag.SMBIOS_TYPE_1: ExtraKind.SMBIOS,
    Tag.SMBIOS_TYPE_2: ExtraKind.SMBIOS,
    Tag.SMBIOS_TYPE_11: ExtraKind.SMBIOS,
}
