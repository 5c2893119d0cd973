"""``bootlease verifier``: making, running and asking a verifier."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import click

from bootlease.cli.admin import add_root, decision, join_token, node, nodes
from bootlease.errors import TransportError
from bootlease.store import SQLStore
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.access import JOIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.bundle import bundle_members
from bootlease.verifier.datadir import DATABASE, load_signing_key, read_settings
from bootlease.verifier.server import ServeOptions, parse_listen, serve
from bootlease.verifier.service import SystemClock
from bootlease.verifier.setup import Founding, found

_DEFAULT_LISTEN: Final = "127.0.0.1:8400"
_MAX_FILE: Final = 16 * 1024 * 1024

_data = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The verifier's folder.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        TransportError: It is too long.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise TransportError(f"{path} is longer than {_MAX_FILE} bytes")
    return data


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
    type=_existing,
    help="CA certificates, PEM or DER, that vouch for TPMs; may be repeated.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    type=_existing,
    help="Reference file to register; may be repeated.",
)
@_json
def init(
    *,
    data: Path,
    issuer: str,
    policy: Path,
    roots: tuple[Path, ...],
    references: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Make a verifier: folder, signing key, database, first policy.

    Prints the admin credential, once: only its hash is kept.
    """
    founding = Founding(
        issuer=issuer,
        policy=read_file(policy),
        roots=tuple(map(read_file, roots)),
        references=tuple(map(read_file, references)),
    )
    credential = found(data, founding, SQLStore.open)
    click.echo(f"bootlease: made a verifier in {data}", err=True)
    if as_json:
        click.echo(
            json.dumps({"data": str(data), "issuer": issuer, "admin_credential": credential})
        )
        return
    click.echo(credential)
    click.echo(
        "bootlease: above is the admin credential; it is not shown again, keep it in a file with"
        " mode 0600",
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
def serve_command(
    *, data: Path, listen: str, tls_cert: Path | None, tls_key: Path | None, unsafe_plain_http: bool
) -> None:
    """Serve until SIGTERM or Ctrl-C; logs are JSON lines on standard error."""
    serve(
        ServeOptions(
            data=data,
            listen=parse_listen(listen),
            tls_cert=tls_cert,
            tls_key=tls_key,
            unsafe_plain_http=unsafe_plain_http,
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
def bundle(
    *, data: Path, output: Path, tls_root: Path | None, join_token: bool, expires_in: int
) -> None:
    """Write the join bundle: what a node must know of this verifier, and trusts."""
    settings = read_settings(data)
    keys = KeySet((VerificationKey(load_signing_key(data).public),))
    members = bundle_members(
        settings.issuer,
        keys,
        tls_root=None if tls_root is None else read_file(tls_root).decode("ascii", "replace"),
        join_token=_make_join_token(data, expires_in) if join_token else None,
    )
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


def _make_join_token(data: Path, expires_in: int) -> str:
    token = new_secret(JOIN_PREFIX)
    now = SystemClock().now()

    async def keep(store: SQLStore) -> None:
        await store.add_join_token(secret_digest(token), now=now, expires_at=now + expires_in)

    store = SQLStore.open(data / DATABASE)
    try:
        asyncio.run(keep(store))
    finally:
        store.close()
    return token


for command in (nodes, node, decision, add_root, join_token):
    verifier.add_command(command)
