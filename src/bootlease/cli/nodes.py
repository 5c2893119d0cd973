"""Commands for an operator's acts on a node: labels, re-admission, replacement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.admin import hex_id, with_admin

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient

_JSON: Final = "application/json"

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(members: object) -> None:
    click.echo(json.dumps(members, indent=2, ensure_ascii=False))


def _post(admin: AdminClient, node: str, act: str, body: dict[str, Any]) -> dict[str, Any]:
    return admin.post(f"/v1/admin/nodes/{hex_id(node)}/{act}", json.dumps(body).encode(), _JSON)


@click.command()
@click.argument("node")
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="A label, such as role=build: 1 to 64 of a-z 0-9 . _ = -; may be repeated.",
)
@click.option("--none", "none", is_flag=True, help="Take every label away.")
@_json
@with_admin
def label(
    admin: AdminClient, node: str, *, labels: tuple[str, ...], none: bool, as_json: bool
) -> None:
    """Give NODE these labels, and no others: policy reads them as facts.

    Its lineage ends, so that its next lease is decided with them.
    """
    if none == bool(labels):
        raise click.UsageError("give --label, or --none to take every label away")
    shown = _post(admin, node, "labels", {"labels": list(labels)})
    if as_json:
        _print(shown)
    else:
        click.echo(f"node {shown['node']}: {', '.join(shown['labels']) or 'no label'}")


@click.command()
@click.argument("node")
@click.option("--reason", required=True, help="Why, for the ledger.")
@_json
@with_admin
def readmit(admin: AdminClient, node: str, *, reason: str, as_json: bool) -> None:
    """Let NODE begin anew after its TPM was cleared, or after it was revoked.

    Forgets how far its TPM's counters had come, which refuse a state that was restored or copied:
    find out first why they went back. Its enrolment and its labels stay.
    """
    shown = _post(admin, node, "readmission", {"reason": reason})
    if as_json:
        _print(shown)
    else:
        click.echo(f"node {shown['node']} may begin anew")


@click.command()
@click.argument("old", metavar="OLD_NODE")
@click.option("--by", metavar="NEW_NODE", help="The enrolled node that takes its place.")
@click.option("--join-token", is_flag=True, help="Print a join token for a node to enrol with.")
@click.option(
    "--expires-in",
    type=click.IntRange(1, 30 * 86_400),
    default=86_400,
    show_default=True,
    help="Life of the join token in seconds.",
)
@_json
@with_admin
def replace(
    admin: AdminClient,
    old: str,
    *,
    by: str | None,
    join_token: bool,
    expires_in: int,
    as_json: bool,
) -> None:
    """Let another node take the place of OLD_NODE: a machine with another mainboard or TPM.

    The new node gets the old one's labels, and the old one is revoked: with --by at once, with
    --join-token when a node enrols with the token.
    """
    if (by is None) != join_token:
        raise click.UsageError("give --by NEW_NODE, or --join-token")
    if by is None:
        made = _post(admin, old, "replacement", {"expires_in": expires_in})
        _print(made) if as_json else click.echo(made["join_token"])
        return
    shown = _post(admin, old, "replacement", {"by": hex_id(by)})
    if as_json:
        _print(shown)
    else:
        click.echo(
            f"node {shown['node']} has taken the place of {old}, which is revoked:"
            f" {', '.join(shown['labels']) or 'no label'}"
        )
