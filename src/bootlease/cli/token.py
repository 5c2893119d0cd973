"""``bootlease token``: reading execution tokens, and checking them as a relying party does."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.quantities import counted
from bootlease.cli.token_delegation import delegate, exchange
from bootlease.cli.token_get import get
from bootlease.cli.token_input import (
    RequestURL,
    as_text,
    continuity_source,
    key_source,
    read_signer,
    read_token,
)
from bootlease.cli.utc import utc
from bootlease.errors import MalformedError, VerificationError
from bootlease.ledger import parse_receipt
from bootlease.model import Finding
from bootlease.relyingparty import TokenChecker
from bootlease.token import (
    KeyProtection,
    Tier,
    TokenFormat,
    base64url,
    make_proof,
    parse_token,
    verify_proof,
)
from bootlease.token.ear import TIERS_BY_LABEL, meaning, tier_of
from bootlease.token.grants import MAX_DEPTH
from bootlease.token.receipts import receipts_of
from bootlease.token.scope import is_scope_name
from bootlease.token.verify import DEFAULT_LEEWAY, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.token import ExecutionClaims

_TWO_MINUTES: Final = 120
_DIGEST_PREFIX: Final = 16
_JTI_BYTES: Final = 16
_TIERS: Final = (Tier.AFFIRMING, Tier.WARNING, Tier.NONE)

_token = click.argument("token")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _MalformedPartError(MalformedError):
    """One of the inputs has not its form."""

    def __init__(self, part: str, cause: MalformedError, option: str | None) -> None:
        super().__init__(f"{option}: {cause}" if option else str(cause))
        self.finding = Finding(f"{part}.malformed", f"The {part} is malformed: {cause}.")


@contextlib.contextmanager
def _part(part: str, option: str | None = None) -> Iterator[None]:
    try:
        yield
    except MalformedError as exc:
        raise _MalformedPartError(part, exc, option) from exc


@click.group(name="token")
def token() -> None:
    """Show, verify and present execution tokens (CWT or JWT)."""


token.add_command(delegate)
token.add_command(exchange)
token.add_command(get)


@token.command()
@_token
@_json
def show(token: str, *, as_json: bool) -> None:
    """Print what TOKEN says, unverified.

    TOKEN is the token itself, a file that holds it, or "-" for standard input.
    """
    raw = read_token(token)
    form, claims = parse_token(raw)
    if as_json:
        click.echo(_as_json(form, claims, None))
        return
    click.echo("SIGNATURE NOT CHECKED: anybody can write what follows.")
    _print(form, claims, time.time())
    _print_receipts(raw)


@token.command()
@_token
@click.option(
    "--keys",
    required=True,
    help="File or URL of a JWK Set, COSE key set or PEM key; or a file with a join bundle.",
)
@click.option("--issuer", required=True, help="The verifier's URL.")
@click.option("--audience", required=True, help="Whom the token must be for.")
@click.option("--scope", help="A scope name that the token must cover.")
@click.option("--proof", help="The proof of possession (the DPoP header).")
@click.option("--method", help="The request's method, with --proof.")
@click.option("--url", type=RequestURL(), help="The request's URL, with --proof.")
@click.option("--continuity", help="URL of the verifier's continuity statement (/v1/continuity).")
@click.option(
    "--max-depth",
    type=click.IntRange(0, MAX_DEPTH),
    default=0,
    show_default=True,
    help="How often the lease may have been delegated.",
)
@click.option(
    "--min-tier",
    type=click.Choice([tier.label for tier in _TIERS]),
    default=Tier.AFFIRMING.label,
    show_default=True,
    help="The worst appraisal of the node that is enough.",
)
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
    continuity: str | None,
    max_depth: int,
    min_tier: str,
    as_json: bool,
) -> None:
    """Check that TOKEN counts now.

    Checks signature, profile, issuer, audience, time, scope, appraisal and every grant of a
    delegated lease. Without --proof it is not checked who presents the token, without
    --continuity not whether it was revoked; the answer says so. TOKEN is the token itself, a file
    that holds it, or "-" for standard input. With --json a report stands on standard output
    whether the token is accepted, refused or malformed.
    """
    if (proof is None) != (method is None) or (proof is None) != (url is None):
        raise click.UsageError("--proof, --method and --url go together")
    if scope is not None and not is_scope_name(scope):
        raise click.UsageError(f"--scope: {scope!r} is not a scope name")
    try:
        with _part("keys", "--keys"):
            source = key_source(keys)
        with _part("token"):
            raw = read_token(token)
            checker = TokenChecker(
                source,
                issuer=issuer,
                audience=audience,
                continuity=continuity_source(continuity, source, issuer),
                max_depth=max_depth,
                min_tier=TIERS_BY_LABEL[min_tier],
            )
            verified = checker.check(raw, scope=scope)
        if proof is not None and method is not None and url is not None:
            with _part("proof", "--proof"):
                verify_proof(
                    proof,
                    confirmation=verified.claims.confirmation,
                    htm=method,
                    htu=url,
                    access_token=as_text(raw),
                    now=time.time(),
                )
    except VerificationError as exc:
        if as_json:
            click.echo(_report("refused", exc.findings))
        raise
    except _MalformedPartError as exc:
        if as_json:
            click.echo(_report("malformed", (exc.finding,)))
        raise
    checked = _Checked(possession=proof is not None, revocation=continuity is not None)
    if as_json:
        click.echo(_as_json(verified.format, verified.claims, checked))
        return
    click.echo("accepted")
    _print(verified.format, verified.claims, time.time(), leeway=DEFAULT_LEEWAY)
    for line in checked.lines():
        click.echo(line)


@token.command(name="proof")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="The confirmation key, PEM: what `bootlease node run --key-file` wrote.",
)
@click.option(
    "--token",
    "token_text",
    required=True,
    help='The token, a file that holds it, or "-": what `bootlease node run --token-file` wrote.',
)
@click.option("--method", required=True, help="The request's method, as in GET.")
@click.option("--url", required=True, type=RequestURL(), help="The request's URL.")
@_json
def proof_command(key: Path, token_text: str, method: str, url: str, *, as_json: bool) -> None:
    """Make the two HTTP headers that present a token.

    They are good for one request, made within a minute. With curl:
    bootlease token proof ... | curl -H @- URL
    """
    raw = read_token(token_text)
    _, claims = parse_token(raw)
    signer = read_signer(key)
    if claims.confirmation != signer.public:
        raise click.UsageError("--key: the token confirms another key")
    text = as_text(raw)
    made = make_proof(
        signer,
        htm=method,
        htu=url,
        iat=int(time.time()),
        jti=secrets.token_urlsafe(_JTI_BYTES),
        access_token=text,
    )
    headers = {"Authorization": f"DPoP {text}", "DPoP": made}
    if as_json:
        click.echo(json.dumps(headers, indent=2))
        return
    for name, value in headers.items():
        click.echo(f"{name}: {value}")


def _report(verdict: str, findings: tuple[Finding, ...]) -> str:
    found = [finding.as_dict() for finding in findings]
    return json.dumps({"verdict": verdict, "findings": found}, indent=2)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was checked of a token besides the token itself."""

    possession: bool
    revocation: bool

    def lines(self) -> tuple[str, str]:
        """Return it for people."""
        return (
            "possession   proven with the confirmation key"
            if self.possession
            else "possession   not checked: no --proof was given",
            "revocation   not revoked, by the verifier's newest statement"
            if self.revocation
            else "revocation   not checked: no --continuity was given",
        )


