"""Commands that ask a running verifier, with the operator's credential.

``activate`` belongs into ``bootlease policy``, ``register`` into ``bootlease reference``, the rest
into ``bootlease verifier``; the groups attach them.
"""

from __future__ import annotations

import functools
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import httpx2

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.node.problem import parse_problem
from bootlease.token import strictjson

R = TypeVar("R")

CREDENTIAL_VARIABLE: Final = "BOOTLEASE_ADMIN_CREDENTIAL"
_TIMEOUT: Final = 10.0
_MAX_ANSWER: Final = 32 * 1024 * 1024
_JSON: Final = "application/json"
_FORBIDDEN: Final = frozenset({401, 403})
_CLIENT_ERRORS: Final = range(400, 500)
_WAITING: Final = frozenset({408, 429})
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class AdminClient:
    """A verifier as its operator reaches it.

    Attributes:
        url: The verifier's URL.
        credential: The admin credential.
        ca: PEM roots for its TLS certificate, in place of the machine's own.
    """

    url: str
    credential: str
    ca: Path | None = None

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON object at ``path``."""
        return self._request("GET", path, None, None)

    def post(self, path: str, body: bytes, media_type: str) -> dict[str, Any]:
        """Send ``body`` to ``path`` and return the JSON object answered."""
        return self._request("POST", path, body, media_type)

    def _request(
        self, method: str, path: str, body: bytes | None, media_type: str | None
    ) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.credential}", "accept": _JSON}
        if media_type is not None:
            headers["content-type"] = media_type
        try:
            context = ssl.create_default_context(cafile=self.ca)
            with httpx2.Client(verify=context, timeout=_TIMEOUT, trust_env=False) as client:
                answer = client.request(method, self.url + path, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError) as exc:
            raise TransportError(f"cannot reach the verifier at {self.url}: {exc}") from exc
        content = answer.content
        if not answer.is_success:
            raise _failure(answer.status_code, content)
        if len(content) > _MAX_ANSWER:
            raise TransportError(f"{self.url} answered more than {_MAX_ANSWER} bytes")
        return strictjson.parse_object(content)


def _failure(status: int, content: bytes) -> Exception:
    problem = parse_problem(content)
    said = problem.text if problem is not None else "no reason given"
    if problem is not None and problem.findings:
        return VerificationError(*problem.findings)
    if status in _CLIENT_ERRORS and status not in _WAITING | _FORBIDDEN:
        return MalformedError(f"the verifier refuses the request ({status}): {said}")
    return TransportError(f"the verifier answered {status}: {said}")


def _credential(file: Path | None) -> str:
    if file is not None:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    else:
        text = os.environ.get(CREDENTIAL_VARIABLE, "").strip()
        if not text:
            raise click.UsageError(
                f"give the admin credential with --credential-file or in {CREDENTIAL_VARIABLE}"
            )
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        raise MalformedError("the admin credential is not one line of printable characters")
    return text


def with_admin(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that lead to an ``AdminClient``, its first argument."""

    @click.option("--verifier", "url", required=True, envvar="BOOTLEASE_VERIFIER", help="Its URL.")
    @click.option(
        "--credential-file",
        type=_existing,
        help=f"File with the admin credential; else the variable {CREDENTIAL_VARIABLE}.",
    )
    @click.option("--ca", type=_existing, help="PEM roots for its TLS certificate.")
    @functools.wraps(command)
    def wrapped(*, url: str, credential_file: Path | None, ca: Path | None, **options: object) -> R:
        admin = AdminClient(url.rstrip("/"), _credential(credential_file), ca)
        return command(admin, **options)

    return wrapped


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(members: object) -> None:
    click.echo(json.dumps(members, indent=2, ensure_ascii=False))


@click.command()
@click.argument("file", type=_existing)
@_json
@with_admin
def activate(admin: AdminClient, file: Path, *, as_json: bool) -> None:
    """Activate the policy in FILE as the next epoch."""
    active = admin.post("/v1/admin/policies", file.read_bytes(), "application/toml")
    if as_json:
        _print(active)
    else:
        click.echo(f"policy {active['id']} is active, epoch {active['epoch']}")


@click.command()
@click.argument("file", type=_existing)
@_json
@with_admin
def register(admin: AdminClient, file: Path, *, as_json: bool) -> None:
    """Register the reference set in FILE."""
    reference = admin.post("/v1/admin/references", file.read_bytes(), _JSON)
    if as_json:
        _print(reference)
    else:
        click.echo(
            f"reference {reference['name']} {reference['version']} is registered,"
            f" digest {reference['digest']}"
        )


@click.command()
@_json
@with_admin
def nodes(admin: AdminClient, *, as_json: bool) -> None:
    """List enrolled nodes."""
    listed: list[dict[str, Any]] = []
    page = admin.get("/v1/admin/nodes")
    listed += page["nodes"]
    while "next" in page:
        page = admin.get(f"/v1/admin/nodes?after={page['next']}")
        listed += page["nodes"]
    if as_json:
        _print({"nodes": listed})
        return
    for each in listed:
        lineage = each["lineage"]
        state = (
            "no lease" if lineage is None else f"lease {lineage['seq']} to {lineage['expires_at']}"
        )
        click.echo(f"{each['node']}  {state}")


@click.command()
@click.argument("node_id", metavar="NODE")
@with_admin
def node(admin: AdminClient, node_id: str) -> None:
    """Print one node and its latest decisions as JSON."""
    _print(admin.get(f"/v1/admin/nodes/{_hex_id(node_id)}"))


@click.command()
@click.argument("digest")
@_json
@with_admin
def decision(admin: AdminClient, digest: str, *, as_json: bool) -> None:
    """Print the recorded decision DIGEST: what was decided, and every finding."""
    record = admin.get(f"/v1/admin/decisions/{_hex_id(digest)}")
    if as_json:
        _print(record)
        return
    verdict = "granted" if record["granted"] else "refused"
    click.echo(
        f"{verdict} to node {record['node']} at {record['time']}, decision {record['number']}"
    )
    for finding in record["findings"]:
        click.echo(f"  {finding['effect']}: {finding['message']} [{finding['id']}]")


@click.command(name="add-root")
@click.argument("file", type=_existing)
@with_admin
def add_root(admin: AdminClient, file: Path) -> None:
    """Trust the CA certificates in FILE (PEM or DER) to vouch for TPMs."""
    _print(admin.post("/v1/admin/roots", file.read_bytes(), "application/x-pem-file"))


@click.command(name="join-token")
@click.option(
    "--expires-in",
    type=click.IntRange(1, 30 * 86_400),
    default=86_400,
    show_default=True,
    help="Seconds.",
)
@_json
@with_admin
def join_token(admin: AdminClient, *, expires_in: int, as_json: bool) -> None:
    """Make a join token, printed once."""
    body = json.dumps({"expires_in": expires_in}).encode()
    made = admin.post("/v1/admin/join-tokens", body, _JSON)
    if as_json:
        _print(made)
    else:
        click.echo(made["join_token"])


def _hex_id(text: str) -> str:
    if len(text) != 64 or any(char not in "0123456789abcdef" for char in text):  # noqa: PLR2004 - SHA-256 in hex
        raise MalformedError(f"{text!r:.80} is not 64 lower-case hex digits")
    return text
