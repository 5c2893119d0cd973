"""Words for what is measured where, and for events."""

from __future__ import annotations

from typing import Final

from bootlease.bootstate.tagged import Tag, read_tag
from bootlease.eventlog import Event
from bootlease.model import HashAlg
from bootlease.reference import describe_measured

MAX_TEXT: Final = 400
"""Characters of an event's text; a command line of a kernel may have 2,048."""

_HOLDS: Final = {
    0: "firmware",
    1: "firmware settings, boot order",
    2: "drivers of add-in hardware (option ROMs)",
    3: "settings of add-in hardware",
    4: "boot loaders and kernels that firmware starts",
    5: "partition table, end of firmware",
    6: "of the machine's maker",
    7: "Secure Boot: state and keys",
    8: "GRUB's commands, kernel command line",
    9: "files that were loaded: configuration, kernel, initrd",
    10: "files that the running system loaded (IMA)",
    11: "unified kernel image",
    12: "what the kernel image was handed: command line, credentials",
    13: "system extensions",
    14: "shim: machine owner's keys",
    15: "machine identity",
}
"""What each PCR holds: TCG PFP 1.06 §3.3.4 up to 7, the boot loaders' own use beyond."""

_TAGS: Final = {
    Tag.LINUX_LOAD_OPTIONS: "kernel command line as the kernel got it",
    Tag.LINUX_INITRD: "initial RAM disk as the kernel got it",
}


def holds(pcr: int) -> str:
    """Return what is measured into a PCR."""
    return _HOLDS.get(pcr, "of the operating system")


def words_of(event: Event, bank: HashAlg) -> str:
    """Return a phrase for an event, escaped and cut."""
    tagged = read_tag(event.type, event.unverified_data)
    known = None if tagged is None else _TAGS.get(tagged[0])
    return cut(describe_measured(event, bank) if known is None else known)


def cut(text: str) -> str:
    """Shorten a text that is too long for people."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def ranges(numbers: frozenset[int]) -> str:
    """Return numbers as ``0-4,7``."""
    parts: list[str] = []
    for number in sorted(numbers):
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and int(last or first) == number - 1:
            parts[-1] = f"{first}-{number}"
        else:
            parts.append(str(number))
    return ",".join(parts)
