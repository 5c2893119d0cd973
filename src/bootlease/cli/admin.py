"""Commands that ask a running verifier, with the operator's credential.

``activate`` belongs into ``bootlease policy``, ``register`` into ``bootlease reference``, the rest
into ``bootlease verifier``; the groups attach them. What speaks HTTP is imported when a command
runs: help needs none of it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from bootlease.cli.files import naming, read_file
from bootlease.cli.policy_files import cedar_option, policy_document
from bootlease.cli.utc import utc
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient

R = TypeVar("R")

CREDENTIAL_VARIABLE: Final = "BOOTLEASE_ADMIN_CREDENTIAL"
_MAX_CREDENTIAL: Final = 1024
_MAX_REFERENCE: Final = 256 * 1024 * 1024
"""Far beyond what a verifier takes, which is for it to say."""

_DIGEST_SHOWN: Final = 8
_JSON: Final = "application/json"
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)


def _credential(file: Path | None) -> str:
    if file is not None:
        with file.open("rb") as opened:
            text = opened.read(_MAX_CREDENTIAL).decode("ascii", "replace").strip()
    else:
        text = os.environ.get(CREDENTIAL_VARIABLE, "").strip()
        if not text:
            raise click.UsageError(
                f"give the admin credential with --credential-file or in {CREDENTIAL_VARIABLE}"
            )
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        where = CREDENTIAL_VARIABLE if file is None else str(file)
        raise MalformedError(f"{where} holds no admin credential: one line of printable characters")
    return text


def with_admin(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that lead to an ``AdminClient``, its first argument."""

    @click.option(
        "--verifier",
        "url",
        required=True,
        envvar="BOOTLEASE_VERIFIER",
        show_envvar=True,
        help="Its URL.",
    )
    @click.option(
        "--credential-file",
        type=_existing,
        help=f"File with the admin credential; else the variable {CREDENTIAL_VARIABLE}.",
    )
    @click.option("--ca", type=_existing, help="PEM roots for its TLS certificate.")
    @click.option(
        "--unsafe-plain-http",
        is_flag=True,
        help="Send the credential over a network without TLS: whoever listens has it.",
    )
    @functools.wraps(command)
    def wrapped(
        *,
        url: str,
        credential_file: Path | None,
        ca: Path | None,
        unsafe_plain_http: bool,
        **options: object,
    ) -> R:
        admin = admin_client(url, credential_file, ca=ca, unsafe_plain_http=unsafe_plain_http)
        return command(admin, **options)

    return wrapped


def admin_client(
    url: str,
    credential_file: Path | None,
    *,
    ca: Path | None,
    unsafe_plain_http: bool,
    option: str = "--verifier",
) -> AdminClient:
    """Return the client that options lead to; ``option`` is the one with the URL.

    Raises:
        click.UsageError: An option is not what it should be, or there is no credential.
    """
    from bootlease.cli.admin_client import AdminClient, tls_context, verifier_url  # noqa: PLC0415 - heavy

    sound = verifier_url(url, unsafe_plain_http=unsafe_plain_http, option=option)
    return AdminClient(sound, _credential(credential_file), tls_context(sound, ca))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(members: object) -> None:
    click.echo(json.dumps(members, indent=2, ensure_ascii=False))


def tell_proposed(answer: dict[str, Any], *, as_json: bool) -> bool:
    """Print that an act waits for a second person, if that is what was answered."""
    proposal = answer.get("proposal")
    if proposal is None:
        return False
    if as_json:
        _print(answer)
    else:
        click.echo(
            f"proposed, not done yet: until {utc(proposal['expires_at'])} another person may run"
            f" `bootlease policy approve {proposal['digest']}`"
        )
    return True


@click.command()
@click.argument("file", type=_existing)
@cedar_option
@click.option(
    "--revoke-now",
    is_flag=True,
    help="End every lease of earlier policies at once, not when it would be renewed.",
)
@_json
@with_admin
def activate(
    admin: AdminClient, file: Path, *, cedar: Path | None, revoke_now: bool, as_json: bool
) -> None:
    """Activate the policy in FILE as the next epoch.

    Leases by earlier policies count for one life more, so that nobody stops who still complies.
    """
    route = "/v1/admin/policies?revoke_now=1" if revoke_now else "/v1/admin/policies"
    with naming(str(file)):
        document = policy_document(read_file(file), cedar)
        active = admin.post(route, document, "application/toml", "id", "epoch")
    if tell_proposed(active, as_json=as_json):
        return
    if as_json:
        _print(active)
    else:
        click.echo(f"policy {active['id']} is active, epoch {active['epoch']}")


