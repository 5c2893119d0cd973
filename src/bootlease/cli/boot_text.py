"""What a boot log means, as text: a section for each aspect that the log speaks of.

Whatever comes from a log is escaped and cut before it is shown: it is an attacker's text, also
where a digest is over it. What no digest is over stands in parentheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bootlease.bootstate.kernel import LineSource
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import SeparatorState
from bootlease.eventlog import type_name
from bootlease.eventlog.describe import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bootlease.bootstate.kernel import CommandLine
    from bootlease.bootstate.keyfacts import MeasuredCertificate, SignatureDatabase
    from bootlease.bootstate.read import BootState
    from bootlease.bootstate.values import LoadedImage
    from bootlease.bootstate.windows import WindowsBoot

_DIGEST: Final = 16
_MOST_LISTED: Final = 12
"""Items of one kind that a section lists; the JSON form has them all."""


def boot_state_lines(state: BootState) -> Iterator[str]:
    """Return the sections in the order of a boot, each with its heading, empty ones left out."""
    for heading, lines_of in _SECTIONS:
        lines = list(lines_of(state))
        if lines:
            yield ""
            yield heading
            yield from (f"  {line}" for line in lines)


def _firmware(state: BootState) -> Iterator[str]:
    firmware = state.firmware
    if firmware.version is not None:
        yield f"version: {printable(firmware.version)}"
    if firmware.hcrtm is Tri.ON:
        yield "the measurement began in hardware (H-CRTM)"
    if firmware.startup_locality:
        yield f"the TPM was started from locality {firmware.startup_locality}"
    if firmware.omits_boot_attempts is Tri.ON:
        yield "the firmware does not measure boot attempts"
    if firmware.components:
        yield f"{len(firmware.components)} measurements of code, data and devices"


def _option_roms(state: BootState) -> Iterator[str]:
    yield from _some(map(_image, state.option_roms.images))


def _secure_boot(state: BootState) -> Iterator[str]:
    boot = state.secure_boot
    yield f"state: {boot.state.value}"
    modes = (
        ("setup mode", boot.setup_mode),
        ("audit mode", boot.audit_mode),
        ("deployed mode", boot.deployed_mode),
        ("debug mode", boot.debug_mode),
        ("DMA protection disabled", boot.dma_protection_disabled),
    )
    yield ", ".join(f"{name}: {mode.value}" for name, mode in modes)
    for name, database in (
        ("PK", boot.pk),
        ("KEK", boot.kek),
        ("db", boot.db),
        ("dbx", boot.dbx),
        ("dbt", boot.dbt),
        ("dbr", boot.dbr),
    ):
        if database is not None:
            yield from _database(name, database)
        elif name in ("PK", "KEK", "db", "dbx"):
            yield f"{name}: not known"
    for key in boot.test_keys:
        name = _name(key.certificate)
        yield f"{printable(key.variable)} holds a key that is known to be public: {name}"


def _database(name: str, database: SignatureDatabase) -> Iterator[str]:
    if database.empty:
        yield f"{name}: empty"
        return
    counts = (
        (len(database.certificates), "certificate"),
        (len(database.hashes), "image hash"),
        (len(database.certificate_hashes), "certificate hash"),
        (sum(count for _, count in database.others), "other"),
    )
    yield f"{name}: {', '.join(_counted(*each) for each in counts if each[0])}"
    yield from _some(f"  {_name(certificate)}" for certificate in database.certificates)


def _authorities(state: BootState) -> Iterator[str]:
    boot = state.secure_boot
    for when, authorities in (
        ("before the separator", boot.authorities_before),
        ("after the separator", boot.authorities_after),
    ):
        for each in authorities:
            what = _name(each.certificate) if each.certificate else each.kind.value
            yield f"event {each.event}, {when}: {printable(each.variable)}, {what}"


def _shim(state: BootState) -> Iterator[str]:
    shim = state.shim
    if shim.present is not Tri.ON:
        return
    if shim.sbat_level is not None:
        generations = ", ".join(
            f"{printable(name)} {generation}" for name, generation in shim.sbat_level.generations
        )
        yield f"SBAT level {printable(shim.sbat_level.date)}: {generations}"
    for name, digest in (("MokList", shim.mok_list), ("MokListX", shim.mok_list_x)):
        if digest is not None:
            yield f"{name}: {digest.hex()[:_DIGEST]}"
    yield f"trusts machine owner's keys: {shim.mok_list_trusted.value}"
    yield f"validation disabled: {shim.validation_disabled.value}"


def _boot_options(state: BootState) -> Iterator[str]:
    options = state.boot_options
    if options.order is not None:
        yield "order: " + ", ".join(f"{number:04X}" for number in options.order[:_MOST_LISTED])
    yield from _some(
        f"{option.name if option.name_verified else f'({option.name})'}"
        f" {printable(option.description)}: {printable(option.device_path)}"
        for option in options.options
    )


def _partitions(state: BootState) -> Iterator[str]:
    for table in state.partitions.tables:
        yield f"disk {table.disk}, event {table.event}"
        yield from _some(
            f"  {part.guid} {printable(part.name)!s}".rstrip() for part in table.partitions
        )


def _boot_applications(state: BootState) -> Iterator[str]:
    applications = state.boot_applications
    yield from _some(map(_image, applications.images))
    if applications.attempts > 1:
        yield f"{applications.attempts} boot options were tried"


def _image(image: LoadedImage) -> str:
    path = printable(image.unverified_path or image.unverified_file or "no path")
    return f"event {image.event}: {image.digest.hex()[:_DIGEST]} ({path})"


def _hand_over(state: BootState) -> Iterator[str]:
    yield f"boot services ended: {state.exit_boot_services.state.value}"
    odd = [each for each in state.separators if each.state is not SeparatorState.SOUND]
    yield from (f"separator of PCR {each.pcr}: {each.state.value}" for each in odd)


def _grub(state: BootState) -> Iterator[str]:
    grub = state.grub
    if grub.strings:
        yield f"{_counted(len(grub.strings), 'string')} and {_counted(len(grub.files), 'file')}"
        yield from _some(
            f"event {file.event}: {file.digest.hex()[:_DIGEST]} ({printable(file.unverified_name)})"
            for file in grub.files
        )


def _unified_kernel(state: BootState) -> Iterator[str]:
    image = state.unified_kernel
    for section in image.sections:
        yield f"event {section.event}: {section.name} {section.digest.hex()[:_DIGEST]}"
    if image.sections and image.profile:
        yield f"profile {image.profile}"
    if image.unexpected:
        yield f"events {_numbers(image.unexpected)} of PCR 11 are no part of an image"
    yield from _some(
        f"event {extra.event}: {extra.digest.hex()[:_DIGEST]}"
        f" ({extra.unverified_kind.value} {printable(extra.unverified_name)})"
        for extra in image.extras
    )


def _command_lines(state: BootState) -> Iterator[str]:
    lines = state.kernel_command_lines
    for line in lines.lines:
        yield from _command_line(line)
    if lines.unread:
        yield f"not readable, and perhaps command lines: events {_numbers(lines.unread)}"


_SOURCES: Final = {
    LineSource.GRUB: "GRUB",
    LineSource.GRUB_COMMAND: "a command of GRUB",
    LineSource.LOADER: "boot loader",
    LineSource.STUB: "systemd",
    LineSource.UKI_SECTION: ".cmdline of the image",
    LineSource.LOAD_OPTIONS: "load options of the kernel",
}


def _command_line(line: CommandLine) -> Iterator[str]:
    source = f"event {line.event}, {_SOURCES[line.source]}"
    if line.text is None:
        yield f"{source}: text not in the log, digest {line.digest.hex()[:_DIGEST]}"
        return
    yield f"{source}: {printable(line.text.decode(errors='backslashreplace'))}"
    if line.confirmed_by is not None:
        yield f"  the kernel was started with it (event {line.confirmed_by})"
    if line.too_long:
        yield "  the kernel cuts its end off"
    if line.other_readings:
        others = " ".join(map(str, line.other_readings))
        yield f"  programs that take quotes differently also read: {printable(others)}"


def _initrds(state: BootState) -> Iterator[str]:
    for initrd in state.initrds:
        name = printable(initrd.unverified_name)
        yield f"event {initrd.event}: {initrd.digest.hex()[:_DIGEST]} ({name})"


def _windows(state: BootState) -> Iterator[str]:
    boot = state.windows
    if boot.present is not Tri.ON:
        return
    flags = [
        f"{words}: {flag.value}" for words, flag in _windows_flags(boot) if flag is not Tri.UNKNOWN
    ]
    for start in range(0, len(flags), 4):
        yield ", ".join(flags[start : start + 4])
    for unlock in boot.bitlocker_unlocks:
        names = ", ".join(flag.name or "" for flag in unlock) or "none"
        yield f"a volume was unlocked by: {names.lower()}"
    yield f"{_counted(len(boot.modules), 'module')} loaded"
    if boot.unread:
        yield f"not readable: events {_numbers(boot.unread)}"


def _windows_flags(boot: WindowsBoot) -> Iterator[tuple[str, Tri]]:
    yield "code integrity", boot.code_integrity
    yield "test signing", boot.test_signing
    yield "preview signing", boot.flight_signing
    yield "boot debugging", boot.boot_debugging
    yield "kernel debugging", boot.kernel_debugging
    yield "hypervisor debugging", boot.hypervisor_debugging
    yield "safe mode", boot.safe_mode
    yield "Windows PE", boot.winpe
    yield "virtualization-based security required", boot.vbs_required
    yield "cold boot", boot.cold_boot


def _unknown(state: BootState) -> Iterator[str]:
    for each in state.opaque:
        yield f"PCR {each.pcr}: {_counted(each.count, 'event')} of type {type_name(each.type)}"


def _quirks(state: BootState) -> Iterator[str]:
    for quirk in state.quirks:
        more = f" and {quirk.count - 1} more" if quirk.count > 1 else ""
        yield f"event {quirk.event}{more}, PCR {quirk.pcr}: {quirk.sentence} [{quirk.id}]"


def _findings(state: BootState) -> Iterator[str]:
    # Of a log that nobody attested nothing is refused: the sentence says what is wrong.
    yield from (f"{printable(each.message)} [{each.id}]" for each in state.findings)


_SECTIONS: Final[tuple[tuple[str, Callable[[BootState], Iterator[str]]], ...]] = (
    ("Firmware", _firmware),
    ("Option ROMs", _option_roms),
    ("Secure Boot", _secure_boot),
    ("Secure Boot authorities", _authorities),
    ("Boot options", _boot_options),
    ("Partitions", _partitions),
    ("Boot applications", _boot_applications),
    ("Hand-over", _hand_over),
    ("shim", _shim),
    ("GRUB", _grub),
    ("Unified kernel image", _unified_kernel),
    ("Kernel command lines", _command_lines),
    ("Initial RAM disks", _initrds),
    ("Windows", _windows),
    ("Events of unknown types", _unknown),
    ("Oddities that are understood", _quirks),
    ("Contradictions", _findings),
)


def _some(lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    yield from listed[:_MOST_LISTED]
    if len(listed) > _MOST_LISTED:
        yield f"and {len(listed) - _MOST_LISTED} more"


def _name(certificate: MeasuredCertificate) -> str:
    subject = certificate.subject
    return printable(subject) if subject else f"certificate {certificate.sha256.hex()[:_DIGEST]}"


def _numbers(events: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, events[:_MOST_LISTED]))
    return shown if len(events) <= _MOST_LISTED else f"{shown}, …"


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("sh") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
