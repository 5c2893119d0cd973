"""What a simulated machine boots: a description that fits in one TOML file.

Specification: none; the format is this module's own, and strict: an unknown key, a missing one
or a wrong type is a MalformedError. Contents of files and images are short texts that stand for
the real bytes: two boots measure the same exactly where their texts are the same.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Table = TypeVar("_Table", bound="DataclassInstance")

_SCHEMA: Final = 1
_STARTUP_LOCALITIES: Final = (0, 3)
_ADDRESSES: Final = 1 << 64
_BOOT_NUMBERS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class FirmwareBlob:
    """A firmware volume, measured into PCR 0."""

    base: int
    content: str

    def __post_init__(self) -> None:
        """Refuse an address that no machine has."""
        if not 0 <= self.base < _ADDRESSES:
            raise ValueError("the base of a firmware blob is an address of 64 bits")


@dataclass(frozen=True, slots=True)
class Firmware:
    """The platform's firmware.

    Attributes:
        version: Measured as EV_S_CRTM_VERSION.
        blobs: Firmware volumes.
        startup_locality: Locality of TPM2_Startup, 0 or 3.
    """

    version: str
    blobs: tuple[FirmwareBlob, ...]
    startup_locality: int = 0


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """Secure Boot and its key databases.

    Attributes:
        enabled: Whether the firmware enforces it.
        pk: Common name of the platform key's certificate.
        kek: Common names of the key exchange keys.
        db: Common names of the certificates that may sign images.
        dbx: Contents of images whose digests are forbidden.
    """

    enabled: bool
    pk: str
    kek: tuple[str, ...]
    db: tuple[str, ...]
    dbx: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootEntry:
    """A ``Boot####`` variable."""

    number: int
    title: str
    path: str

    def __post_init__(self) -> None:
        """Refuse a number that does not fit into the variable's name."""
        if not 0 <= self.number < _BOOT_NUMBERS:
            raise ValueError("the number of a boot entry has 16 bits")


@dataclass(frozen=True, slots=True)
class BootApplication:
    """A program started from the EFI system partition.

    Attributes:
        path: Its path there.
        content: What its Authenticode digest is taken over.
        signed_by: Common name of the ``db`` certificate that signed it.
    """

    path: str
    content: str
    signed_by: str


@dataclass(frozen=True, slots=True)
class Shim:
    """shim's own measurements into PCR 7 and 14.

    Attributes:
        sbat_level: Content of the SbatLevel variable.
        vendor_certificate: Common name of the built-in certificate that signs GRUB.
        mok: Common names of further machine-owner keys.
    """

    sbat_level: str
    vendor_certificate: str
    mok: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GRUB:
    """GRUB, started by shim, which starts a kernel.

    Attributes:
        path: Path of its image.
        content: What its Authenticode digest is taken over.
        commands: Commands of grub.cfg before ``linux``.
        kernel_path: Path of the kernel on the boot partition.
        kernel: The kernel's content.
        initrd_path: Path of the initrd.
        initrd: The initrd's content.
    """

    path: str
    content: str
    commands: tuple[str, ...]
    kernel_path: str
    kernel: str
    initrd_path: str
    initrd: str


@dataclass(frozen=True, slots=True)
class UKI:
    """A unified kernel image with systemd's stub.

    Attributes:
        path: Path of the image.
        signed_by: Common name of the ``db`` certificate that signed it.
        stub: The stub's content.
        kernel: Content of ``.linux``.
        os_release: Content of ``.osrel``.
        initrd: Content of ``.initrd``.
    """

    path: str
    signed_by: str
    stub: str
    kernel: str
    os_release: str
    initrd: str


@dataclass(frozen=True, slots=True)
class BootDescription:
    """One machine and what it boots.

    Attributes:
        name: For people.
        command_line: The kernel's command line.
        firmware: The platform's firmware.
        secure_boot: Secure Boot and its key databases.
        boot_entries: ``Boot####`` variables, in boot order.
        applications: Programs the firmware starts before the loader, in order.
        shim: What shim measures; goes with ``grub``.
        grub: The loader, unless ``uki``.
        uki: The loader, unless ``grub``.
    """

    name: str
    command_line: str
    firmware: Firmware
    secure_boot: SecureBoot
    boot_entries: tuple[BootEntry, ...]
    applications: tuple[BootApplication, ...] = ()
    shim: Shim | None = None
    grub: GRUB | None = None
    uki: UKI | None = field(default=None)

    def __post_init__(self) -> None:
        """Refuse what no machine boots."""
        if (self.grub is None) == (self.uki is None):
            raise ValueError("a boot description has either [grub] or [uki]")
        if self.shim is not None and self.grub is None:
            raise ValueError("a boot description with [shim] has [grub]")
        if self.firmware.startup_locality not in _STARTUP_LOCALITIES:
            raise ValueError("startup_locality is 0 or 3")

    def with_command_line(self, command_line: str) -> BootDescription:
        """Return the same machine with another kernel command line."""
        return dataclasses.replace(self, command_line=command_line)

    def with_secure_boot(self, *, enabled: bool) -> BootDescription:
        """Return the same machine with Secure Boot switched on or off."""
        changed = dataclasses.replace(self.secure_boot, enabled=enabled)
        return dataclasses.replace(self, secure_boot=changed)


def load_boot_description(path: Path) -> BootDescription:
    """Read a description from a TOML file.

    Raises:
        MalformedError: The file is no boot description.
        OSError: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedError(f"{path} is not UTF-8") from exc
    return parse_boot_description(text)


def parse_boot_description(text: str) -> BootDescription:
    """Parse a description.

    Raises:
        MalformedError: The text is no boot description; the message names the place.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise MalformedError(f"the boot description is no TOML: {exc}") from exc
    schema = document.pop("schema", None)
    if schema != _SCHEMA:
        raise MalformedError(f"the boot description needs schema = {_SCHEMA}, not {schema!r}")
    return _build(BootDescription, document, "the boot description")


def _build(kind: type[_Table], table: object, where: str) -> _Table:
    if not isinstance(table, dict):
        raise MalformedError(f"{where} must be a table")
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    if unknown := sorted(table.keys() - fields.keys()):
        raise MalformedError(f"{where} has an unknown key {unknown[0]!r}")
    for name, item in fields.items():
        if name not in table and item.default is dataclasses.MISSING:
            raise MalformedError(f"{where} lacks the key {name!r}")
    values = {name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()}
    try:
        return kind(**values)
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc


def _value(kind: object, value: object, where: str) -> object:
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise MalformedError(f"{where} must be an array")
        return tuple(_value(typing.get_args(kind)[0], entry, where) for entry in value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if type(value) is not kind:
        name = kind.__name__ if isinstance(kind, type) else kind
        raise MalformedError(f"{where} must be of type {name}")
    if isinstance(value, int) and value < 0:
        raise MalformedError(f"{where} must not be negative")
    return value
