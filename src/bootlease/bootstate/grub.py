"""What GRUB measured: the strings it acted on (PCR 8) and the files it read (PCR 9).

Sources: GRUB 2.06 to 2.12 grub-core/commands/tpm.c (``kernel_cmdline: ``, ``module_cmdline: ``,
``grub_cmd: ``) and the TPM patches of RHEL 8 (the same without a colon).

The digest is over the string, with or without its NUL, and never over the prefix (attack D16):
that a string was a command and not a kernel's command line is the log's word. So a string is
called what its prefix says for people who read, and whoever has to know what a kernel was given
takes the view of ``kernel``, which trusts no prefix.

Not handled: what a command does; the order of files and strings among each other, which are in
two PCRs (attack D14).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.bootstate.pcrs import GRUB_FILE_PCR, GRUB_STRING_PCR
from bootlease.eventlog.bodies import split_grub_string, text_of
from bootlease.eventlog.eventtypes import EventType
from bootlease.eventlog.hashes import hash_constructor
from bootlease.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.bootstate.view import AttestedLog
    from bootlease.model import HashAlg


MAX_FINDINGS: Final = 16
"""Altered strings that are named; one is enough to refuse a log."""

_EV_IPL: Final = int(EventType.EV_IPL)


class GRUBLabel(enum.Enum):
    """What a prefix says that a string is."""

    COMMAND = "command"
    KERNEL = "kernel"
    MODULE = "module"


@dataclass(frozen=True, slots=True)
class GRUBString:
    """A string that GRUB measured.

    Attributes:
        event: Number of the event.
        unverified_label: What its prefix says; no digest is over it.
        text: The string, which the digest is over, without prefix and NUL.
    """

    event: int
    unverified_label: GRUBLabel
    text: bytes


@dataclass(frozen=True, slots=True)
class GRUBFile:
    """A file that GRUB read.

    Attributes:
        event: Number of the event.
        digest: Digest of the file in the log's bank.
        unverified_name: Its name; no digest is over it.
    """

    event: int
    digest: bytes
    unverified_name: str


@dataclass(frozen=True, slots=True)
class GRUBCommands:
    """What GRUB measured.

    Attributes:
        strings: Strings in order.
        files: Files in order.
        findings: Strings that are not what was measured.
    """

    strings: tuple[GRUBString, ...]
    files: tuple[GRUBFile, ...]
    findings: tuple[Finding, ...]


def grub_commands(view: AttestedLog) -> GRUBCommands:
    """Return what GRUB measured, as far as PCR 8 and 9 are attested."""
    strings: list[GRUBString] = []
    findings: list[Finding] = []
    for event in view.events(GRUB_STRING_PCR):
        number, _, event_type, _, _, body = event
        if event_type != _EV_IPL or (label := grub_label(body)) is None:
            continue
        text = grub_text(view.bank, view.digest(event), body)
        if text is None and len(findings) < MAX_FINDINGS:
            findings.append(_altered(event.pcr, number))
        elif text is not None:
            strings.append(GRUBString(number, label, text))
    return GRUBCommands(tuple(strings), tuple(_files(view)), tuple(findings))


def _files(view: AttestedLog) -> Iterator[GRUBFile]:
    for event in view.events(GRUB_FILE_PCR):
        body = event.unverified_data
        if event.type != _EV_IPL or grub_label(body) is not None:
            continue
        name = text_of(body) or ""
        # A register of a confidential machine also takes what shim and systemd measure.
        if not view.is_ccel or name.startswith(("/", "(")):
            yield GRUBFile(event.number, view.digest(event), name)


def grub_label(body: bytes) -> GRUBLabel | None:
    """Return what the prefix of an event's data says, ``None`` where it has none of GRUB's."""
    parts = split_grub_string(body)
    return None if parts is None else _LABELS[parts[0]]


_LABELS: Final = {
    b"grub_cmd: ": GRUBLabel.COMMAND,
    b"kernel_cmdline: ": GRUBLabel.KERNEL,
    b"module_cmdline: ": GRUBLabel.MODULE,
    b"grub_cmd ": GRUBLabel.COMMAND,
    b"grub_kernel_cmdline ": GRUBLabel.KERNEL,
    b"grub_module_cmdline ": GRUBLabel.MODULE,
}


def grub_text(bank: HashAlg, digest: bytes, body: bytes) -> bytes | None:
    """Return the string behind a prefix of GRUB's if the digest is over it, as GRUB has it.

    A digest over the prefix too is not GRUB's doing: somebody had a string measured that begins
    like one, and now passes it off as what the prefix says (attack D16).
    """
    parts = split_grub_string(body)
    new_hash = hash_constructor(bank)
    if parts is None or new_hash is None:
        return None
    text = parts[1].rstrip(b"\0")
    if b"\0" in text:
        return None
    if new_hash(text).digest() == digest or new_hash(parts[1]).digest() == digest:
        return text
    return None


def _altered(pcr: int, event: int) -> Finding:
    return Finding(
        "boot.grub.altered-string",
        f"event {event}, PCR {pcr}: the log says that GRUB measured a string, which is not what"
        " was measured; somebody altered the log.",
        pcr=pcr,
        event=event,
    )
