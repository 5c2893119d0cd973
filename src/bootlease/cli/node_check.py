"""``bootlease node check``: is this configuration one?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from bootlease.cli.node_service import read_bundle, read_config


@click.command()
@click.option(
    "--config",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The agent's configuration, TOML.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path, *, as_json: bool) -> None:
    """Check an agent's configuration, and the join bundle that it names.

    Asks neither TPM nor verifier. Exits with 0 if the agent would start with it, as far as the
    files say, with 2 if not, and with 3 if one of them cannot be read.
    """
    read = read_config(config)
    bundle = read_bundle(read)
    found = {
        "verifier": bundle.issuer,
        "tcti": read.node.tcti,
        "state": str(read.node.state),
        "socket": None if read.api is None else str(read.api.socket),
        "metrics": None if read.metrics is None else str(read.metrics),
        "keep": len(read.keep),
        "workload": len(read.rules.rules),
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name}: {'none' if value is None else value}")
