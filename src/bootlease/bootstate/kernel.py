"""Every command line that a kernel may have been given, and what could not be read.

Sources: GRUB 2 grub-core/commands/tpm.c and lib/cmdline.c (PCR 8); systemd-boot before 251
(PCR 8) and systemd-boot and systemd-stub (PCR 12, and ``.cmdline`` in PCR 11), "TPM2 PCR
Measurements Made by systemd"; Linux drivers/firmware/efi/libstub (``LOADED_IMAGE::LoadOptions``,
PCR 9).

What a log *calls* a string is under no digest (attack D16): whoever writes the log can pass a
kernel's command line off as a command, and a command or a string measured after boot as a
kernel's command line. What he cannot do is make a measurement vanish. Therefore every string in
the PCRs of boot loaders is a command line here unless it reads as a command of GRUB's; a rule has
to hold for *all* of them; and a measurement there whose text the log does not prove is listed in
``unread``: it may have been anything (attack D17).

The kernel's own measurement of its load options, and the ``.cmdline`` section, are digests of a
text that is not in the log. They are resolved by trying: the texts of the other lines, and those
that the caller knows (a reference's).

PCR 9 holds digests of files too: load options that the log passes off as a file are seen by who
compares that PCR with references, not here.

Not handled: bootconfig in an initrd, device trees, and the ``console=`` that the newest stubs
append unmeasured.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bootlease.bootstate.cmdline import (
    KERNEL_LIMIT,
    MAX_COMMAND_LINE,
    Parameter,
    other_readings,
    split_command_line,
)
from bootlease.bootstate.grub import GRUBLabel, grub_label, grub_text
from bootlease.bootstate.sipa import is_sipa_container
from bootlease.bootstate.stub import section_names, unified_kernel
from bootlease.bootstate.tagged import Tag, read_tag
from bootlease.eventlog.hashes import hash_constructor
from bootlease.frozen import quick_init

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bootlease.bootstate.view import AttestedLog
    from bootlease.eventlog import Event
    from bootlease.model import HashAlg

COMMAND_LINE_PCRS: Final = (8, 9, 11, 12)
"""PCRs that boot loaders and the kernel measure command lines into."""

MAX_LINES: Final = 32
"""Command lines of one boot that are read; real boots have up to four."""

_IMAGE: Final = b"BOOT_IMAGE="
_PATH: Final = (b"/", b"(")
"""What GRUB's name of an image begins with."""

_FIRST_PRINTABLE: Final = 0x20
_SEPARATORS: Final = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"WBCL")

_KERNEL_COMMANDS: Final = frozenset(
    {b"linux", b"linux16", b"linuxefi", b"kernel", b"xen_hypervisor", b"xen_module"}
    | {b"multiboot", b"multiboot2", b"module", b"module2"}
)
"""Commands of GRUB that hand a command line to a kernel."""


class LineSource(enum.Enum):
    """Who a log says measured a command line."""

    GRUB = "grub"
    GRUB_COMMAND = "grub-command"
    LOADER = "loader"
    STUB = "stub"
    UKI_SECTION = "uki-section"
    LOAD_OPTIONS = "load-options"


@quick_init
@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line that a kernel may have been given.

    Attributes:
        event: Number of the event.
        pcr: PCR it was measured into.
        source: Who measured it, as the log has it: of UKI sections verified, else a guess that
            no rule may rest on.
        text: The line as the kernel gets it, in UTF-8; ``None`` where only the digest is known.
        digest: The event's digest in the log's bank.
        confirmed_by: Number of the event in which the kernel itself measured this text.
    """

    event: int
    pcr: int
    source: LineSource
    text: bytes | None
    digest: bytes
    confirmed_by: int | None = None

    @property
    def image(self) -> str | None:
        """The kernel's file as GRUB was told it, ``None`` where nobody says."""
        first = next(iter(split_command_line(self.text or b"")), None)
        return first.value if first is not None and first.name == "BOOT_IMAGE" else None

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters as the kernel reads them, without BOOT_IMAGE of a boot loader."""
        words = split_command_line(self.text or b"")
        return words[1:] if words and words[0].name == "BOOT_IMAGE" else words

    @property
    def other_readings(self) -> tuple[Parameter, ...]:
        """Parameters that user space reads from the same text and the kernel does not."""
        return other_readings(self.text or b"")

    @property
    def too_long(self) -> bool:
        """Whether the kernel cuts the line, so that parameters at its end take no effect."""
        return self.text is not None and len(self.text) >= KERNEL_LIMIT


@dataclass(frozen=True, slots=True)
class KernelCommandLines:
    """All command lines of a boot.

    Attributes:
        lines: In order within each PCR.
        unread: Events of a boot loader's PCR whose text the log does not prove. Each may have
            been a command line. In a CCEL, files and strings share a register, so that every file
            GRUB read is among them.
        unattested: PCRs of ``COMMAND_LINE_PCRS`` that are not attested.
    """

    lines: tuple[CommandLine, ...]
    unread: tuple[int, ...]
    unattested: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether no other command line can have been measured, and each text is known."""
        return (
            not self.unread
            and not self.unattested
            and all(line.text is not None for line in self.lines)
        )