@click.command()
@click.argument("file", type=_existing)
@_json
@with_admin
def register(admin: AdminClient, file: Path, *, as_json: bool) -> None:
    """Register the reference set in FILE.

    Sets of one name stand beside each other: a policy that accepts the name accepts each of them.
    """
    known = admin.get("/v1/admin/references", "references")["references"]
    with naming(str(file)):
        document = read_file(file, at_most=_MAX_REFERENCE)
        reference = admin.post("/v1/admin/references", document, _JSON, "name", "version", "digest")
    if tell_proposed(reference, as_json=as_json):
        return
    _tell_neighbours(reference, known)
    if as_json:
        _print(reference)
        return
    already = any(each["digest"] == reference["digest"] for each in known)
    click.echo(
        f"reference {reference['name']} {reference['version']}"
        f" {'was registered before' if already else 'is registered'},"
        f" digest {reference['digest']}"
    )


def _tell_neighbours(reference: dict[str, Any], known: list[dict[str, Any]]) -> None:
    # Nothing is replaced, not even where the version is the same: who meant to would go on
    # accepting the old boot without knowing.
    beside = [
        f"{each['name']} {each['version']} ({each['digest'][:_DIGEST_SHOWN]}…)"
        for each in known
        if each["name"] == reference["name"] and each["digest"] != reference["digest"]
    ]
    if beside:
        click.echo(
            f"note: registered beside {', '.join(beside)}, which it does not replace:"
            f" {'both' if len(beside) == 1 else 'all of them'} are accepted where a policy"
            f" accepts {reference['name']!r}",
            err=True,
        )


@click.command()
@_json
@with_admin
def nodes(admin: AdminClient, *, as_json: bool) -> None:
    """List enrolled nodes."""
    listed: list[dict[str, Any]] = []
    page = admin.get("/v1/admin/nodes", "nodes")
    listed += page["nodes"]
    while "next" in page:
        page = admin.get(f"/v1/admin/nodes?after={page['next']}", "nodes")
        listed += page["nodes"]
    if as_json:
        _print({"nodes": listed})
        return
    for each in listed:
        click.echo(f"{each['node']}  {_lease_of(each)}")


def _lease_of(shown: dict[str, Any]) -> str:
    lineage = shown["lineage"]
    if lineage is None:
        return "no lease"
    return f"lease {lineage['seq']} until {utc(lineage['expires_at'])}"


@click.command()
@click.argument("node_id", metavar="NODE")
@_json
@with_admin
def node(admin: AdminClient, node_id: str, *, as_json: bool) -> None:
    """Print one node and its latest decisions."""
    shown = admin.get(f"/v1/admin/nodes/{hex_id(node_id)}", "node", "lineage", "decisions", "notes")
    if as_json:
        _print(shown)
        return
    click.echo(f"node {shown['node']}, {_lease_of(shown)}")
    click.echo(f"  enrolled {utc(shown['enrolled_at'])}, EK {shown['ek']}")
    if labels := shown.get("labels"):
        click.echo(f"  labels {', '.join(labels)}")
    make = shown["endorsement"]
    if make is None:
        click.echo("  no manufacturer vouches for its TPM")
    else:
        click.echo(f"  TPM {make['manufacturer']} {make['model']} {make['version']}")
    for note in shown["notes"]:
        click.echo(f"  note: {note['message']} [{note['id']}]")
    for each in shown["decisions"]:
        verdict = "granted" if each["granted"] else "refused"
        click.echo(f"  {utc(each['time'])}  {verdict}  decision {each['decision']}")


@click.command()
@click.argument("digest")
@_json
@with_admin
def decision(admin: AdminClient, digest: str, *, as_json: bool) -> None:
    """Print the recorded decision DIGEST: what was decided, and every finding."""
    record = admin.get(
        f"/v1/admin/decisions/{hex_id(digest)}", "granted", "node", "time", "number", "findings"
    )
    if as_json:
        _print(record)
        return
    verdict = "granted" if record["granted"] else "refused"
    click.echo(
        f"{verdict} to node {record['node']} at {utc(record['time'])}, decision {record['number']}"
    )
    for finding in record["findings"]:
        click.echo(f"  {finding['effect']}: {finding['message']} [{finding['id']}]")


@click.command(name="join-token")
@click.option(
    "--expires-in",
    type=click.IntRange(1, 30 * 86_400),
    default=86_400,
    show_default=True,
    help="Seconds.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="A label for the node that enrols with it, such as role=build; may be repeated.",
)
@_json
@with_admin
def join_token(
    admin: AdminClient, *, expires_in: int, labels: tuple[str, ...], as_json: bool
) -> None:
    """Make a join token, printed once."""
    body = json.dumps({"expires_in": expires_in, "labels": list(labels)}).encode()
    made = admin.post("/v1/admin/join-tokens", body, _JSON, "join_token")
    if as_json:
        _print(made)
    else:
        click.echo(made["join_token"])


def hex_id(text: str) -> str:
    """Return a node id or digest, which is 64 hex digits.

    Raises:
        MalformedError: It is not.
    """
    if len(text) != 64 or any(char not in "0123456789abcdef" for char in text):  # noqa: PLR2004 - SHA-256 in hex
        raise MalformedError(f"{text!r:.80} is not 64 lower-case hex digits")
    return text
