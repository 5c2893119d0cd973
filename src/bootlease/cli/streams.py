"""``bootlease verifier stream``: who is told by security events what ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.admin import with_admin
from bootlease.cli.exits import ExitCode
from bootlease.cli.files import read_file
from bootlease.cli.utc import utc
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.cli.admin_client import AdminClient

_ROUTE: Final = "/v1/admin/streams"
_JSON: Final = "application/json"
_MAX_HEADER: Final = 8192
_PUSH, _POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(members: object) -> None:
    click.echo(json.dumps(members, indent=2, ensure_ascii=False))


@click.group()
def stream() -> None:
    """Tell relying parties by security events (CAEP) what ended."""


@stream.command()
@click.option("--audience", required=True, help="The receiver's name: aud of its events.")
@click.option("--push", "endpoint", metavar="URL", help="Push to this endpoint.")
@click.option("--poll", is_flag=True, help="Let the receiver poll.")
@click.option(
    "--authorization-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the Authorization header that each push carries.",
)
@_json
@with_admin
def add(
    admin: AdminClient,
    *,
    audience: str,
    endpoint: str | None,
    poll: bool,
    authorization_file: Path | None,
    as_json: bool,
) -> None:
    """Make a stream; its secret is printed once.

    The receiver shows the secret when it polls, or asks for the stream's status.
    """
    if (endpoint is None) != poll:
        raise click.UsageError("give either --push URL or --poll")
    if authorization_file is not None and poll:
        raise click.UsageError("--authorization-file goes with --push")
    delivery = {"method": _POLL} if endpoint is None else _push(endpoint, authorization_file)
    body = json.dumps({"aud": audience, "delivery": delivery}).encode()
    made = admin.post(_ROUTE, body, _JSON, "stream_id", "secret", "delivery")
    if as_json:
        _print(made)
        return
    click.echo(f"stream {made['stream_id']} {_where(made)}", err=True)
    click.echo(made["secret"])


def _push(endpoint: str, authorization: Path | None) -> dict[str, str]:
    delivery = {"method": _PUSH, "endpoint_url": endpoint}
    if authorization is not None:
        header = read_file(authorization, at_most=_MAX_HEADER).decode("ascii", "replace").strip()
        if not header:
            raise MalformedError(f"{authorization} holds no Authorization header")
        delivery["authorization_header"] = header
    return delivery


def _where(shown: dict[str, Any]) -> str:
    delivery = shown["delivery"]
    verb = "is pushed to" if delivery["method"] == _PUSH else "is polled at"
    return f"{verb} {delivery['endpoint_url']}"


@stream.command(name="list")
@_json
@with_admin
def list_(admin: AdminClient, *, as_json: bool) -> None:
    """List the streams, and what waits in them."""
    listed = admin.get(_ROUTE, "streams")["streams"]
    if as_json:
        _print({"streams": listed})
        return
    for each in listed:
        click.echo(f"{each['stream_id']} {_where(each)}, for {each['aud']}")
        since = "" if each["oldest_at"] is None else f", the oldest since {utc(each['oldest_at'])}"
        click.echo(f"  {each['state']}: {each['queued']} events wait{since}")
        if each["dropped"]:
            click.echo(f"  {each['dropped']} events were dropped; the receiver will be told")
        if each["trouble"] is not None:
            click.echo(f"  trouble: {each['trouble']}")


@stream.command()
@click.argument("stream_id", metavar="STREAM")
@_json
@with_admin
def remove(admin: AdminClient, stream_id: str, *, as_json: bool) -> None:
    """Delete a stream with what waits in it."""
    removed = admin.delete(f"{_ROUTE}/{_id(stream_id)}", "stream_id")
    if as_json:
        _print(removed)
    else:
        click.echo(f"stream {removed['stream_id']} is removed")


@stream.command()
@click.argument("stream_id", metavar="STREAM")
@_json
@with_admin
def verify(admin: AdminClient, stream_id: str, *, as_json: bool) -> int:
    """Send an event that asks for nothing, and wait for the receiver to take it.

    Exits with 3 where it has not taken it within seconds.
    """
    path = f"{_ROUTE}/{_id(stream_id)}/verification"
    told = admin.post(path, b"", None, "jti", "delivered", "milliseconds")
    delivered = told["delivered"] is True
    if as_json:
        _print(told)
    elif delivered:
        click.echo(f"event {told['jti']} was taken after {told['milliseconds']} ms")
    else:
        why = told.get("trouble") or "the receiver has not asked for it"
        click.echo(f"event {told['jti']} waits: {why}")
    return ExitCode.ACCEPTED if delivered else ExitCode.UNREACHABLE


def _id(text: str) -> str:
    if len(text) != 32 or any(char not in "0123456789abcdef" for char in text):  # noqa: PLR2004 - 16 bytes in hex
        raise MalformedError(f"{text!r:.80} is not the id of a stream, 32 lower-case hex digits")
    return text
