"""``bootlease verifier add-root`` and ``roots``: who vouches for TPMs to a running verifier.

What reads certificates is imported when a command runs: help needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli.admin import tell_proposed, with_admin
from bootlease.cli.files import naming
from bootlease.cli.utc import utc

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient
    from bootlease.cli.trust_files import TrustFiles

_BATCH: Final = 64
"""Certificates in one upload: each is one line of the ledger, written before the answer."""

_existing = click.Path(path_type=Path, exists=True)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(name="add-root")
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "--vendor",
    "vendors",
    multiple=True,
    help="From a folder or cabinet, only what is in a folder of this name; may be repeated.",
)
@_json
@with_admin
def add_root(
    admin: AdminClient, paths: tuple[Path, ...], vendors: tuple[str, ...], *, as_json: bool
) -> None:
    """Trust the CA certificates in PATH... to vouch for TPMs, and know what they revoked.

    PATH is a PEM or DER file, a folder of them, or a cabinet such as Microsoft's TrustedTpm.cab,
    whose signature you have verified. Revocation lists (CRLs) are taken from the same places; each
    must be signed by a CA that is trusted.
    """
    from bootlease.cli.trust_files import read_trust  # noqa: PLC0415 - heavy

    found = read_trust(paths, vendors)
    for note in found.notes():
        click.echo(note, err=True)
    added: list[str] = []
    proposed = False
    with naming(", ".join(map(str, paths))[:200]):
        for batch in _batches(found):
            answer = admin.post("/v1/admin/roots", batch, "application/x-pem-file", "roots")
            if tell_proposed(answer, as_json=as_json):
                proposed = True
            else:
                added += answer["roots"]
    if proposed:
        return
    if as_json:
        click.echo(json.dumps({"roots": added, "skipped": found.skipped}, indent=2))
        return
    click.echo(
        f"trusted: {len(found.certificates)} CA certificates, {len(found.lists)} revocation lists"
    )
    for fingerprint in added:
        click.echo(f"  {fingerprint}")


@click.command()
@_json
@with_admin
def roots(admin: AdminClient, *, as_json: bool) -> None:
    """List the CAs that vouch for TPMs, and the revocation lists at hand."""
    listed = admin.get("/v1/admin/roots", "roots", "certificates", "revocation_lists")
    if as_json:
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for each in listed["certificates"]:
        click.echo(f"{each['fingerprint']}  until {utc(each['not_after'])}  {each['subject']}")
    for each in listed["revocation_lists"]:
        click.echo(
            f"{each['fingerprint']}  revoked {each['revoked']}, next list due"
            f" {utc(each['next_update'])}  {each['issuer']}"
        )


def _batches(found: TrustFiles) -> Iterator[bytes]:
    from bootlease.cli.trust_files import pem_bundle  # noqa: PLC0415 - heavy

    # All certificates before any list: a list's CA must be trusted when it comes.
    for start in range(0, len(found.certificates), _BATCH):
        yield pem_bundle(found.certificates[start : start + _BATCH])
    for each in found.lists:
        yield pem_bundle([each])
