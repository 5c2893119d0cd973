"""``bootlease verifier backup | restore | prune`` and ``bootlease ledger export | import``.

What keeps a verifier's data, and hands it on. Backup, prune and export may run beside a verifier.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bootlease.cli.files import naming
from bootlease.cli.new_file import demand_new
from bootlease.cli.quantities import FiniteRange, counted
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.store import SQLStore

_DAY: Final = 86_400
_MOST_DAYS: Final = 36_500
_SQLITE: Final = b"SQLite format 3\0"
_folder = click.Path(path_type=Path, exists=True, file_okay=False)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_new = click.Path(path_type=Path)

_data = click.option("--data", required=True, type=_folder, help="The verifier's folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_output = click.option(
    "-o",
    "--output",
    required=True,
    type=_new,
    callback=demand_new,
    help="File to write, a new one.",
)


@click.command()
@_data
@_output
@_json
def backup(*, data: Path, output: Path, as_json: bool) -> None:
    """Copy the database, while the verifier runs, to a new file of mode 0600.

    The copy is of one moment and is checked before it gets its name. It holds no signing key:
    keep verifier.json, signing-key.pem and ledger-key.pem of the folder somewhere else.
    """
    with _opened(data) as store:
        asyncio.run(store.back_up(output))
    _report({"backup": str(output)}, f"backed up {data} to {output}", as_json=as_json)


@click.command()
@click.argument("file", type=_file)
@_data
@_json
def restore(file: Path, *, data: Path, as_json: bool) -> None:
    """Make the database of a verifier's folder from the backup FILE.

    The folder has its verifier.json and keys, and no verifier.db (move a damaged one away).
    Challenges, answers and lineages of the backup are void: every node begins anew with full
    evidence. The ledger goes on in another shard, since leaves after the backup are lost.
    """
    from bootlease.cli.utc import utc  # noqa: PLC0415 - what help does without
    from bootlease.ports import StoreUnavailableError  # noqa: PLC0415 - as above
    from bootlease.store import restore as restore_backup  # noqa: PLC0415 - as above
    from bootlease.verifier.datadir import DATABASE, exclusive, load_keys, read_settings  # noqa: PLC0415 - as above
    from bootlease.verifier.service import SystemClock  # noqa: PLC0415 - as above

    with file.open("rb") as opened:
        if opened.read(len(_SQLITE)) != _SQLITE:
            raise MalformedError(f"{file} is no backup: it is not an SQLite database")
    settings = read_settings(data, restoring=True)
    keys, now = load_keys(data, settings.issuer), SystemClock().now()
    with exclusive(data):
        try:
            restore_backup(
                file,
                data / DATABASE,
                keys.ledger,
                keys.ledger.key.name,
                now=now,
                author="cli:restore",
            )
        except StoreUnavailableError as exc:
            raise StoreUnavailableError(f"{file} was not restored: {exc}") from exc
    _report(
        {"data": str(data), "restored_at": now},
        f"restored {data} from {file} at {utc(now)}",
        as_json=as_json,
    )


@click.command()
@_data
@click.option(
    "--older-than",
    "days",
    required=True,
    type=FiniteRange(0, _MOST_DAYS),
    help="Days for which evidence is kept at least.",
)
@_json
def prune(*, data: Path, days: float, as_json: bool) -> None:
    """Delete old evidence and logs; decisions and the ledger stay for ever.

    What a younger decision, or a lineage that has not ended, rests on is kept. Without its evidence
    a decision cannot be made again, and `bootlease ledger proof` writes nothing of its leases:
    write the proofs that you need before. The ledger records what was deleted.
    """
    from bootlease.verifier.service import SystemClock  # noqa: PLC0415 - what help does without

    now = SystemClock().now()
    with _opened(data) as store:
        pruned = asyncio.run(
            store.prune(before=int(now - days * _DAY), now=now, author="cli:prune")
        )
    _report(
        {"documents": pruned.documents, "logs": pruned.logs},
        f"deleted {counted(pruned.documents, 'evidence document')} and"
        f" {counted(pruned.logs, 'log')}",
        as_json=as_json,
    )


@click.command()
@_data
@_output
@_json
def export(*, data: Path, output: Path, as_json: bool) -> None:
    """Write everything that is append-only to one file, for an auditor.

    Decisions, signatures of tokens, evidence, logs, policies, references, roots, enrolments and
    the ledger; no key, no credential. The verifier may be running.
    """
    with _opened(data) as store:
        rows = asyncio.run(store.export(output))
    _report(
        {"export": str(output), "rows": rows}, f"wrote {rows} rows to {output}", as_json=as_json
    )


@click.command(name="import")
@click.argument("file", type=_file)
@click.option("--data", required=True, type=_new, help="Folder to make.")
@click.option("--issuer", required=True, help="The verifier's URL, as its tokens name it.")
@_json
def import_(file: Path, *, data: Path, issuer: str, as_json: bool) -> None:
    """Make a folder of the export FILE, to audit it: it cannot be served, for it has no keys.

    Every digest and every signed root is computed again. `bootlease replay --all --data DIR
    --ledger-key VKEY --token-keys FILE` checks the signatures and makes every decision again.
    """
    from bootlease.store import import_into  # noqa: PLC0415 - what help does without
    from bootlease.verifier.datadir import (  # noqa: PLC0415 - as above
        DATABASE,
        Settings,
        check_issuer,
        make_folder,
        write_settings,
    )

    settings = Settings(check_issuer(issuer))
    make_folder(data)
    with ExitStack() as unless_made:
        unless_made.callback(data.rmdir)
        with naming(f"{file} is no whole export"):
            rows = import_into(data / DATABASE, file)
        unless_made.pop_all()
    write_settings(data, settings)
    _report({"data": str(data), "rows": rows}, f"read {rows} rows into {data}", as_json=as_json)


@contextmanager
def _opened(data: Path) -> Iterator[SQLStore]:
    """Lend the store of a folder, whose verifier may be running."""
    from bootlease.store import SQLStore  # noqa: PLC0415 - what help does without
    from bootlease.verifier.datadir import (  # noqa: PLC0415 - as above
        DATABASE,
        load_keys,
        read_settings,
    )

    settings = read_settings(data)
    keys = load_keys(data, settings.issuer)
    store = SQLStore.open(data / DATABASE, keys.ledger, keys.ledger.key.name)
    try:
        yield store
    finally:
        store.close()


def _report(members: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(members))
    else:
        click.echo(f"bootlease: {text}", err=True)
