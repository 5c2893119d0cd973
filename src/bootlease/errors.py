"""Errors by whose fault they are.

``MalformedError``: their bytes. ``VerificationError``: their proof.
``TransportError``: the world. ``ValueError`` and ``RuntimeError``: our misuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootlease.model import Finding


class BootleaseError(Exception):
    """Any error this package raises on purpose."""


class MalformedError(BootleaseError):
    """Bytes or text that do not have the form their specification demands.

    Parsers raise this and nothing else, whatever the input.

    Attributes:
        offset: Byte offset of the trouble within the parsed structure, if known.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset


class VerificationError(BootleaseError):
    """A well-formed proof that does not prove what it must.

    Attributes:
        findings: Every check that failed, at least one.
    """

    def __init__(self, *findings: Finding) -> None:
        if not findings:
            raise ValueError("a VerificationError needs at least one finding")
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings


class TransportError(BootleaseError):
    """A peer, device or file that could not be reached or answered out of turn."""