def kernel_command_lines(view: AttestedLog, known: Collection[bytes] = ()) -> KernelCommandLines:
    """Return every command line that the attested PCRs prove.

    Args:
        view: The attested log.
        known: Texts to try where the log holds a digest alone, in UTF-8 as in ``.cmdline``.
    """
    lines, unread = _loader_lines(view)
    lines = _without_repeats(lines)
    image = unified_kernel(view)
    if (section := image.section(".cmdline")) is not None:
        text = _section_text(view.bank, section.digest, known)
        lines.append(
            CommandLine(
                section.event, section.pcr, LineSource.UKI_SECTION, text, section.digest, None
            )
        )
    unread += _add_load_options(view, lines, known)
    unattested = tuple(pcr for pcr in COMMAND_LINE_PCRS if not view.attests(pcr))
    return KernelCommandLines(tuple(lines), tuple(unread), unattested)


def _loader_lines(view: AttestedLog) -> tuple[list[CommandLine], list[int]]:
    """Read PCR 8 and 12 event by event: a command, a command line, or unread."""
    lines: list[CommandLine] = []
    unread: list[int] = []
    bank, column, is_ccel = view.bank, view.column, view.is_ccel
    for event in view.events(8) if is_ccel else (*view.events(8), *view.events(12)):
        number, pcr, _, _, digests, body = event
        digest = digests[column]
        small = len(body) <= MAX_COMMAND_LINE
        read = (_grub_string if small else _read_grub_string)(bank, digest, body)
        if read is _NOT_GRUB:
            if is_ccel and (_is_load_options(event) or digest in section_names(bank)):
                continue
            read = _other_string(view, event)
        if read is None or (read and len(lines) >= MAX_LINES):
            unread.append(number)
        elif read:
            lines.append(CommandLine(number, pcr, *read, digest, None))
    return lines, unread


def _read_grub_string(bank: HashAlg, digest: bytes, body: bytes) -> _Read:
    """Take a string of GRUB's for a command line, unless it can only be a command.

    A command begins with its name, a command line with the path of an image: with "/" or "(".
    """
    if (label := grub_label(body)) is None:
        return _NOT_GRUB
    if (text := grub_text(bank, digest, body)) is None:
        return None
    source = LineSource.GRUB
    if label is GRUBLabel.COMMAND:
        name, _, rest = text.partition(b" ")
        if name in _KERNEL_COMMANDS:
            source, text = LineSource.GRUB_COMMAND, rest
        elif not text.startswith(_PATH):
            return _NO_LINE
    # Multiboot's lines have no image: there, and in a command called a line, each word counts.
    line = _IMAGE + text if text.startswith(_PATH) else text
    return (source, line) if len(line) < MAX_COMMAND_LINE else None


_Read = tuple[LineSource, bytes] | tuple[()] | None
"""A command line; nothing, for another thing that is proven; ``None`` for what is not read."""

_NO_LINE: Final = ()
_NOT_GRUB: Final = (LineSource.LOADER, b"")
_grub_string: Final = lru_cache(maxsize=4096)(_read_grub_string)
"""A fleet's nodes measure the same strings at every boot; the digest is part of the key."""


def _other_string(view: AttestedLog, event: Event) -> _Read:
    if (data := _proven(view, event)) is None:
        return None
    # By their bytes, never by their type: a command line may be called a separator.
    if data in _SEPARATORS or is_sipa_container(data):
        return _NO_LINE
    text = _loader_text(data)
    if text is None or len(text) > MAX_COMMAND_LINE:
        return None
    return LineSource.LOADER if event.pcr == 8 else LineSource.STUB, text  # noqa: PLR2004 - a PCR


