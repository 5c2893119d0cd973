"""Options of ``bootlease reference`` that more than one command has."""

from __future__ import annotations

import click

from bootlease.cli.pcr_selection import PCRList
from bootlease.model import HashAlg


class Match(click.ParamType[tuple[int, ...]]):
    """How PCRs are matched: ``events:4,8`` or ``value``."""

    name = "match"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the option's value."""
        if isinstance(value, tuple):
            return value
        mode, colon, pcrs = str(value).partition(":")
        if mode == "value" and not colon:
            return ()
        if mode != "events" or not pcrs:
            self.fail("write events:4,8 (those PCRs by their events) or value", param, ctx)
        return PCRList().convert(pcrs, param, ctx)


class Bank(click.ParamType[HashAlg]):
    """A PCR bank by name."""

    name = "bank"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> HashAlg:
        """Read the option's value."""
        if isinstance(value, HashAlg):
            return value
        try:
            return HashAlg.from_label(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
