"""``bootlease revoke``: ending leases before they expire.

``rotate-key`` belongs into ``bootlease verifier``, which attaches it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.admin import tell_proposed, with_admin
from bootlease.cli.quantities import counted
from bootlease.cli.utc import utc

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient

_PATH: Final = "/v1/admin/revocations"
_JSON: Final = "application/json"
_NOT_COUNTED: Final = ("epoch", "key")
"""Kinds that end leases by a statement's other members than its list."""

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reason = click.option("--reason", required=True, help="Why; goes into the ledger.")
_lift = click.option(
    "--lift",
    is_flag=True,
    help="Take the revocation back; leases that it ended stay ended. Under the two-person rule this"
    " is proposed only.",
)


@click.group()
def revoke() -> None:
    """End leases before they expire, at once and on record.

    Relying parties hear of it through the continuity statement. What was decided before stays as it
    was decided, and replays.
    """


def _send(
    admin: AdminClient, kind: str, subject: str, reason: str, *, as_json: bool, lift: bool = False
) -> None:
    wish: dict[str, Any] = {"kind": kind, "subject": subject, "reason": reason}
    if lift:
        wish["lift"] = True
    done = admin.post(_PATH, json.dumps(wish).encode(), _JSON, "revocations")
    if tell_proposed(done, as_json=as_json):
        return
    if as_json:
        click.echo(json.dumps(done, indent=2, ensure_ascii=False))
        return
    for each in done["revocations"]:
        verb = "revoked" if each["in_force"] else "no longer revoked"
        click.echo(f"{_named(each)} is {verb}")
    if not lift and kind not in _NOT_COUNTED:
        leases, nodes = counted(done["leases"], "lease"), counted(done["nodes"], "node")
        click.echo(f"ended: {leases} of {nodes}")


def _named(revocation: Mapping[str, Any]) -> str:
    kind, subject = revocation["kind"], revocation["subject"]
    return f"everything before epoch {subject}" if kind == "epoch" else f"{kind} {subject}"


@revoke.command()
@click.argument("node_id", metavar="NODE")
@_reason
@_json
@with_admin
def node(admin: AdminClient, node_id: str, *, reason: str, as_json: bool) -> None:
    """Revoke NODE: all its leases end, and it is granted none until it is readmitted."""
    _send(admin, "node", node_id, reason, as_json=as_json)


@revoke.command()
@click.argument("lease_id", metavar="LEASE")
@_reason
@_json
@with_admin
def lease(admin: AdminClient, lease_id: str, *, reason: str, as_json: bool) -> None:
    """Revoke one LEASE, with what was delegated from it; its node may renew all the same.

    LEASE is its id in hex, or as a JWT's jti has it.
    """
    _send(admin, "lease", lease_id, reason, as_json=as_json)


@revoke.command()
@click.argument("root", metavar="ROOT")
@_reason
@_json
@with_admin
def lineage(admin: AdminClient, root: str, *, reason: str, as_json: bool) -> None:
    """Revoke the lineage that began with evidence ROOT; its node must begin anew."""
    _send(admin, "lineage", root, reason, as_json=as_json)


@revoke.command()
@click.argument("reference_set", metavar="REFERENCE")
@_reason
@_lift
@_json
@with_admin
def reference(
    admin: AdminClient, reference_set: str, *, reason: str, lift: bool, as_json: bool
) -> None:
    """Revoke a REFERENCE set by its digest, or every registered version of a name.

    What booted so is refused from now on, and its leases end.
    """
    _send(admin, "reference", reference_set, reason, as_json=as_json, lift=lift)


@revoke.command()
@click.argument("pattern", metavar="FAMILY")
@_reason
@_lift
@_json
@with_admin
def family(admin: AdminClient, pattern: str, *, reason: str, lift: bool, as_json: bool) -> None:
    """Revoke a FAMILY of TPMs.

    VENDOR/MODEL/VERSION as in a policy's refuse_firmware, or root:SHA-256 for all that one root
    vouches for.
    """
    _send(admin, "family", pattern, reason, as_json=as_json, lift=lift)


@revoke.command()
@click.argument("number", metavar="EPOCH", type=click.IntRange(1))
@_reason
@_json
@with_admin
def epoch(admin: AdminClient, number: int, *, reason: str, as_json: bool) -> None:
    """End every lease of a policy epoch before EPOCH; nodes renew under the active policy."""
    _send(admin, "epoch", str(number), reason, as_json=as_json)


@revoke.command()
@click.argument("key_id", metavar="KID")
@_reason
@_json
@with_admin
def key(admin: AdminClient, key_id: str, *, reason: str, as_json: bool) -> None:
    """Withdraw the token key KID: nothing that it signed counts. Rotate the key first.

    Put "--" before a KID that begins with a dash, and options before that.
    """
    _send(admin, "key", key_id, reason, as_json=as_json)


@revoke.command(name="list")
@_json
@with_admin
def list_command(admin: AdminClient, *, as_json: bool) -> None:
    """List revocations, and the lowest policy epoch whose leases count."""
    listed = admin.get(_PATH, "revocations", "min_epoch")
    if as_json:
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    click.echo(f"leases count from policy epoch {listed['min_epoch']} on")
    for each in listed["revocations"]:
        verb = "revoked" if each["in_force"] else "taken back"
        click.echo(f"{utc(each['at'])}  {verb}  {_named(each)}  {each['author']}: {each['reason']}")


@click.command(name="rotate-key")
@_json
@with_admin
def rotate_key(admin: AdminClient, *, as_json: bool) -> None:
    """Sign tokens with a new key from now on.

    The key before counts until its tokens have run out. Relying parties find both in the key sets;
    nodes follow the rotation, which the old key signs. To withdraw a key at once, rotate, then:
    bootlease revoke key KID
    """
    done = admin.post("/v1/admin/keys", b"{}", _JSON, "key", "previous")
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        click.echo(f"tokens are signed by key {done['key']}, before by {done['previous']}")
