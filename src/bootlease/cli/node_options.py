"""What the commands of ``bootlease node`` take: parameter types and shared options."""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import stat
from pathlib import Path
from typing import Final

import click

from bootlease.errors import MalformedError, TransportError
from bootlease.node.bundle import MAX_BUNDLE, JoinBundle, parse_bundle
from bootlease.node.files import read_bounded
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm

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


bundle_option = click.option(
    "--bundle", type=Bundle(), required=True, help="Join bundle of the verifier."
)


def _known_tcti(ctx: click.Context, param: click.Parameter, value: str) -> str:
    kind = value.partition(":")[0]
    # Without that library none is installed; whoever opens the TPM says what to install.
    if not _has_library(kind) and _has_library("device"):
        raise click.BadParameter(
            f"unknown TCTI {value!r}: no library of tpm2-tss serves it;"
            " such as device:/dev/tpmrm0, swtpm:path=/run/tpm",
            ctx,
            param,
        )
    return value


def _has_library(kind: str) -> bool:
    """Tell whether tpm2-tss's loader would find a library (Tss2_TctiLdr_Initialize(3))."""
    names = (kind, f"libtss2-tcti-{kind}.so.0", f"libtss2-tcti-{kind}.so")
    for name in names:
        if ".so" in name:
            with contextlib.suppress(OSError):
                ctypes.CDLL(name)
                return True
    return False


def _log_to_read(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Return where a log is, once it was seen there."""
    if value is None:
        return None
    try:
        found = value.stat()
    except FileNotFoundError as exc:
        raise click.BadParameter(f"File {str(value)!r} does not exist.", ctx, param) from exc
    except OSError as exc:
        raise click.BadParameter(f"cannot read {value}: {exc.strerror}", ctx, param) from exc
    if stat.S_ISDIR(found.st_mode):
        raise click.BadParameter(f"{value} is a directory", ctx, param)
    return value


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run as a service, as this TOML file says.",
)
tcti_option = click.option(
    "--tcti",
    callback=_known_tcti,
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
    type=click.Path(path_type=Path),
    callback=_log_to_read,
    help="Event log to present; by default the kernel's.",
)
ima_option = click.option(
    "--ima-list",
    "ima_list",
    type=click.Path(path_type=Path),
    callback=_log_to_read,
    help="IMA list to present where the policy looks at it; by default the kernel's.",
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


def check_transport(bundle: JoinBundle, *, allowed: bool) -> None:
    """Demand TLS to a verifier over a network, unless it is allowed without."""
    if bundle.plain_and_remote and not allowed:
        raise click.UsageError(
            f"the verifier {bundle.issuer} is reached over a network without TLS;"
            " --unsafe-plain-http allows it"
        )
