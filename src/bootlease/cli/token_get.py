"""``bootlease token get``: a token from this machine's agent, by its Workload API."""

from __future__ import annotations

import json
import os
from typing import Any, Final

import click

from bootlease.cli.token_input import RequestURL
from bootlease.localapi import ConfirmationChoice, Granted, Unreached, wire
from bootlease.token import TokenFormat
from bootlease.workload import LeaseStream, Workload, WorkloadClient
from bootlease.workload.connection import DEFAULT_TIMEOUT

_WAIT: Final = 30.0
_CONFIRMATIONS: Final = [
    choice.value for choice in ConfirmationChoice if choice is not ConfirmationChoice.OWN
]


@click.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="Scope name; repeatable. Without one, the lease that this process runs under.",
)
@click.option("--audience", help="The relying party that the token is for; with --scope.")
@click.option(
    "--encoding",
    type=click.Choice([form.value for form in TokenFormat]),
    default=TokenFormat.CWT.value,
    show_default=True,
    help="Form of the token.",
)
@click.option(
    "--confirmation",
    type=click.Choice(_CONFIRMATIONS),
    default=ConfirmationChoice.PROCESS.value,
    show_default=True,
    help="Where the agent keeps the confirmation key.",
)
@click.option("--method", help="Method of a request, as in GET: print the headers that present it.")
@click.option("--url", type=RequestURL(), help="URL of the request.")
@click.option(
    "--socket",
    envvar=wire.SOCKET_VARIABLE,
    show_envvar=True,
    default=wire.SOCKET,
    show_default=True,
    help="The agent's socket.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=_WAIT,
    show_default=True,
    help="Seconds to wait for the lease.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def get(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click's
    """Get a token from the agent of this machine.

    Prints the token; with --method and --url the two headers that present it in one request. With
    curl: bootlease token get ... --method GET --url URL | curl -H @- URL

    The lease is not renewed when the command has ended. Software that is to go on runs under
    `bootlease run`, or speaks to the agent itself (docs/workload-api.md).
    """
    if (options["method"] is None) != (options["url"] is None):
        raise click.UsageError("--method and --url go together", ctx)
    if bool(options["scopes"]) != (options["audience"] is not None):
        raise click.UsageError("--scope and --audience go together", ctx)
    try:
        granted, headers = _ask(options)
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from exc
    except RuntimeError as exc:
        raise click.UsageError(f"--scope and --audience are missing, and {exc}", ctx) from exc
    click.echo(_as_json(granted, headers) if options["as_json"] else _as_text(granted, headers))


def _ask(options: dict[str, Any]) -> tuple[Granted, dict[str, str]]:
    if not options["scopes"]:
        socket = {wire.SOCKET_VARIABLE: options["socket"]}
        workload = Workload.from_environment({**os.environ, **socket})
        granted = workload.current()
        if options["method"] is None:
            return granted, {}
        return granted, workload.headers(options["method"], options["url"])
    client = WorkloadClient(options["socket"], timeout=min(DEFAULT_TIMEOUT, options["timeout"]))
    with client.lease(
        options["scopes"],
        options["audience"],
        encoding=options["encoding"],
        confirmation=options["confirmation"],
    ) as stream:
        granted = _granted(stream, options["timeout"])
        if options["method"] is None:
            return granted, {}
        return granted, client.proof(stream.handle, options["method"], options["url"])


def _granted(stream: LeaseStream, timeout: float) -> Granted:
    def waiting(event: Unreached) -> None:
        click.echo(f"{event.error}; the agent tries again in {event.retry_in:.0f} s", err=True)

    return stream.granted(timeout, waiting)


def _as_text(granted: Granted, headers: dict[str, str]) -> str:
    if not headers:
        return granted.token
    return "\n".join(f"{name}: {value}" for name, value in headers.items())


def _as_json(granted: Granted, headers: dict[str, str]) -> str:
    members: dict[str, Any] = {
        "token": granted.token,
        "encoding": granted.encoding.value,
        "lease": granted.lease_id,
        "sequence": granted.sequence,
        "scope": list(granted.scope),
        "audience": granted.audience,
        "expires_at": granted.expires_at,
    }
    if headers:
        members["headers"] = headers
    return json.dumps(members, indent=2)
