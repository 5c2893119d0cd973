"""The platform's firmware: how measurement began and what it measured of itself.

Specifications: TCG PFP 1.06 §3.3.4.1 (PCR 0), §3.3.4.2 (PCR 1), §10.4.1 (event types), §10.4.5.3
(StartupLocality).

Digests of code and tables are over bytes that no log holds. What stands beside them describes them
and is unverified; only where the digest is over the text itself, as for a version, it is a fact.
Not handled: SPDM measurements of devices, which stay digests.
"""

from __future__ import annotations

from typing import Final

from bootlease.bootstate.pcrs import BOOT_MANAGER_PCR, CONFIGURATION_PCR, FIRMWARE_PCR
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.values import Firmware, FirmwareComponent
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import Event, EventType, describe
from bootlease.eventlog.bodies import text_of
from bootlease.eventlog.replay import pcr0_locality

_MAX_VERSION: Final = 256
_VERSION: Final = int(EventType.EV_S_CRTM_VERSION)
_HCRTM: Final = int(EventType.EV_EFI_HCRTM_EVENT)
_OMITS: Final = int(EventType.EV_OMIT_BOOT_DEVICE_EVENTS)
_NO_COMPONENTS: Final = frozenset(
    {
        int(EventType.EV_SEPARATOR),
        int(EventType.EV_EFI_VARIABLE_BOOT),
        int(EventType.EV_EFI_VARIABLE_BOOT2),
        int(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG),
        int(EventType.EV_EFI_VARIABLE_AUTHORITY),
    }
)


def firmware(view: AttestedLog) -> Firmware:
    """Return what PCR 0 and 1 prove of the firmware, as far as they are attested."""
    known = view.attests(FIRMWARE_PCR) and not view.is_ccel
    crtm = view.events(FIRMWARE_PCR)
    components = tuple(
        _component(view, event)
        for pcr in (FIRMWARE_PCR, CONFIGURATION_PCR)
        for event in view.events(pcr)
        if event.type not in _NO_COMPONENTS
    )
    version = next(
        (each.text for each in components if each.type == _VERSION and each.text),
        None,
    )
    first_is_hcrtm = bool(crtm) and crtm[0].type == _HCRTM
    return Firmware(
        version=version,
        startup_locality=pcr0_locality(view.replayed.log) if known else None,
        hcrtm=_tri(known=known, value=first_is_hcrtm),
        components=components,
        omits_boot_attempts=_tri(
            known=view.attests(BOOT_MANAGER_PCR),
            value=any(event.type == _OMITS for event in view.events(BOOT_MANAGER_PCR)),
        ),
    )


def _tri(*, known: bool, value: bool) -> Tri:
    if not known:
        return Tri.UNKNOWN
    return Tri.ON if value else Tri.OFF


def _component(view: AttestedLog, event: Event) -> FirmwareComponent:
    verified = view.verified(event)
    text = None if verified is None else text_of(verified.data)
    return FirmwareComponent(
        event=event.number,
        pcr=event.pcr,
        type=event.type,
        digest=view.digest(event),
        text=None if text is None else text[:_MAX_VERSION],
        unverified_text=describe(event),
    )
