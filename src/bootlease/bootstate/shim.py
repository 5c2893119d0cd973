"""What shim measured of itself: its revocation list, the machine owner's keys, its switches.

Specifications: shim 15.8 ``mok.c`` (which variables are measured into PCR 7, with name and value,
and which into PCR 14, as the value alone under a logged name), ``tpm.c``, SBAT.md (SbatLevel);
Linux 6.1 ``security/integrity/platform_certs/machine_keyring.c`` (MokListTrusted).

In PCR 14 a digest says nothing of the name beside it, and the operating system can extend PCR 14
further. So the machine owner's lists are taken from where shim puts them, the first and second
event, and switches from PCR 7, whose digests cover the name. A name in PCR 14 may only make matters
worse: it can turn validation off here, never on.
Not handled: MokDBState (shim then ignores db), which shim measures nowhere.
"""

from __future__ import annotations

import re
from typing import Final

from bootlease.bootstate.keyfacts import SBATLevel, ShimState, ShimVariable
from bootlease.bootstate.pcrs import SECURE_BOOT_PCR, SHIM_PCR
from bootlease.bootstate.tri import Tri
from bootlease.bootstate.variables import SBAT_NAMES, SHIM_LOCK, read_variable
from bootlease.bootstate.view import AttestedLog
from bootlease.eventlog import Event, EventType
from bootlease.model import Effect, Finding, HashAlg

_AUTHORITY: Final = int(EventType.EV_EFI_VARIABLE_AUTHORITY)
_IPL: Final = int(EventType.EV_IPL)
_LISTS: Final = (b"MokList", b"MokListX")
_NAMES: Final = frozenset({*_LISTS, b"MokSBState", b"MokListTrusted", b"MokPolicy", b"SbatLevel"})
_SWITCHES: Final = frozenset({"MokSBState", "MokListTrusted"})
_SWITCH_VALUES: Final = (b"\x01", b"\x00")
_MAX_LEVEL: Final = 4096
_LINE: Final = re.compile(r"([^,]{1,64}),([0-9]{1,10})(?:,([^,]{0,64}))?")

_UNKNOWN: Final = ShimState(
    present=Tri.UNKNOWN,
    sbat_level=None,
    mok_list=None,
    mok_list_x=None,
    mok_list_trusted=Tri.UNKNOWN,
    validation_disabled=Tri.UNKNOWN,
    variables=(),
    findings=(),
)


def shim_state(view: AttestedLog) -> ShimState:
    """Return what PCR 7 and 14 prove of shim, as far as they are attested."""
    proven, marked = _proven(view)
    named = tuple(_named(view))
    if not proven and not named and not marked:
        return _UNKNOWN
    findings: list[Finding] = []
    level = _level(proven, findings)
    mok_list, mok_list_x = _lists(view, named)
    return ShimState(
        present=Tri.ON,
        sbat_level=level,
        mok_list=mok_list,
        mok_list_x=mok_list_x,
        mok_list_trusted=_switch(view, "MokListTrusted", proven, named, any_value=True),
        validation_disabled=_switch(view, "MokSBState", proven, named),
        variables=proven + named,
        findings=tuple(findings),
    )


def parse_sbat_level(value: bytes) -> SBATLevel | None:
    """Return the revocation list that ``value`` is, ``None`` if it is none.

    The first line is ``sbat,GENERATION,DATE``, the others ``COMPONENT,GENERATION``.
    """
    if len(value) > _MAX_LEVEL or not value.isascii():
        return None
    lines = value.decode().rstrip("\0").splitlines()
    matches = [_LINE.fullmatch(line) for line in lines if line]
    if not matches or any(match is None for match in matches):
        return None
    found = [match for match in matches if match is not None]
    generations = tuple((match[1], int(match[2])) for match in found)
    # A component named twice would leave the choice of generation to the reader.
    if generations[0][0] != "sbat" or len(dict(generations)) != len(generations):
        return None
    return SBATLevel(date=found[0][3] or "", generations=generations)


