"""``bootlease replay``: make recorded decisions again and compare them byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.quantities import counted
from bootlease.cli.trust_options import (
    existing_file,
    read_token_keys,
    read_vkey,
    read_witnesses,
    witness_option,
)
from bootlease.errors import VerificationError
from bootlease.model import Effect, Finding

if TYPE_CHECKING:
    from bootlease.audit import Replayed
    from bootlease.audit.rows import Difference
    from bootlease.cli.ledger_check import Ground, Outcome

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_WORKERS: Final = 256
_PRUNED: Final = "replay.input.pruned"
_SHOWN: Final = 100
"""Differences in the text; JSON has them all."""


@click.command()
@click.argument("decision", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The verifier's folder; it may be running.",
)
@click.option("--all", "everything", is_flag=True, help="The whole ledger, and all its rows.")
@click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    help="Processes, with --all; by default one for each core.",
)
@click.option(
    "--ledger-key",
    help="With --all: the ledger's key (name+id+base64), or a file with it or a join bundle; by"
    " default the folder's own.",
)
@click.option(
    "--token-keys",
    type=existing_file,
    help="With --all: the keys that sign tokens (JWK Set, COSE key set, PEM key or join bundle); by"
    " default the folder's own.",
)
@witness_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(
    decision: str | None,
    *,
    data: Path | None,
    everything: bool,
    workers: int | None,
    ledger_key: str | None,
    token_keys: Path | None,
    witnesses: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make decisions again from what was recorded, and compare byte for byte.

    DECISION is the digest of a recorded decision, with --data; or a proof file, of which nothing
    else is checked: see `bootlease ledger verify`. With --all, every decision of the verifier in
    --data, grant or refusal, is made again, and every stored row of its ledger is compared with
    what it must be. Exits 1 if anything is different.
    """
    if everything:
        if decision is not None or data is None:
            raise click.UsageError("--all goes with --data and without DECISION")
        keys = _Keys(ledger_key, token_keys, witnesses)
        return _whole(data, workers, keys, as_json=as_json)
    if workers is not None or ledger_key is not None or token_keys is not None or witnesses:
        raise click.UsageError("--workers, --ledger-key, --token-keys and --witness go with --all")
    if decision is None:
        raise click.UsageError("give DECISION, or --all")
    if _DIGEST.fullmatch(decision):
        if data is None:
            raise click.UsageError("the digest of a decision goes with --data")
        return _print_replayed(_one(bytes.fromhex(decision), data), as_json=as_json)
    file = Path(decision)
    if not file.is_file():
        raise click.UsageError(
            f"{decision!r} is neither a decision's digest (64 hex digits) nor a proof file"
        )
    if data is not None:
        raise click.UsageError("a proof file goes without --data: it holds all that is needed")
    return _print_replayed(_proof(file), as_json=as_json)


def _one(digest: bytes, data: Path) -> list[tuple[bytes, Replayed]]:
    from bootlease.audit import replay_decision  # noqa: PLC0415 - heavy
    from bootlease.ledger import DecisionRecord  # noqa: PLC0415 - heavy
    from bootlease.store.auditreader import audit_reader  # noqa: PLC0415 - heavy
    from bootlease.verifier.code import code_identity  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import DATABASE, read_settings  # noqa: PLC0415 - heavy

    read_settings(data)
    with audit_reader(data / DATABASE) as reader, reader.snapshot():
        recorded = reader.decision(digest)
        if recorded is None:
            raise VerificationError(
                Finding("decision.unknown", "No such decision is recorded.", seen=digest.hex())
            )
        record = DecisionRecord.parse(recorded.record)
        replayed = replay_decision(record, recorded.claims, reader, code_identity())
    if record.digest != digest:
        raise VerificationError(
            Finding("stored.record.altered", "The record is not the one of its digest.")
        )
    return [(digest, replayed)]


def _proof(path: Path) -> list[tuple[bytes, Replayed]]:
    from bootlease.audit import Replayer  # noqa: PLC0415 - heavy
    from bootlease.audit.pieces import ProofPieces  # noqa: PLC0415 - heavy
    from bootlease.cli.files import naming, read_file  # noqa: PLC0415 - heavy
    from bootlease.ledger import DecisionRecord  # noqa: PLC0415 - heavy
    from bootlease.ledger.prooffile import MAX_PROOF, parse_proof  # noqa: PLC0415 - heavy
    from bootlease.verifier.code import code_identity  # noqa: PLC0415 - heavy

    data = read_file(path, at_most=MAX_PROOF)
    with naming(f"{path} is not a whole proof file"):
        proof = parse_proof(data)
    replayer = Replayer(ProofPieces(proof), code_identity())
    made = []
    for number, each in enumerate(proof.decisions, 1):
        record = DecisionRecord.parse(each.record)
        claims = None if number == len(proof.decisions) else each.claims
        made.append((record.digest, replayer.replay(record, claims)))
    return made


