"""``bootlease policy``: check a policy file."""

from __future__ import annotations

import json
from typing import IO

import click

from bootlease.cli.admin import activate
from bootlease.cli.files import naming
from bootlease.policy import Policy, parse_policy
from bootlease.policy.file import MAX_FILE


def read_policy(file: IO[bytes]) -> Policy:
    """Read a policy file; an error names the file."""
    with naming(file.name):
        return parse_policy(file.read(MAX_FILE + 1))


@click.group(name="policy")
def policy() -> None:
    """Check policies: what a node must prove and what it may be granted."""


@policy.command()
@click.argument("file", type=click.File("rb", lazy=True))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: IO[bytes], *, as_json: bool) -> None:
    """Check the policy in FILE ("-" for standard input) and print its digest."""
    loaded = read_policy(file)
    if as_json:
        click.echo(json.dumps({"id": loaded.id, "digest": loaded.digest.hex()}))
        return
    click.echo(f"{loaded.id}: a sound policy, digest {loaded.digest.hex()}")
    unsafe = loaded.enrolment.unsafe_unendorsed_ek
    if unsafe:
        click.echo(f"note: {len(unsafe)} EKs may enrol that no manufacturer vouches for", err=True)


policy.add_command(activate)