def _proven(view: AttestedLog, event: Event) -> bytes | None:
    if (covered := view.verified(event)) is not None:
        return covered.data
    # systemd documents a digest without the NUL that it logs.
    body = event.unverified_data.removesuffix(b"\0\0")
    new_hash = hash_constructor(view.bank)
    if new_hash is None or new_hash(body).digest() != view.digest(event):
        return None
    return body


def _loader_text(data: bytes) -> bytes | None:
    """Read a string of systemd's, or any other string: UTF-16 where it has NULs, else UTF-8.

    Never what else it might be: ASCII reads as UTF-16 too, and then hides every parameter.
    """
    wide = b"\0" in data.rstrip(b"\0")
    # An odd last byte is half of a UTF-16 NUL that old loaders leave off.
    raw = data[:-1] if wide and len(data) % 2 and data[-1] == 0 else data
    try:
        text = raw.decode("utf-16-le" if wide else "utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return None if not text or "\0" in text else text.encode()


def _without_repeats(lines: Iterable[CommandLine]) -> list[CommandLine]:
    """Drop a ``linux`` command whose command line follows, and lines that were measured twice.

    GRUB measures the command's words as they are, and the command line with quotes where a word
    has blanks: they are the same but for quotes and backslashes.
    """
    found = list(lines)
    given = {_bare(line.text) for line in found if line.source is LineSource.GRUB}
    kept: dict[bytes | None, CommandLine] = {}
    for line in found:
        if line.source is not LineSource.GRUB_COMMAND or _bare(line.text) not in given:
            kept.setdefault(line.text, line)
    return list(kept.values())


def _bare(text: bytes | None) -> bytes:
    return (text or b"").translate(None, b'"\\').rstrip()


def _section_text(bank: HashAlg, digest: bytes, known: Iterable[bytes]) -> bytes | None:
    new_hash = hash_constructor(bank)
    if new_hash is None:
        return None
    for text in known:
        for ending in (b"", b"\n", b"\0", b"\n\0"):
            if new_hash(text + ending).digest() == digest:
                return _as_the_stub_passes_it(text)
    return None


def _as_the_stub_passes_it(text: bytes) -> bytes:
    """Blank out control characters and cut blanks at both ends, as mangle_stub_cmdline does."""
    blanked = bytes(max(byte, _FIRST_PRINTABLE) for byte in text)
    return blanked.strip(b" ")


def _is_load_options(event: Event) -> bool:
    tagged = read_tag(event.type, event.unverified_data)
    return tagged is not None and tagged[0] is Tag.LINUX_LOAD_OPTIONS


def _add_load_options(
    view: AttestedLog, lines: list[CommandLine], known: Collection[bytes]
) -> list[int]:
    """Add what the kernel measured itself, or mark the line whose text it is.

    Returns:
        Events that are too many to be read.
    """
    events = [event for event in view.events(9) if _is_load_options(event)]
    if not events:
        return []
    texts = dict(_load_options_digests(view.bank, lines, known))
    for event in events[:MAX_LINES]:
        digest = view.digest(event)
        text = texts.get(digest)
        same = next((at for at, line in enumerate(lines) if line.text == text), None)
        if text is not None and same is not None:
            lines[same] = replace(lines[same], confirmed_by=event.number)
        else:
            lines.append(
                CommandLine(event.number, event.pcr, LineSource.LOAD_OPTIONS, text, digest)
            )
    return [event.number for event in events[MAX_LINES:]]


def _load_options_digests(
    bank: HashAlg, lines: list[CommandLine], known: Collection[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the digests that load options of candidate texts have, with the text."""
    if (new_hash := hash_constructor(bank)) is None:
        return
    for text in _candidates(lines, known):
        wide = text.decode("utf-8", "replace").encode("utf-16-le")
        # GRUB hands over the text without its NUL, systemd-stub and firmware with it.
        yield new_hash(wide).digest(), text
        yield new_hash(wide + b"\0\0").digest(), text


def _candidates(lines: list[CommandLine], known: Collection[bytes]) -> Iterator[bytes]:
    """Yield texts that load options may have: each line, and a base with what the stub appends."""
    bases = list(dict.fromkeys([line.text for line in lines if line.text is not None]))
    bases += [mangled for text in known if (mangled := _as_the_stub_passes_it(text)) not in bases]
    yield from bases
    appended = [line.text for line in lines if line.source is LineSource.STUB and line.text]
    for base in bases:
        for start in range(len(appended)):
            yield b" ".join([base, *appended[start:]])
            yield b" ".join([base, appended[start]])
