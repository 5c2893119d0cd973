"""``bootlease reference export`` and ``import``: sets as CoRIM, signed or not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bootlease.cli.files import name_of, naming, read_file
from bootlease.cli.reference_files import (
    json_option,
    output_option,
    read_any_reference,
    summary,
    write_new,
    write_reference,
)
from bootlease.cli.reference_options import Bank
from bootlease.errors import MalformedError
from bootlease.eventlog.describe import printable
from bootlease.model import HashAlg
from bootlease.reference import AnyReference
from bootlease.reference.corim import MAX_CORIM, CoRIMRegisters, encode_corim, parse_corim
from bootlease.reference.corimsign import is_signed, parse_signed_corim, sign_corim, verify_corim
from bootlease.token.keys import PrivateKeySigner, VerificationKey

_existing = click.Path(path_type=Path, exists=True, dir_okay=False)
_file = click.argument("file", type=click.File("rb", lazy=True))
_SIGNED_FRAME = 64 * 1024


@click.command()
@_file
@click.option("--sign-with", "key_file", type=_existing, help="PEM private key to sign with.")
@click.option("--signer", help="Who signs, as people call them; needed with --sign-with.")
@output_option
@json_option
def export(
    file: IO[bytes],
    *,
    key_file: Path | None,
    signer: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write the reference set in FILE as a CoRIM, signed with --sign-with.

    Everything the set says is in it: PCR values and digests of files as integrity registers, the
    rest under this project's profile.
    """
    if (key_file is None) != (signer is None):
        raise click.UsageError("--sign-with and --signer belong together")
    if as_json and output is None:
        raise click.UsageError("--json describes the file that -o names")
    reference = read_any_reference(file)
    data = encode_corim(reference)
    if key_file is not None and signer is not None:
        data = _signed(data, key_file, signer)
    write_new(data, output)
    if output is not None and as_json:
        signed = {} if signer is None else {"signer": signer}
        click.echo(json.dumps({**summary(reference), **signed, "bytes": len(data)}, indent=2))
    elif output is not None:
        word = "unsigned" if signer is None else f"signed by {signer}"
        click.echo(f"{output}: {reference.label} as CoRIM, {word}, {len(data)} bytes", err=True)


def _signed(data: bytes, key_file: Path, name: str) -> bytes:
    try:
        key = load_pem_private_key(read_file(key_file), password=None)
        # Kinds that no signer takes are refused by it.
        signer = PrivateKeySigner(key)  # type: ignore[arg-type]
        VerificationKey(signer.public)
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as exc:
        raise MalformedError(
            f"{key_file} is no private key to sign with (P-256, P-384 or Ed25519, PEM, without a"
            f" passphrase): {exc}"
        ) from exc
    try:
        return sign_corim(data, signer, name=name)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="'--signer'") from exc


@click.command(name="import")
@_file
@click.option(
    "--key", "key_file", type=_existing, help="PEM public key of whoever must have signed."
)
@click.option(
    "--unsafe-unsigned",
    is_flag=True,
    help="Read a CoRIM that nobody signed: whoever could change the file says what is good.",
)
@click.option("--name", help="The set's name, for a CoRIM that is not of this project's profile.")
@click.option("--version", help="The set's version, likewise.")
@click.option("--bank", type=Bank(), help="Which bank to take of a CoRIM with several.")
@output_option
@json_option
def import_(
    file: IO[bytes],
    *,
    key_file: Path | None,
    unsafe_unsigned: bool,
    name: str | None,
    version: str | None,
    bank: HashAlg | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a reference set of the CoRIM in FILE.

    A signed CoRIM is verified with --key. A CoRIM without a profile that says nothing but PCR
    values can be imported under a --name and --version; whatever is not understood is refused.
    """
    if (key_file is None) == (not unsafe_unsigned):
        raise click.UsageError("give --key for a signed CoRIM, or --unsafe-unsigned for another")
    if as_json and output is None:
        raise click.UsageError("--json describes the file that -o names")
    data = file.read(MAX_CORIM + _SIGNED_FRAME + 1)
    with naming(name_of(file)):
        if key_file is not None:
            data = _verified(data, key_file)
        elif is_signed(data):
            raise MalformedError("it is signed: give the signer's public key with --key")
        with naming("not a CoRIM that can be read"):
            found = parse_corim(data)
        reference = _named(found, name, version, bank)
    write_reference(reference, output, as_json=as_json)


def _verified(data: bytes, key_file: Path) -> bytes:
    with naming(f"--key {key_file}"):
        key = VerificationKey.from_pem(read_file(key_file))
    if not is_signed(data):
        raise MalformedError("it is not signed, although --key says who must have signed it")
    signed = parse_signed_corim(data)
    payload = verify_corim(signed, key, now=int(time.time()))
    click.echo(f"signature verified; the signer calls itself {printable(signed.signer)}", err=True)
    return payload


def _named(
    found: AnyReference | CoRIMRegisters,
    name: str | None,
    version: str | None,
    bank: HashAlg | None,
) -> AnyReference:
    if not isinstance(found, CoRIMRegisters):
        if (name, version, bank) != (None, None, None):
            raise click.UsageError("it brings name, version and bank of its own; leave them out")
        return found
    if name is None or version is None:
        raise click.UsageError("it has no name of its own: give --name and --version")
    if bank is None and len(found.values) > 1:
        labels = ", ".join(each.label for each in found.values)
        raise click.UsageError(f"it has values of several banks ({labels}): choose one with --bank")
    chosen = next(iter(found.values)) if bank is None else bank
    if left := [each.label for each in found.values if each is not chosen]:
        click.echo(f"note: values of bank {', '.join(left)} are left out", err=True)
    return found.as_reference(name=name, version=version, bank=chosen)
