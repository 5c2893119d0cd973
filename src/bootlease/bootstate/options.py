"""Boot order and boot options, as firmware measured them.

Specifications: UEFI 2.11 §3.1.3 (EFI_LOAD_OPTION), §3.3 (BootOrder, Boot####); TCG PFP 1.06
§3.3.4.2 (PCR 1), §10.4.1 (EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2); EDK II (MeasureVariable:
EV_EFI_VARIABLE_BOOT is over the value alone).

    EFI_LOAD_OPTION  UINT32 attributes, UINT16 filePathListLength, CHAR16 description[],
                     EFI_DEVICE_PATH filePathList[], BYTE optionalData[]
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from bootlease.bootstate.devicepath import read_device_path
from bootlease.bootstate.findings import data_mismatch, keep, malformed_body
from bootlease.bootstate.pcrs import BOOT_CONFIGURATION_PCR, CONFIGURATION_PCR
from bootlease.bootstate.values import BootOption, BootOptions
from bootlease.bootstate.variables import GLOBAL_VARIABLE
from bootlease.bootstate.view import AttestedLog
from bootlease.errors import MalformedError
from bootlease.eventlog import Coverage, Event, EventType
from bootlease.eventlog.bodies import UEFIVariableData, parse_variable_data, utf16_text
from bootlease.model import Finding

"""Where firmware of TCG EFI platform specification 1.2 measures boot options."""

_TYPES: Final = frozenset(
    {int(EventType.EV_EFI_VARIABLE_BOOT), int(EventType.EV_EFI_VARIABLE_BOOT2)}
)
_OPTION_NAME: Final = re.compile(r"(?:Boot|Driver|SysPrep|PlatformRecovery)[0-9A-Fa-f]{4}")
_ORDER_NAME: Final = "BootOrder"
_ACTIVE: Final = 1
_HEAD: Final = struct.Struct("<IH")
_U16: Final = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class LoadOption:
    """EFI_LOAD_OPTION, unverified.

    Attributes:
        active: LOAD_OPTION_ACTIVE.
        description: Title.
        device_path: Device path as text.
        optional_data: What is handed to the program.
    """

    active: bool
    description: str
    device_path: str
    optional_data: bytes


def parse_load_option(value: bytes) -> LoadOption:
    """Parse the value of a ``Boot####`` variable.

    Raises:
        MalformedError: A length exceeds the value, or the title has no end.
    """
    if len(value) < _HEAD.size:
        raise MalformedError("a boot option is truncated")
    attributes, path_length = _HEAD.unpack_from(value)
    end = _HEAD.size
    while (end := value.find(b"\0\0", end)) % 2:
        if end < 0:
            raise MalformedError("the title of a boot option has no end")
        end += 1
    path_start = end + 2
    path_end = path_start + path_length
    if path_end > len(value):
        raise MalformedError("the device path of a boot option ends beyond it")
    return LoadOption(
        active=bool(attributes & _ACTIVE),
        description=utf16_text(value[_HEAD.size : end]),
        device_path=read_device_path(value[path_start:path_end]),
        optional_data=value[path_end:],
    )


def boot_options(view: AttestedLog) -> BootOptions:
    """Return boot order and boot options, as far as PCR 1 (or 5) is attested."""
    order: tuple[int, ...] | None = None
    order_name_verified = False
    options: list[BootOption] = []
    findings: list[Finding] = []
    for event in _events(view):
        read = _read(view, event, findings)
        if read is None:
            continue
        variable, named = read
        try:
            if variable.name == _ORDER_NAME:
                # Two orders would leave the choice to the reader.
                order = _order(variable.data) if order is None else ()
                order_name_verified = named
            elif _OPTION_NAME.fullmatch(variable.name):
                options.append(_option(event, variable, named=named))
        except MalformedError as exc:
            keep(findings, malformed_body(event, str(exc)))
    return BootOptions(order or None, order_name_verified, tuple(options), tuple(findings))


def _events(view: AttestedLog) -> list[Event]:
    pcrs = (CONFIGURATION_PCR, BOOT_CONFIGURATION_PCR)
    return [event for pcr in pcrs for event in view.events(pcr) if event.type in _TYPES]


def _read(
    view: AttestedLog, event: Event, findings: list[Finding]
) -> tuple[UEFIVariableData, bool] | None:
    """Return the variable of an event and whether the digest is over its name too."""
    verified = view.verified(event)
    if verified is None:
        keep(findings, data_mismatch(event))
        return None
    try:
        variable = parse_variable_data(event.unverified_data)
    except MalformedError as exc:
        keep(findings, malformed_body(event, str(exc)))
        return None
    if variable.vendor_guid != GLOBAL_VARIABLE:
        return None
    return variable, verified.coverage is Coverage.WHOLE


def _order(value: bytes) -> tuple[int, ...]:
    if len(value) % _U16.size:
        raise MalformedError("a boot order is no list of 16-bit numbers")
    return tuple(number for (number,) in _U16.iter_unpack(value))


def _option(event: Event, variable: UEFIVariableData, *, named: bool) -> BootOption:
    option = parse_load_option(variable.data)
    return BootOption(
        event=event.number,
        name=variable.name,
        name_verified=named,
        active=option.active,
        description=option.description,
        device_path=option.device_path,
        optional_data=option.optional_data,
    )