def _print_replayed(made: Sequence[tuple[bytes, Replayed]], *, as_json: bool) -> int:
    different = not all(replayed.identical for _, replayed in made)
    if as_json:
        decisions = [
            {
                "decision": digest.hex(),
                "identical": replayed.identical,
                "granted": None if replayed.result is None else replayed.result.accepted,
                "findings": [finding.as_dict() for finding in replayed.findings],
            }
            for digest, replayed in made
        ]
        verdict = "different" if different else "identical"
        click.echo(json.dumps({"verdict": verdict, "decisions": decisions}, indent=2))
    else:
        for digest, replayed in made:
            click.echo(f"{digest.hex()} {'identical' if replayed.identical else 'DIFFERENT'}")
            for finding in replayed.findings:
                click.echo(f"  {finding}")
    return ExitCode.REFUSED if different else ExitCode.ACCEPTED


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys as they were given.

    Attributes:
        ledger: The ledger's key, or a file that holds it.
        tokens: File with the token keys.
        witnesses: Keys of witnesses, or files that hold one.
    """

    ledger: str | None
    tokens: Path | None
    witnesses: tuple[str, ...]


def _whole(data: Path, workers: int | None, keys: _Keys, *, as_json: bool) -> int:
    from bootlease.cli.ledger_check import check_ledger  # noqa: PLC0415 - heavy

    ground = _ground(data, keys)
    with _progress() as progress:
        outcome = check_ledger(ground, workers or os.cpu_count() or 1, progress)
    return _print_outcome(outcome, as_json=as_json)


def _ground(data: Path, keys: _Keys) -> Ground:
    from bootlease.cli.ledger_check import Ground  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import (  # noqa: PLC0415 - heavy
        DATABASE,
        LEDGER_KEY,
        SIGNING_KEY,
        load_keys,
        read_settings,
    )
    from bootlease.verifier.keyfolder import token_keys_of  # noqa: PLC0415 - heavy

    settings = read_settings(data)
    # Without its keys a folder cannot be served: it is an import, or as good as one.
    live = any((data / name).exists() for name in (LEDGER_KEY, SIGNING_KEY))
    tokens = None if keys.tokens is None else read_token_keys(keys.tokens)
    ledger = None if keys.ledger is None else read_vkey(keys.ledger, "--ledger-key")
    if ledger is None or (tokens is None and live):
        own = load_keys(data, settings.issuer)
        ledger = ledger or own.ledger.key
        tokens = tokens or token_keys_of(data, settings.issuer).all()
    encoded = None if tokens is None else tokens.to_cose()
    return Ground(data / DATABASE, ledger, read_witnesses(keys.witnesses), encoded, live)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Lend what shows progress on a terminal, and nowhere else."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label="replaying", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _print_outcome(outcome: Outcome, *, as_json: bool) -> int:
    refusing = [each for each in outcome.differences if each.finding.effect is Effect.REFUSES]
    noted = [each.finding for each in outcome.differences if each.finding.effect is Effect.NOTES]
    notes = Counter(finding.id for finding in noted)
    messages = {finding.id: finding.message for finding in noted}
    if as_json:
        members = {
            "verdict": "different" if refusing else "identical",
            "decisions": outcome.decisions,
            "granted": outcome.granted,
            "rows": outcome.rows,
            "differences": [_as_dict(each) for each in refusing],
            "notes": dict(sorted(notes.items())),
        }
        click.echo(json.dumps(members, indent=2, ensure_ascii=False))
    else:
        for each in refusing[:_SHOWN]:
            click.echo(f"{each.where}: {each.finding}")
        if len(refusing) > _SHOWN:
            click.echo(f"and {len(refusing) - _SHOWN} more differences: see --json")
        for name, count in sorted(notes.items()):
            click.echo(f"note, {count} x: {messages[name]} [{name}]")
        verdict = counted(len(refusing), "DIFFERENCE", "DIFFERENCES") if refusing else "identical"
        grants = counted(outcome.granted, "grant")
        refusals = counted(outcome.decisions - outcome.granted, "refusal")
        gone = {each.where for each in outcome.differences if each.finding.id == _PRUNED}
        some = f"{outcome.decisions - len(gone)} of " if gone else ""
        click.echo(
            f"{some}{counted(outcome.decisions, 'decision')} made again ({grants}, {refusals}),"
            f" {outcome.rows} rows: {verdict}"
        )
    return ExitCode.REFUSED if refusing else ExitCode.ACCEPTED


def _as_dict(difference: Difference) -> dict[str, object]:
    return {"where": difference.where, **difference.finding.as_dict()}
