"""``bootlease verifier``: making, running and asking a verifier.

What serves, stores and signs is imported when a command runs: help needs none of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from bootlease.cli.admin import decision, join_token, node, nodes
from bootlease.cli.keeping import backup, prune, restore
from bootlease.cli.nodes import label, readmit, replace
from bootlease.cli.operators import credential, two_person
from bootlease.cli.revoke import rotate_key
from bootlease.cli.roots import add_root
from bootlease.cli.roots import roots as list_roots
from bootlease.cli.streams import stream

_DEFAULT_LISTEN: Final = "127.0.0.1:8400"

_data = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The verifier's folder.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="verifier")
def verifier() -> None:
    """Make, run and ask a verifier."""


@verifier.command()
@_data
@click.option("--issuer", required=True, help="The verifier's URL, as tokens will name it.")
@click.option("--policy", required=True, type=_existing, help="First policy, a TOML file.")
@click.option(
    "--ek-root",
    "roots",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="CA certificates that vouch for TPMs: PEM, DER, a folder, a cabinet; may be repeated.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    type=_existing,
    help="Reference file to register; may be repeated.",
)
@click.option(
    "--credential-file",
    type=click.Path(path_type=Path),
    help="New file, mode 0600, for the admin credential, which is then not printed.",
)
@_json
def init(
    *,
    data: Path,
    issuer: str,
    policy: Path,
    roots: tuple[Path, ...],
    references: tuple[Path, ...],
    credential_file: Path | None,
    as_json: bool,
) -> None:
    """Make a verifier: folder, signing key, database, first policy.

    Prints the admin credential, once: only its hash is kept.
    """
    from bootlease.cli.founding import make_verifier  # noqa: PLC0415 - what help does without

    credential, notes = make_verifier(
        data, issuer, policy, roots, references, credential_file=credential_file
    )
    click.echo(f"bootlease: made a verifier in {data}", err=True)
    for note in notes:
        click.echo(note, err=True)
    made = {"data": str(data), "issuer": issuer}
    if credential_file is not None:
        made["credential_file"] = str(credential_file)
        click.echo(f"bootlease: the admin credential is in {credential_file}", err=True)
    else:
        made["admin_credential"] = credential
    if as_json:
        click.echo(json.dumps(made))
    elif credential_file is None:
        click.echo(credential)
        click.echo(
            "bootlease: the admin credential was printed once on standard output; it is not shown"
            " again, keep it in a file with mode 0600",
            err=True,
        )


@verifier.command(name="serve")
@_data
@click.option(
    "--listen",
    default=_DEFAULT_LISTEN,
    show_default=True,
    help="HOST:PORT (port 0 picks a free one), [IPV6]:PORT or unix:PATH.",
)
@click.option("--tls-cert", type=_existing, help="PEM certificate chain.")
@click.option("--tls-key", type=_existing, help="Its PEM private key.")
@click.option(
    "--unsafe-plain-http",
    is_flag=True,
    help="Serve plain HTTP where other machines reach it, behind a proxy that speaks TLS.",
)
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    metavar="VKEY=URL",
    help="Have checkpoints cosigned by this witness; may be repeated.",
)
@click.option(
    "--require-witness",
    is_flag=True,
    help="Do not start while a witness cannot be reached; without it, say so and keep trying.",
)
@click.option(
    "--grants-per-life",
    type=click.IntRange(1),
    metavar="N",
    help="Grants to one node within the life of a lease; then it waits.  [default: 32]",
)
def serve_command(
    *,
    data: Path,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    unsafe_plain_http: bool,
    witnesses: tuple[str, ...],
    require_witness: bool,
    grants_per_life: int | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; logs are JSON lines on standard error.

    Refuses to start where a witness has seen more of the ledger than the folder holds.
    """
    from bootlease.store import SQLStore  # noqa: PLC0415 - as above
    from bootlease.verifier.limits import DEFAULT_LIMITS  # noqa: PLC0415 - as above
    from bootlease.verifier.server import ServeOptions, parse_listen, serve  # noqa: PLC0415 - as above
    from bootlease.verifier.witness_client import parse_witness  # noqa: PLC0415 - as above

    if require_witness and not witnesses:
        raise click.UsageError("--require-witness needs a --witness")
    limits = DEFAULT_LIMITS
    if grants_per_life is not None:
        limits = dataclasses.replace(limits, grants_per_life=grants_per_life)
    serve(
        ServeOptions(
            data=data,
            listen=parse_listen(listen),
            tls_cert=tls_cert,
            tls_key=tls_key,
            unsafe_plain_http=unsafe_plain_http,
            witnesses=tuple(map(parse_witness, witnesses)),
            require_witness=require_witness,
            limits=limits,
        ),
        SQLStore.open,
    )


@verifier.command()
@_data
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help='File, "-" for stdout.'
)
@click.option(
    "--tls-root",
    type=_existing,
    help="PEM root that the verifier's TLS certificate ends in; without it nodes use their own.",
)
@click.option("--join-token", is_flag=True, help="Put a fresh join token in.")
@click.option(
    "--expires-in",
    type=click.IntRange(1, 30 * 86_400),
    default=86_400,
    show_default=True,
    help="Life of the join token in seconds.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="With --join-token: a label for the node that enrols with it, such as role=build.",
)
def bundle(
    *,
    data: Path,
    output: Path,
    tls_root: Path | None,
    join_token: bool,
    expires_in: int,
    labels: tuple[str, ...],
) -> None:
    """Write the join bundle: what a node must know of this verifier, and trusts."""
    from bootlease.cli.join_bundle import make_bundle  # noqa: PLC0415 - what help does without

    source = click.get_current_context().get_parameter_source("expires_in")
    if source is not ParameterSource.DEFAULT and not join_token:
        raise click.UsageError("--expires-in is the life of a join token: give --join-token too")
    if labels and not join_token:
        raise click.UsageError("--label is what a join token gives: give --join-token too")
    join_for = expires_in if join_token else None
    members = make_bundle(data, tls_root, join_for=join_for, labels=labels)
    text = json.dumps(members, indent=2) + "\n"
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    # A bundle may hold a secret, so it is never readable by others, not even for a moment.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(output, flags, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
    click.echo(f"bootlease: wrote {output}", err=True)


for command in (
    *(nodes, node, decision, add_root, list_roots, join_token, backup, restore, prune),
    *(label, readmit, replace, credential, two_person, stream),
    rotate_key,
):
    verifier.add_command(command)
