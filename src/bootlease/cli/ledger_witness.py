"""``bootlease ledger witness``: make and run a witness.

What serves and signs is imported when a command runs: help needs none of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from bootlease.cli.trust_options import read_vkey
from bootlease.errors import MalformedError

_DEFAULT_BIND: Final = "127.0.0.1:8410"

_data = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The witness's folder.",
)
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def witness() -> None:
    """Make and run a witness, which cosigns logs that only grow (C2SP tlog-witness)."""


@witness.command()
@_data
@click.option("--name", required=True, help="Name to cosign under, such as witness.example/w1.")
@click.option("--ml-dsa-44", is_flag=True, help="Cosign with an ML-DSA-44 key as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(*, data: Path, name: str, ml_dsa_44: bool, as_json: bool) -> None:
    """Make a witness and print its verifier keys, one a line.

    Never put its folder back from a backup: it would cosign a second history of what it saw since.
    """
    from bootlease.witness import make_witness  # noqa: PLC0415 - what help does without

    vkeys = make_witness(data, name, ml_dsa_44=ml_dsa_44)
    click.echo(f"bootlease: made a witness in {data}", err=True)
    if as_json:
        click.echo(json.dumps({"data": str(data), "name": name, "vkeys": vkeys}))
        return
    for vkey in vkeys:
        click.echo(vkey)


@witness.command()
@_data
@click.option(
    "--log",
    "logs",
    required=True,
    multiple=True,
    help="Key of a log to cosign (name+id+base64), or a file with it or a join bundle; may be"
    " repeated.",
)
@click.option(
    "--bind", default=_DEFAULT_BIND, show_default=True, help="HOST:PORT (port 0 picks a free one)."
)
@click.option("--tls-cert", type=_existing, help="PEM certificate chain.")
@click.option("--tls-key", type=_existing, help="Its PEM private key.")
@click.option(
    "--unsafe-plain-http",
    is_flag=True,
    help="Serve plain HTTP where other machines reach it, behind a proxy that speaks TLS.",
)
def serve(
    *,
    data: Path,
    logs: tuple[str, ...],
    bind: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    unsafe_plain_http: bool,
) -> None:
    """Cosign until SIGTERM or Ctrl-C: POST /add-checkpoint, and GET /logs for what was cosigned."""
    from bootlease.verifier.server import parse_listen  # noqa: PLC0415 - what help does without
    from bootlease.verifier.tls import check_pair  # noqa: PLC0415
    from bootlease.witness import Witness, open_witness  # noqa: PLC0415
    from bootlease.witness.app import build_app  # noqa: PLC0415
    from bootlease.witness.serving import Bind, serve_app  # noqa: PLC0415

    listen = parse_listen(bind, "--bind")
    if listen.path is not None:
        raise MalformedError("--bind takes HOST:PORT; a witness is reached over the network")
    if (tls_cert is None) != (tls_key is None):
        raise MalformedError("--tls-cert and --tls-key go together")
    if tls_cert is None and not listen.loopback and not unsafe_plain_http:
        raise MalformedError(
            f"refusing to serve plain HTTP on {listen.host}, which other machines reach: give"
            " --tls-cert and --tls-key, or --unsafe-plain-http to serve it all the same"
        )
    if tls_cert is not None and tls_key is not None:
        check_pair(tls_cert, tls_key)
    keys = [read_vkey(log, "--log") for log in logs]
    with open_witness(data) as (state, cosigners):
        app = build_app(Witness(state, keys, cosigners))
        serve_app(app, Bind(listen.host, listen.port, tls_cert, tls_key))