def _proven(view: AttestedLog) -> tuple[tuple[ShimVariable, ...], bool]:
    """Return shim's variables in PCR 7, whose names are proven, and whether it left a mark.

    A mark is an authority logged as only shim logs it: without an owner, or with fill behind it.
    """
    found: list[ShimVariable] = []
    marked = False
    for event in view.events(SECURE_BOOT_PCR):
        if event.type != _AUTHORITY:
            continue
        variable = read_variable(event, view.bank, view.column)
        if variable is None or variable.authority is None:
            continue
        marked = marked or variable.authority.padded or variable.authority.ownerless
        if variable.namespace == SHIM_LOCK:
            digest = view.digest(event)
            found.append(
                ShimVariable(event.number, event.pcr, variable.name, digest, variable.value)
            )
    return tuple(found), marked


def _named(view: AttestedLog) -> list[ShimVariable]:
    """Return what PCR 14 has under a name of shim's."""
    found: list[ShimVariable] = []
    for event in view.events(SHIM_PCR):
        name = event.unverified_data.rstrip(b"\0")
        if event.type != _IPL or name not in _NAMES:
            continue
        digest, text = view.digest(event), name.decode()
        value = _switch_value(view.bank, digest) if text in _SWITCHES else None
        found.append(ShimVariable(event.number, event.pcr, text, digest, value))
    return found


def _switch_value(bank: HashAlg, digest: bytes) -> bytes | None:
    """Return the value of a switch of one byte by trying both."""
    return next((value for value in _SWITCH_VALUES if bank.digest(value) == digest), None)


def _level(proven: tuple[ShimVariable, ...], findings: list[Finding]) -> SBATLevel | None:
    levels = [each for each in proven if each.name in SBAT_NAMES]
    if not levels:
        return None
    # Later events may be anybody's: shim's own is the first.
    value = levels[0].value
    level = None if value is None else parse_sbat_level(value)
    if level is None or len({each.value for each in levels}) > 1:
        findings.append(
            Finding(
                "boot.shim.sbat-level-unreadable",
                "shim's revocation list SbatLevel is no such list, or was measured twice with"
                " different content.",
                Effect.NOTES,
                pcr=SECURE_BOOT_PCR,
                event=levels[-1].event,
            )
        )
        return None
    return level


def _lists(view: AttestedLog, named: tuple[ShimVariable, ...]) -> tuple[bytes | None, bytes | None]:
    """Return the digests of MokList and MokListX, taken from where shim measures them."""
    shims = [event for event in view.events(SHIM_PCR) if _is_list_or_first(event, view)]
    digests: list[bytes | None] = []
    for position, name in enumerate(_LISTS):
        event = shims[position] if position < len(shims) else None
        named_once = sum(each.name == name.decode() for each in named) == 1
        if event is None or not named_once or event.unverified_data.rstrip(b"\0") != name:
            digests.append(None)
        else:
            digests.append(view.digest(event))
    return digests[0], digests[1]


def _is_list_or_first(event: Event, view: AttestedLog) -> bool:
    """Tell whether an event counts for shim's order.

    In a CCEL, GRUB's events share the register, but they come later.
    """
    return not view.is_ccel or event.unverified_data.rstrip(b"\0") in _NAMES


def _switch(
    view: AttestedLog,
    name: str,
    proven: tuple[ShimVariable, ...],
    named: tuple[ShimVariable, ...],
    *,
    any_value: bool = False,
) -> Tri:
    """Return a switch: on if anything says so, off only on the word of PCR 7.

    Args:
        view: The log.
        name: The variable's name.
        proven: Variables of PCR 7.
        named: Variables that PCR 14 names.
        any_value: Whether the kernel asks only that the variable exists.
    """
    for each in (*proven, *named):
        if each.name == name and (any_value or each.value != b"\0"):
            return Tri.ON
    return Tri.OFF if view.attests(SECURE_BOOT_PCR) else Tri.UNKNOWN
