"""``bootlease token``: reading execution tokens, and checking them as a relying party does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.relyingparty import FetchedKeys, FileKeys, KeySource, TokenChecker
from bootlease.token import TokenFormat, base64url, parse_token, verify_proof
from bootlease.token.ear import meaning, tier_of
from bootlease.token.scope import is_scope_name
from bootlease.token.verified import MAX_TOKEN_BYTES
from bootlease.token.verify import unwrap

if TYPE_CHECKING:
    from bootlease.token import ExecutionClaims

_MAX_INPUT: Final = 2 * MAX_TOKEN_BYTES
_MAX_PATH: Final = 1024
_SHORTEST_TOKEN: Final = 200
"""Characters; a signature and the mandatory claims alone need more. Shorter text is a file name
with a typo."""
_TWO_MINUTES: Final = 120
_DIGEST_PREFIX: Final = 16

_token = click.argument("token")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(name="token")
def token() -> None:
    """Show and verify execution tokens (CWT or JWT)."""


@token.command()
@_token
@_json
def show(token: str, *, as_json: bool) -> None:
    """Print what TOKEN says: the token itself, a file that holds it, or "-" for standard input.

    Nothing is verified.
    """
    form, claims = parse_token(_read(token))
    if as_json:
        click.echo(_as_json(form, claims, verified=False))
        return
    click.echo("SIGNATURE NOT CHECKED: anybody can write what follows.")
    _print(form, claims, time.time())


@token.command()
@_token
@click.option("--keys", required=True, help="File or URL of a JWK Set, COSE key set or PEM key.")
@click.option("--issuer", required=True, help="The verifier's URL.")
@click.option("--audience", required=True, help="Whom the token must be for.")
@click.option("--scope", help="A scope name that the token must cover.")
@click.option("--proof", help="The proof of possession (the DPoP header).")
@click.option("--method", help="The request's method, with --proof.")
@click.option("--url", help="The request's URL, with --proof.")
@_json
def verify(
    token: str,
    *,
    keys: str,
    issuer: str,
    audience: str,
    scope: str | None,
    proof: str | None,
    method: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Check that TOKEN counts now: signature, profile, issuer, audience, time and scope.

    Without --proof it is not checked who presents the token. TOKEN is the token itself, a file
    that holds it, or "-" for standard input.
    """
    if (proof is None) != (method is None) or (proof is None) != (url is None):
        raise click.UsageError("--proof, --method and --url go together")
    if scope is not None and not is_scope_name(scope):
        raise click.UsageError(f"--scope: {scope!r} is not a scope name")
    raw = _read(token)
    try:
        checker = TokenChecker(_key_source(keys), issuer=issuer, audience=audience)
        verified = checker.check(raw, scope=scope)
        if proof is not None and method is not None and url is not None:
            verify_proof(
                proof,
                confirmation=verified.claims.confirmation,
                htm=method,
                htu=url,
                access_token=_as_text(raw),
                now=time.time(),
            )
    except VerificationError as exc:
        if as_json:
            findings = [finding.as_dict() for finding in exc.findings]
            click.echo(json.dumps({"verdict": "refused", "findings": findings}, indent=2))
        raise
    if as_json:
        click.echo(
            _as_json(verified.format, verified.claims, verified=True, proven=proof is not None)
        )
        return
    click.echo("accepted")
    _print(verified.format, verified.claims, time.time())
    if proof is None:
        click.echo("possession   not checked: no --proof was given")
    else:
        click.echo("possession   proven with the confirmation key")


def _read(text: str) -> bytes:
    path = Path(text)
    try:
        if text == "-" or (len(text) <= _MAX_PATH and path.is_file()):
            with click.open_file(text, "rb") as file:
                data: bytes = file.read(_MAX_INPUT + 1)
        elif len(text) < _SHORTEST_TOKEN:
            raise MalformedError(f"no file {text!r}, and too short for a token")
        else:
            data = text.encode()
    except OSError as exc:
        raise TransportError(f"cannot read {text}: {exc.strerror}") from exc
    except (UnicodeEncodeError, ValueError) as exc:
        raise MalformedError("neither a token nor a file") from exc
    if len(data) > _MAX_INPUT:
        raise MalformedError(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    # A CWT is binary, and may well end in a byte that looks like white space.
    return data if data[:1] and data[0] > 0x7F else data.strip()  # noqa: PLR2004 - not ASCII


def _as_text(raw: bytes) -> str:
    form = unwrap(raw)
    return form if isinstance(form, str) else base64url.encode(form)


def _key_source(text: str) -> KeySource:
    if "://" in text:
        try:
            return FetchedKeys(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--keys") from exc
    return FileKeys(Path(text))


def _as_json(
    form: TokenFormat, claims: ExecutionClaims, *, verified: bool, proven: bool = False
) -> str:
    document: dict[str, Any] = {
        "verdict": "accepted" if verified else "not-checked",
        "possession": "proven" if proven else "not-checked",
        "format": form.value,
        "digest": claims.digest.hex(),
        "claims": claims.to_jwt(),
    }
    return json.dumps(document, indent=2)


def _print(form: TokenFormat, claims: ExecutionClaims, now: float) -> None:
    lineage, boot, policy = claims.lineage, claims.boot, claims.policy
    left = int(claims.expires_at - now)
    until = f"{_span(left)} from now" if left >= 0 else f"ended {_span(-left)} ago"
    place = f"renewal {lineage.seq}" if lineage.seq else "first lease"
    rows = [
        ("token", f"{form.value.upper()}, lease {claims.lease_id.hex()}"),
        ("node", claims.subject),
        ("issued by", f"{claims.issuer} ({claims.verifier.build})"),
        ("for", claims.audience),
        ("scope", " ".join(claims.scope)),
        ("until", f"{_utc(claims.expires_at)} ({until})"),
        ("lineage", f"{place} of {lineage.root.hex()[:_DIGEST_PREFIX]}"),
        ("boot", f"TPM reset {boot.reset_count}, restart {boot.restart_count}"),
        ("reference", f"{claims.reference.name} {claims.reference.digest.hex()[:_DIGEST_PREFIX]}"),
        ("policy", f"{policy.id}, epoch {policy.epoch}, {policy.digest.hex()[:_DIGEST_PREFIX]}"),
        ("decision", claims.decision.hex()),
        ("key", f"{claims.confirmation.kind.value}, {_protection(claims)}"),
        ("appraisal", claims.status.label),
    ]
    for label, value in claims.vector.to_jwt().items():
        rows.append(("", f"{label} {value} ({tier_of(value).label}): {meaning(label, value)}"))
    for name, text in rows:
        click.echo(f"{name:12} {text}")


def _protection(claims: ExecutionClaims) -> str:
    if claims.protection.label == "tpm":
        return "resident in the node's TPM"
    return "held by a process, ends with it"


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < _TWO_MINUTES else f"{seconds // 60} min"


def _utc(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"
