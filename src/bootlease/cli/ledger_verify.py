"""``bootlease ledger verify``: check a proof file with trusted keys alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootlease.cli.quantities import counted
from bootlease.cli.trust_options import TrustOptions, existing_file, with_trust
from bootlease.cli.utc import utc
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Finding

if TYPE_CHECKING:
    from bootlease.audit import ProofReport


@click.command()
@click.argument("file", type=existing_file)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_trust
def verify(trust: TrustOptions, file: Path, *, as_json: bool) -> None:
    """Check the proof in FILE: no network, no database, only the keys that you trust.

    Every decision in it is made again. Prints what the proof proves and what it does not.
    """
    from bootlease.audit import verify_proof  # noqa: PLC0415 - heavy
    from bootlease.cli.files import read_file  # noqa: PLC0415 - heavy
    from bootlease.ledger.prooffile import MAX_PROOF, parse_proof  # noqa: PLC0415 - heavy
    from bootlease.verifier.code import code_identity  # noqa: PLC0415 - heavy

    trusted = trust.load()
    data = read_file(file, at_most=MAX_PROOF)
    try:
        report = verify_proof(parse_proof(data), trusted, code=code_identity())
    except MalformedError as exc:
        if as_json:
            found = Finding("proof.malformed", f"The proof is malformed: {exc}.")
            _print_json("malformed", {"findings": [found.as_dict()]})
        raise MalformedError(f"{file} is not a whole proof file: {exc}") from exc
    except VerificationError as exc:
        if as_json:
            findings = [finding.as_dict() for finding in exc.findings]
            _print_json("refused", {"findings": findings})
        raise
    _print(report, as_json=as_json)


def _print_json(verdict: str, members: dict[str, Any]) -> None:
    click.echo(json.dumps({"verdict": verdict, **members}, indent=2, ensure_ascii=False))


def _print(report: ProofReport, *, as_json: bool) -> None:
    from bootlease.audit.statements import proven, unproven  # noqa: PLC0415 - heavy

    sentences = {"proves": [*proven(report)], "does_not_prove": [*unproven(report)]}
    if as_json:
        _print_json("accepted", report.as_dict() | sentences)
        return
    claims = report.claims
    rows = [
        ("lease", claims.lease_id.hex()),
        ("node", claims.subject),
        ("issued by", claims.issuer),
        ("for", claims.audience),
        ("scope", " ".join(claims.scope)),
        ("from, until", f"{utc(claims.issued_at)}, {utc(claims.expires_at)}"),
        ("lineage", f"{counted(report.decisions, 'decision')}, begun {utc(report.begun_at)}"),
        ("decided by", f"bootlease {report.code.version}, {report.code.digest.hex()}"),
    ]
    click.echo("accepted")
    for name, text in rows:
        click.echo(f"{name:12} {text}")
    click.echo("\nThis proves:")
    for sentence in sentences["proves"]:
        click.echo(f"- {sentence}")
    click.echo("\nIt does not prove:")
    for sentence in sentences["does_not_prove"]:
        click.echo(f"- {sentence}")
    for note in report.notes:
        click.echo(f"\n{note}")
