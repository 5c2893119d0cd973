"""Commands for whoever runs a verifier with others: credentials, roles, the two-person rule.

``approve`` and ``proposals`` belong into ``bootlease policy``, the rest into
``bootlease verifier``; the groups attach them.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.admin import hex_id, tell_proposed, with_admin
from bootlease.cli.utc import utc
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient

ROLES: Final = ("operator", "policy-author", "auditor", "enroller", "relying-party")
_JSON: Final = "application/json"
_SHOWN: Final = 8
"""Hex digits of a credential's id that authors in the ledger have."""

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(members: object) -> None:
    click.echo(json.dumps(members, indent=2, ensure_ascii=False))


@click.group()
def credential() -> None:
    """Make, list and revoke admin credentials, each with its roles."""


@credential.command()
@click.option("--label", required=True, help="Whose it is: the author in the ledger.")
@click.option(
    "--role",
    "roles",
    required=True,
    multiple=True,
    type=click.Choice(ROLES),
    help="What it is for; may be repeated.",
)
@_json
@with_admin
def add(admin: AdminClient, *, label: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Make an admin credential, printed once.

    operator may do everything; policy-author writes policies and reference sets; auditor reads
    everything and changes nothing; enroller makes join tokens and labels nodes; relying-party asks
    whether tokens count.

    Under the two-person rule an operator's or policy author's is proposed only: whoever approves it
    is shown the credential.
    """
    body = json.dumps({"label": label, "roles": list(roles)}).encode()
    made = admin.post("/v1/admin/credentials", body, _JSON)
    if tell_proposed(made, as_json=as_json):
        return
    if as_json:
        _print(made)
        return
    click.echo(made["credential"])
    click.echo(
        f"bootlease: the credential of {label} was printed once on standard output; it is not shown"
        " again",
        err=True,
    )


@credential.command(name="list")
@_json
@with_admin
def list_(admin: AdminClient, *, as_json: bool) -> None:
    """List every admin credential that was made, with its roles; none can be read back."""
    listed = admin.get("/v1/admin/credentials", "credentials")
    if as_json:
        _print(listed)
        return
    for each in listed["credentials"]:
        revoked = each["revoked_at"]
        state = "" if revoked is None else f"  revoked {utc(revoked)}"
        click.echo(
            f"{each['id'][:_SHOWN]}  {each['label']}  {', '.join(each['roles']) or 'no role'}"
            f"  made {utc(each['created_at'])}{state}"
        )


@credential.command()
@click.argument("which", metavar="ID")
@_json
@with_admin
def revoke(admin: AdminClient, which: str, *, as_json: bool) -> None:
    """Revoke the credential ID at once: its id, the beginning of that, or its label.

    The last operator's cannot be revoked.
    """
    listed = admin.get("/v1/admin/credentials", "credentials")["credentials"]
    live = [each for each in listed if each["revoked_at"] is None]
    found = [each for each in live if each["label"] == which or _begins(each["id"], which)]
    if len(found) != 1:
        how_many = "no" if not found else "more than one"
        raise MalformedError(
            f"{how_many} live credential is {which!r:.80}: see `bootlease verifier credential list`"
        )
    revoked = admin.post(f"/v1/admin/credentials/{found[0]['id']}/revocation", b"", None, "id")
    if as_json:
        _print(revoked)
    else:
        click.echo(f"revoked {revoked['id'][:_SHOWN]}, {found[0]['label']}")


def _begins(identifier: str, text: str) -> bool:
    return len(text) >= _SHOWN and identifier.startswith(text)


@click.command(name="two-person")
@click.argument("switch", type=click.Choice(["on", "off", "show"]), metavar="on|off|show")
@_json
@with_admin
def two_person(admin: AdminClient, *, switch: str, as_json: bool) -> None:
    """Switch the two-person rule on or off, or show it.

    While it is on, policies, reference sets, roots, and credentials that could approve wait until
    another person approves them (`bootlease policy approve`). Two operators can switch it off.
    """
    path = "/v1/admin/two-person"
    if switch == "show":
        answer = admin.get(path, "demanded")
    else:
        answer = admin.post(path, json.dumps({"demanded": switch == "on"}).encode(), _JSON)
        if tell_proposed(answer, as_json=as_json):
            return
    if as_json:
        _print(answer)
    else:
        click.echo(f"the two-person rule is {'on' if answer['demanded'] else 'off'}")


@click.command()
@click.argument("digest", required=False)
@_json
@with_admin
def proposals(admin: AdminClient, *, digest: str | None, as_json: bool) -> None:
    """List what waits for a second person; with DIGEST, print the document that it would use."""
    if digest is not None:
        shown = admin.get(f"/v1/admin/proposals/{hex_id(digest)}", "document", "act")
        if as_json:
            _print(shown)
        else:
            click.echo(base64.b64decode(shown["document"]), nl=False)
        return
    listed = admin.get("/v1/admin/proposals", "proposals")
    if as_json:
        _print(listed)
        return
    for each in listed["proposals"]:
        options = "".join(f" {name}={value}" for name, value in sorted(each["options"].items()))
        click.echo(
            f"{each['digest']}  {each['act']}{options}  by {each['proposed_by']}"
            f"  until {utc(each['expires_at'])}"
        )


@click.command()
@click.argument("digest")
@_json
@with_admin
def approve(admin: AdminClient, digest: str, *, as_json: bool) -> None:
    """Approve the proposal DIGEST of another person, and have it done at once.

    The digest covers every byte of what was proposed: see `bootlease policy proposals DIGEST`.
    """
    done = admin.post(f"/v1/admin/proposals/{hex_id(digest)}/approval", b"", None, "act")
    if as_json:
        _print(done)
        return
    click.echo(f"approved and done: {done['act']}{_what(done)}")
    if "credential" in done:
        click.echo(done["credential"])


def _what(done: dict[str, Any]) -> str:
    if done["act"] == "policy":
        return f" {done['id']} is active, epoch {done['epoch']}"
    if done["act"] == "reference":
        return f" {done['name']} {done['version']} is registered"
    if done["act"] == "credential":
        return f" of {done['label']}, printed once:"
    if done["act"] == "two-person":
        return f" rule is {'on' if done['demanded'] else 'off'}"
    if done["act"] == "lift":
        lifted = [f"{each['kind']} {each['subject']}" for each in done["revocations"]]
        return f", no longer revoked: {', '.join(lifted)}"
    return ""
