"""``bootlease token delegate`` and ``exchange``: passing a lease on to another key."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from bootlease.cli.files import naming, read_file
from bootlease.cli.token_input import key_source, read_signer, read_token
from bootlease.errors import MalformedError, VerificationError
from bootlease.node.bundle import MAX_BUNDLE, parse_bundle
from bootlease.relyingparty import FetchedKeys, KeySource, StaticKeys
from bootlease.relyingparty.exchange import TokenExchange, grant_child
from bootlease.token import PublicKey, TokenFormat, base64url, strictjson
from bootlease.token.grants import MAX_DEPTH, MAX_GRANT, parse_grant

if TYPE_CHECKING:
    import httpx2

_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_MAX_KEY: Final = 64 * 1024
_MAX_PEM: Final = 256 * 1024
_MAX_LIFE: Final = 900
_UNKNOWN_KEY: Final = "token.key.unknown"
_existing = click.Path(path_type=Path, exists=True, dir_okay=False)
_token = click.argument("token")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_token
@click.option(
    "--key", required=True, type=_existing, help="The key that TOKEN confirms, PEM: it signs."
)
@click.option(
    "--to",
    required=True,
    help="The key granted to: a file with it (PEM, public or private, or JWK) or its RFC 7638"
    " thumbprint.",
)
@click.option(
    "--scope", "scopes", multiple=True, help="A scope name to pass on; all of them by default."
)
@click.option(
    "--expires-in",
    type=click.IntRange(1, _MAX_LIFE),
    help="Seconds from now; as long as TOKEN by default.",
)
@click.option(
    "--depth",
    type=click.IntRange(0, MAX_DEPTH - 1),
    default=0,
    show_default=True,
    help="How often the child may be passed on.",
)
@_json
def delegate(
    token: str,
    *,
    key: Path,
    to: str,
    scopes: tuple[str, ...],
    expires_in: int | None,
    depth: int,
    as_json: bool,
) -> None:
    """Grant some of the lease of TOKEN to another key.

    Prints the grant. Whoever has the other key exchanges it, together with TOKEN, for a token of
    its own with `bootlease token exchange`; the verifier's policy says how often a lease may be
    passed on. TOKEN is the token itself, a file that holds it, or "-" for standard input.
    """
    try:
        grant = grant_child(
            read_token(token),
            read_signer(key),
            _thumbprint(to),
            scope=scopes or None,
            expires_in=expires_in,
            depth=depth,
        )
    except ValueError as exc:
        raise click.UsageError(f"no such grant can be made: {exc}") from exc
    if not as_json:
        click.echo(grant)
        return
    made = parse_grant(grant)
    members = {
        "grant": grant,
        "thumbprint": base64url.encode(made.thumbprint),
        "scope": list(made.scope),
        "audience": made.audience,
        "expires_at": made.expires_at,
        "depth": made.depth,
    }
    click.echo(json.dumps(members, indent=2))


def _thumbprint(to: str) -> bytes:
    path = Path(to)
    if _THUMBPRINT.fullmatch(to) and not path.exists():
        return base64url.decode(to)
    if not path.is_file():
        raise click.BadParameter(f"{to!r} is neither a file nor a thumbprint", param_hint="--to")
    data = read_file(path, at_most=_MAX_KEY)
    with naming(f"no PEM key or JWK of an accepted kind in {path}"):
        return _public_key(data).thumbprint()


def _public_key(data: bytes) -> PublicKey:
    if data.lstrip().startswith(b"{"):
        return PublicKey.from_jwk(strictjson.parse_object(data))
    try:
        if b"PRIVATE KEY" in data:
            return PublicKey.from_cryptography(load_pem_private_key(data, None).public_key())
        return PublicKey.from_cryptography(load_pem_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise MalformedError(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class _Verifier:
    """Where a grant is exchanged, and whom to believe there."""

    issuer: str
    keys: KeySource
    client: httpx2.Client


@click.command()
@_token
@click.option(
    "--grant", required=True, help='The grant, a file that holds it, or "-" for standard input.'
)
@click.option(
    "--key", required=True, type=_existing, help="The key granted to, PEM: it proves possession."
)
@click.option("--bundle", type=_existing, help="The verifier's join bundle.")
@click.option("--issuer", help="The verifier's URL, instead of a bundle.")
@click.option(
    "--keys",
    help="With --issuer: file or URL of its keys; by default those that it publishes.",
)
@click.option(
    "--tls-root", type=_existing, help="With --issuer: PEM certificates that its own may end in."
)
@click.option("--jwt", is_flag=True, help="Ask for a JWT; by default for the form of TOKEN.")
@_json
def exchange(
    token: str,
    *,
    grant: str,
    key: Path,
    bundle: Path | None,
    issuer: str | None,
    keys: str | None,
    tls_root: Path | None,
    jwt: bool,
    as_json: bool,
) -> None:
    """Exchange a grant for the token of a child lease.

    Prints the token, after its signature, its key and its chain of grants were checked. TOKEN is
    the one that the grant was made from. A lost answer can be asked for again; another child needs
    another grant.
    """
    if grant == token == "-":
        raise click.UsageError("only one of TOKEN and --grant is read from standard input")
    verifier = _verifier(bundle, issuer, keys, tls_root)
    with verifier.client:
        try:
            endpoint = TokenExchange(verifier.issuer, verifier.keys, client=verifier.client)
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc
        try:
            given = endpoint.exchange(
                read_token(token),
                _read_grant(grant),
                read_signer(key),
                TokenFormat.JWT if jwt else None,
            )
        except VerificationError as exc:
            if bundle is not None and any(each.id == _UNKNOWN_KEY for each in exc.findings):
                exc.add_note(
                    f"if the verifier's key was rotated, {bundle} is too old: make another by"
                    f" `bootlease verifier bundle`, or give --issuer {verifier.issuer} instead"
                )
            raise
    if not as_json:
        click.echo(given.text)
        return
    members = {
        "token": given.text,
        "format": given.format.value,
        "claims": given.claims.to_jwt(),
        **({} if given.receipt is None else {"receipt": given.receipt}),
    }
    click.echo(json.dumps(members, indent=2))


def _verifier(
    bundle: Path | None, issuer: str | None, keys: str | None, tls_root: Path | None
) -> _Verifier:
    if (bundle is None) == (issuer is None):
        raise click.UsageError("give --bundle or --issuer")
    if bundle is not None:
        if keys is not None or tls_root is not None:
            raise click.UsageError("--keys and --tls-root go with --issuer")
        with naming(str(bundle)):
            known = parse_bundle(read_file(bundle, at_most=MAX_BUNDLE))
        return _Verifier(known.issuer, StaticKeys(known.keys), _client(known.tls_root))
    root = None if tls_root is None else read_file(tls_root, at_most=_MAX_PEM).decode("latin-1")
    client = _client(root)
    url = (issuer or "").rstrip("/")
    if keys is not None:
        return _Verifier(url, key_source(keys), client)
    try:
        return _Verifier(url, FetchedKeys(f"{url}/.well-known/jwks.json", client=client), client)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--issuer") from exc


def _client(root: str | None) -> httpx2.Client:
    import httpx2  # noqa: PLC0415 - heavy

    try:
        context = ssl.create_default_context(cadata=root)
    except ssl.SSLError as exc:
        raise MalformedError(f"the TLS root cannot be used: {exc.reason}") from exc
    return httpx2.Client(verify=context, timeout=10.0, trust_env=False)


def _read_grant(text: str) -> str:
    """Return a grant given as itself, as a file that holds it, or as "-" for standard input."""
    if _JWS.fullmatch(text):
        return text
    if text == "-":
        with click.open_file(text, "rb") as file:
            data: bytes = file.read(MAX_GRANT + 2)
    else:
        data = read_file(Path(text), at_most=MAX_GRANT + 2)
    grant = data.decode("latin-1").strip()
    with naming("--grant"):
        parse_grant(grant)
    return grant