def _as_json(form: TokenFormat, claims: ExecutionClaims, checked: _Checked | None) -> str:
    document: dict[str, Any] = {
        "verdict": "not-checked" if checked is None else "accepted",
        "possession": "proven" if checked is not None and checked.possession else "not-checked",
        "revocation": "checked" if checked is not None and checked.revocation else "not-checked",
        "format": form.value,
        "digest": claims.digest.hex(),
        "claims": claims.to_jwt(),
    }
    return json.dumps(document, indent=2)


def _until(claims: ExecutionClaims, now: float, leeway: int) -> str:
    left = claims.expires_at - int(now)
    if left >= 0:
        return f"{_span(left)} from now"
    allowed = f", within the {leeway} s allowed for clocks" if leeway else ""
    return f"ended {_span(-left)} ago{allowed}"


def _print(form: TokenFormat, claims: ExecutionClaims, now: float, *, leeway: int = 0) -> None:
    lineage, boot, policy = claims.lineage, claims.boot, claims.policy
    until = _until(claims, now, leeway)
    place = f"renewal {lineage.seq}" if lineage.seq else "first lease"
    rows = [
        ("token", f"{form.value.upper()}, lease {claims.lease_id.hex()}"),
        ("node", claims.subject),
        ("issued by", f"{claims.issuer} ({claims.verifier.build})"),
        ("for", claims.audience),
        ("scope", " ".join(claims.scope)),
        ("until", f"{utc(claims.expires_at)} ({until})"),
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
    rows += _delegation_rows(claims)
    for name, text in rows:
        click.echo(f"{name:12} {text}")


def _delegation_rows(claims: ExecutionClaims) -> list[tuple[str, str]]:
    """Return who passed the lease on to whom; whether they might is for ``verify`` to say."""
    chain = claims.delegation
    if chain is None:
        return []
    held = base64url.encode(chain.root.confirmation.thumbprint())
    rows = [
        ("delegated", f"{counted(chain.depth, 'time')}, from lease {chain.root.lease_id.hex()}"),
        ("", f"held by {held} ({chain.root.status.label})"),
    ]
    return rows + [
        ("", f"to {base64url.encode(link.thumbprint)}: lease {link.lease_id.hex()}")
        for link in chain.links
    ]


def _print_receipts(raw: bytes) -> None:
    # A JWT's receipt stands beside it, in the answer to the agent.
    token = unwrap(raw)
    for encoded in receipts_of(token) if isinstance(token, bytes) else ():
        receipt = parse_receipt(encoded)
        place = f"entry {receipt.index} of {receipt.size} in {receipt.origin}"
        click.echo(f"{'receipt':12} {place}, not checked")


def _protection(claims: ExecutionClaims) -> str:
    if claims.protection is KeyProtection.TPM_EXPIRING:
        return "resident in the node's TPM, which lets it be used under a permit only"
    if claims.protection is KeyProtection.TPM:
        return "resident in the node's TPM"
    return "held by a process, ends with it"


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < _TWO_MINUTES else f"{seconds // 60} min"
