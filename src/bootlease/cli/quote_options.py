"""Options of ``bootlease quote``: files, hex, PCR selections, parents."""

from __future__ import annotations

import binascii
import string
from pathlib import Path
from typing import Final

import click

from bootlease.cli.pcr_selection import Selection
from bootlease.model import HashAlg
from bootlease.tpm import TPMRH

_MAX_FILE: Final = 1 << 20
_HANDLES: Final = {handle.name.lower(): handle for handle in TPMRH}
_HANDLE_DIGITS: Final = 8

Required = dict[HashAlg, frozenset[int]]


class Content(click.ParamType[bytes]):
    """The bytes of a file, bounded; ``-`` is standard input."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Read the file."""
        try:
            with click.open_file(str(value), "rb") as file:
                data: bytes = file.read(_MAX_FILE + 1)
        except OSError as exc:
            self.fail(f"{value}: {exc.strerror}", param, ctx)
        if len(data) > _MAX_FILE:
            self.fail(f"{value} is longer than {_MAX_FILE} bytes", param, ctx)
        return data


class Hex(click.ParamType[bytes]):
    """Bytes in hex, in whole pairs of digits."""

    name = "hex"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Decode the digits."""
        try:
            return binascii.unhexlify(str(value))
        except (binascii.Error, ValueError):
            self.fail(f"{value!r} is not an even number of hex digits", param, ctx)


class RequiredPCRs(click.ParamType[Required]):
    """PCRs that must be quoted; written as everywhere."""

    name = "bank:pcrs"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Required:
        """Read banks and ranges."""
        selection = Selection().convert(value, param, ctx)
        return {bank: frozenset(pcrs) for bank, pcrs in selection.items()}


class Parent(click.ParamType[TPMRH | bytes]):
    """A hierarchy by name or handle, or a file with a qualified name."""

    name = "parent"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> TPMRH | bytes:
        """Find the hierarchy, or read the file."""
        text = str(value)
        if text in _HANDLES:
            return _HANDLES[text]
        if len(text) == _HANDLE_DIGITS and set(text) <= set(string.hexdigits):
            try:
                return TPMRH(int(text, 16))
            except ValueError:
                self.fail(f"{text} is not the handle of a hierarchy", param, ctx)
        path = Path(text)
        if not path.is_file():
            self.fail(f"{value!r} is neither a hierarchy nor a file", param, ctx)
        with path.open("rb") as file:
            name = file.read(_MAX_FILE)
        sizes = {alg.to_bytes(2, "big"): 2 + alg.size for alg in HashAlg}
        if sizes.get(name[:2]) != len(name):
            self.fail(f"{value!r} does not hold a qualified name", param, ctx)
        return name
