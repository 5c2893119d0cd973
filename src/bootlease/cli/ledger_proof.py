"""``bootlease ledger proof``: one file with everything about one lease."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli.new_file import demand_new
from bootlease.cli.quantities import counted
from bootlease.cli.trust_options import (
    SourceOptions,
    TrustOptions,
    existing_file,
    read_witnesses,
    with_source,
    witness_option,
)
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.audit import LeaseToken, ProofTrust
    from bootlease.cli.admin_client import AdminClient
    from bootlease.ledger import NoteKey
    from bootlease.ledger.prooffile import ProofFile

_LEASE_ID: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The lease that a proof is wanted of.

    Attributes:
        lease_id: 16 bytes.
        decision: Digest of its decision, if its token said so.
        token: The token, if it was given.
    """

    lease_id: bytes
    decision: bytes | None = None
    token: LeaseToken | None = None


@click.command()
@click.argument("lease")
@with_source(url_note="; LEASE is then an id")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    callback=demand_new,
    help="File to write.",
)
@click.option("--receipt", type=existing_file, help="File with the receipt beside a JWT.")
@click.option(
    "--trust",
    "bundle",
    type=existing_file,
    help="With --data of an import, which has no keys: the join bundle.",
)
@witness_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def proof(
    source: SourceOptions,
    lease: str,
    *,
    out: Path,
    receipt: Path | None,
    bundle: Path | None,
    witnesses: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the proof of LEASE: a lease's id, or its token (itself, a file, or "-").

    The token stands in the proof as it was given to the node, or as LEASE gives it. Cosignatures
    stay in where --witness gives the key. With --data, the proof is checked before it is written,
    with the folder's keys, or those of --trust where it has none.
    """
    from bootlease.ledger.prooffile import parse_proof  # noqa: PLC0415 - heavy

    if source.data is not None:
        wanted = _wanted(lease, receipt)
        trust = _folder_trust(source.data) if bundle is None else _bundle_trust(bundle)
        encoded = _from_folder(wanted, source.data, trust, read_witnesses(witnesses))
    else:
        if _LEASE_ID.fullmatch(lease) is None or receipt is not None or witnesses or bundle:
            raise click.UsageError(
                "with --url, LEASE is an id, without --receipt, --trust and --witness"
            )
        encoded = _from_verifier(lease.lower(), source.admin())
    written = parse_proof(encoded)
    with out.open("xb") as file:
        file.write(encoded)
    _print(written, len(encoded), out, as_json=as_json)


def _print(written: ProofFile, size: int, out: Path, *, as_json: bool) -> None:
    members = {
        "file": str(out),
        "bytes": size,
        "decisions": len(written.decisions),
        "token": written.token is not None,
        "witnesses": len(written.witnesses),
    }
    if as_json:
        click.echo(json.dumps(members, indent=2))
        return
    with_token = "with the token" if members["token"] else "without a token"
    click.echo(
        f"{out}: {size} bytes, {counted(len(written.decisions), 'decision')},"
        f" {with_token}, {counted(len(written.witnesses), 'witness', 'witnesses')}"
    )


def _from_verifier(lease: str, admin: AdminClient) -> bytes:
    from bootlease.errors import TransportError  # noqa: PLC0415 - heavy

    answer = admin.get(f"/v1/admin/leases/{lease}/proof", "proof")["proof"]
    try:
        return base64.b64decode(answer, validate=True)
    except (TypeError, ValueError) as exc:
        raise TransportError(f"{admin.url} did not answer as a bootlease verifier") from exc


def _folder_trust(data: Path) -> ProofTrust:
    from bootlease.audit import ProofTrust  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import load_keys, read_settings  # noqa: PLC0415 - heavy
    from bootlease.verifier.keyfolder import token_keys_of  # noqa: PLC0415 - heavy

    issuer = read_settings(data).issuer
    return ProofTrust(load_keys(data, issuer).ledger.key, token_keys_of(data, issuer).all())


def _bundle_trust(bundle: Path) -> ProofTrust:
    return TrustOptions(bundle, None, None, (), None, None).load()


def _from_folder(
    wanted: _Wanted, data: Path, trust: ProofTrust, witnesses: tuple[NoteKey, ...]
) -> bytes:
    from bootlease.audit import verify_proof  # noqa: PLC0415 - heavy
    from bootlease.ledger.prooffile import parse_proof  # noqa: PLC0415 - heavy
    from bootlease.store.auditreader import audit_reader, lease_proof  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import DATABASE, read_settings  # noqa: PLC0415 - heavy

    read_settings(data)
    with audit_reader(data / DATABASE) as reader:
        built = lease_proof(
            reader,
            wanted.lease_id,
            decision=wanted.decision,
            token=wanted.token,
            witnesses=witnesses,
        )
    if built is None:
        raise MalformedError("No recorded decision granted this lease.")
    encoded = built.encode()
    verify_proof(parse_proof(encoded), trust)
    return encoded


def _wanted(lease: str, receipt: Path | None) -> _Wanted:
    from bootlease.audit import LeaseToken  # noqa: PLC0415 - heavy
    from bootlease.cli.files import read_file  # noqa: PLC0415 - heavy
    from bootlease.cli.token_input import read_token  # noqa: PLC0415 - heavy
    from bootlease.evidence.challenge import MAX_RECEIPT  # noqa: PLC0415 - heavy
    from bootlease.token import parse_token  # noqa: PLC0415 - heavy
    from bootlease.token.verify import unwrap  # noqa: PLC0415 - heavy

    if _LEASE_ID.fullmatch(lease):
        if receipt is not None:
            raise click.UsageError("--receipt goes with the JWT that it is for, not with an id")
        return _Wanted(bytes.fromhex(lease))
    try:
        raw = read_token(lease)
        _, claims = parse_token(raw)
    except MalformedError as exc:
        raise MalformedError(f"LEASE is no id (32 hex digits), and no token: {exc}") from exc
    form = unwrap(raw)
    token = form.encode("ascii") if isinstance(form, str) else form
    beside = None if receipt is None else read_file(receipt, at_most=MAX_RECEIPT)
    return _Wanted(claims.lease_id, claims.decision, LeaseToken(token, beside))
