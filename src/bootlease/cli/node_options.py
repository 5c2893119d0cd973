"""What the commands of ``bootlease node`` take: parameter types and shared options."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Final

import click

from bootlease.errors import MalformedError, TransportError
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.node.bundle import MAX_BUNDLE, JoinBundle, parse_bundle
from bootlease.node.files import read_bounded
from bootlease.node.key_kinds import AKAlgorithm, EKAlgorithm

DEFAULT_TCTI: Final = "device:/dev/tpmrm0"
DEFAULT_STATE: Final = "/var/lib/bootlease"
_MAX_NONCE: Final = 64


class Bundle(click.ParamType[JoinBundle]):
    """A join bundle in a file."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> JoinBundle:
        """Read and parse the file."""
        try:
            data = read_bounded(Path(str(value)), "join bundle", at_most=MAX_BUNDLE)
        except TransportError as exc:
            self.fail(str(exc), param, ctx)
        try:
            return parse_bundle(data)
        except MalformedError as exc:
            self.fail(f"{value}: {exc}", param, ctx)


class Nonce(click.ParamType[bytes]):
    """Qualifying data in hex."""

    name = "hex"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Decode the hex digits."""
        try:
            nonce = binascii.unhexlify(str(value))
        except (binascii.Error, ValueError):
            self.fail(f"{value!r} is not an even number of hex digits", param, ctx)
        if not 0 < len(nonce) <= _MAX_NONCE:
            self.fail(f"a nonce has 1 to {_MAX_NONCE} bytes, this one {len(nonce)}", param, ctx)
        return nonce


class Selection(click.ParamType[dict[HashAlg, tuple[int, ...]]]):
    """``sha256:0-7,14``; several banks are joined with ``+``."""

    name = "bank:pcrs"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[HashAlg, tuple[int, ...]]:
        """Read banks and ranges."""
        if isinstance(value, dict):
            return value
        selection: dict[HashAlg, tuple[int, ...]] = {}
        for part in str(value).split("+"):
            label, _, ranges = part.partition(":")
            try:
                bank = HashAlg.from_label(label)
                pcrs = {pcr for text in ranges.split(",") for pcr in _pcr_range(text)}
            except ValueError as exc:
                self.fail(f"{part!r}: {exc}", param, ctx)
            if bank in selection:
                self.fail(f"bank {label} is given twice", param, ctx)
            selection[bank] = tuple(sorted(pcrs))
        return selection


def _pcr_range(text: str) -> range:
    first, dash, last = text.partition("-")
    for end in (first, last or first):
        if not (end.isascii() and end.isdigit()) or len(end) > 2 or int(end) >= PCR_COUNT:  # noqa: PLR2004 - two digits
            raise ValueError(f"{text!r} is not a PCR or range of PCRs from 0 to {PCR_COUNT - 1}")
    if (dash and not last) or int(last or first) < int(first):
        raise ValueError(f"{text!r} is not a range of PCRs")
    return range(int(first), int(last or first) + 1)


bundle_option = click.option(
    "--bundle", type=Bundle(), required=True, help="Join bundle of the verifier."
)
tcti_option = click.option(
    "--tcti",
    default=DEFAULT_TCTI,
    show_default=True,
    help="How tpm2-tss reaches the TPM, for example swtpm:path=/run/tpm.",
)
state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="BOOTLEASE_STATE",
    default=DEFAULT_STATE,
    show_default=True,
    show_envvar=True,
    help="Directory of the agent's memory and status.",
)
ek_option = click.option(
    "--ek-algorithm",
    type=click.Choice([kind.value for kind in EKAlgorithm]),
    help="Endorsement key to enrol; by default the one used before, else the first with a"
    " certificate.",
)
ak_option = click.option(
    "--ak-algorithm",
    type=click.Choice([kind.value for kind in AKAlgorithm]),
    help="Kind of attestation key; by default the one there is, else ecc-p256.",
)
log_option = click.option(
    "--log",
    "log_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Event log to present; by default the kernel's.",
)
plain_option = click.option(
    "--unsafe-plain-http",
    is_flag=True,
    help="Talk to a verifier over a network without TLS: whoever listens sees tokens.",
)


def file_to_write(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Return where a file goes as an absolute path, in a folder that exists."""
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"{value.parent} is not a folder", ctx, param)
    return None if value is None else value.absolute()
