"""The one way in which PCRs are written on the command line.

``0-9,14`` are PCRs: indices and ranges, each index in its one decimal spelling. ``sha256:0-7,14``
are PCRs of a bank; several banks are joined with ``+``.
"""

from __future__ import annotations

from typing import Final

import click

from bootlease.model import PCR_COUNT, HashAlg

_MAX_DIGITS: Final = 2


def pcr_index(text: str) -> int | None:
    """Read a PCR index in its one decimal spelling."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS:
        return None
    index = int(text)
    return index if index < PCR_COUNT and str(index) == text else None


def parse_pcrs(text: str) -> tuple[int, ...]:
    """Read ``0-9,14``; ascending, each once.

    Raises:
        ValueError: It is written otherwise.
    """
    return tuple(sorted({pcr for part in text.split(",") for pcr in _range(part)}))


def parse_selection(text: str) -> dict[HashAlg, tuple[int, ...]]:
    """Read ``sha256:0-7,14`` or ``sha1:0+sha256:0-7``, in the order written.

    Raises:
        ValueError: It is written otherwise, or names a bank twice.
    """
    selection: dict[HashAlg, tuple[int, ...]] = {}
    for part in text.split("+"):
        label, _, pcrs = part.partition(":")
        bank = HashAlg.from_label(label)
        if bank in selection:
            raise ValueError(f"bank {label} is given twice")
        selection[bank] = parse_pcrs(pcrs)
    return selection


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    start, end = pcr_index(first), pcr_index(last if dash else first)
    if start is None or end is None:
        raise ValueError(
            f"{text!r} is not a PCR or range of PCRs from 0 to {PCR_COUNT - 1}, such as 0-9,14"
        )
    if end < start:
        raise ValueError(f"the range {text!r} is empty")
    return range(start, end + 1)


class PCRList(click.ParamType[tuple[int, ...]]):
    """PCR indices as ``0-9,14``."""

    name = "pcrs"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read indices and ranges."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_pcrs(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Selection(click.ParamType[dict[HashAlg, tuple[int, ...]]]):
    """``sha256:0-7,14``; several banks are joined with ``+``."""

    name = "bank:pcrs"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[HashAlg, tuple[int, ...]]:
        """Read banks and ranges."""
        if isinstance(value, dict):
            return value
        try:
            return parse_selection(str(value))
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)
