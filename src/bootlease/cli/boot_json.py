"""What a boot log means, as JSON: the members are the fields of ``bootlease.bootstate``.

Bytes are hex, text of a log is text, an unknown state is ``"unknown"`` and an unknown value null.
Certificates are named by their SHA-256, issuer and subject; their bytes are in the event.
"""

from __future__ import annotations

import dataclasses
import enum
import uuid
from typing import TYPE_CHECKING, Any, Final

from bootlease.bootstate.cmdline import Parameter
from bootlease.bootstate.kernel import CommandLine
from bootlease.bootstate.keyfacts import MeasuredCertificate
from bootlease.bootstate.windows import BitLockerUnlock
from bootlease.model import Finding

if TYPE_CHECKING:
    from bootlease.bootstate.read import BootState

_LEFT_OUT: Final = {
    "SignatureDatabase": frozenset({"signatures"}),
    "Authority": frozenset({"data"}),
}
"""Fields that repeat what others say."""

_TEXTS: Final = {("GRUBString", "text"), ("CommandLine", "text")}
"""Fields that hold a text as bytes; of these, what is no UTF-8 is escaped."""


def boot_state_as_dict(state: BootState) -> dict[str, Any]:
    """Return every aspect of a boot under its name."""
    return _members(state)


def _members(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    kind = type(value).__name__
    left_out = _LEFT_OUT.get(kind, frozenset())
    return {
        field.name: _text(member) if (kind, field.name) in _TEXTS else _plain(member)
        for field in dataclasses.fields(value)
        if field.name not in left_out
        for member in (getattr(value, field.name),)
    }


def _plain(value: Any) -> Any:  # noqa: ANN401, C901 - one branch for each kind of value
    if isinstance(value, Finding):
        return value.as_dict()
    if isinstance(value, MeasuredCertificate):
        return {
            "sha256": value.sha256.hex(),
            "subject": value.subject,
            "issuer": value.issuer,
        }
    if isinstance(value, CommandLine):
        return _members(value) | _reading(value)
    if isinstance(value, Parameter):
        return str(value)
    if isinstance(value, BitLockerUnlock):
        return {"flags": int(value), "names": [flag.name for flag in value]}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return _members(value) if dataclasses.is_dataclass(value) else value


def _reading(line: CommandLine) -> dict[str, Any]:
    return {
        "image": line.image,
        "parameters": [str(each) for each in line.parameters],
        "other_readings": [str(each) for each in line.other_readings],
        "too_long": line.too_long,
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
