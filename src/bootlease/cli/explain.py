"""``bootlease explain``: why a decision came out as it did, what changed, and what to do."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.trust_options import SourceOptions, with_source
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootlease.explain import Explained, Explanation, RecordedBoot

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

save_option = click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for event log, quoted values and IMA entries of this boot, and the nearest"
    " reference: what `bootlease reference` learns from and compares with.",
)
timeline_option = click.option(
    "--timeline", is_flag=True, help="Print every event, and all that is cut short otherwise."
)


@click.command()
@click.argument("decision")
@with_source()
@save_option
@timeline_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    source: SourceOptions,
    decision: str,
    *,
    save: Path | None,
    timeline: bool,
    as_json: bool,
) -> int:
    """Say why DECISION came out as it did, what changed since the last good boot, and what to do.

    DECISION is the digest of a recorded decision, or a node's id for its latest one. It is made
    again here from what was recorded, with --url too; nobody's word is taken for it. Exits with 0
    for a grant and with 1 for a refusal, as the decision did; with 2 if none is recorded.
    """
    if _DIGEST.fullmatch(decision) is None:
        raise click.UsageError(
            f"{decision!r:.80} is neither a decision's digest nor a node's id (64 hex digits)"
        )
    folder = None if save is None else str(save)
    if source.data is not None:
        explained = _from_folder(bytes.fromhex(decision), source.data, folder)
    else:
        path = f"/v1/admin/decisions/{decision}/pieces"
        pieces = source.admin().get(path, "decision", "pieces")
        reach = ("--url", source.url or "")
        explained = _from_pieces(pieces["decision"], pieces["pieces"], reach, folder)
    if save is not None and explained.boot is not None:
        save_boot(explained.boot, save)
    print_explanation(explained.explanation, whole=timeline, as_json=as_json)
    return ExitCode.ACCEPTED if explained.explanation.accepted else ExitCode.REFUSED


def _from_folder(name: bytes, data: Path, save: str | None) -> Explained:
    from bootlease.explain import LookingBack, explain_decision  # noqa: PLC0415 - heavy
    from bootlease.store.auditreader import audit_reader  # noqa: PLC0415 - heavy
    from bootlease.verifier.code import code_identity  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import DATABASE, read_settings  # noqa: PLC0415 - heavy

    read_settings(data)
    with audit_reader(data / DATABASE) as reader, reader.snapshot():
        digest = reader.latest_of(name) or name
        if reader.decision(digest) is None:
            # No refusal: to scripts that would be a decision that refused.
            raise MalformedError("No decision of this digest is recorded.")
        return explain_decision(
            digest,
            LookingBack(reader),
            ("--data", str(data)),
            saved=save,
            code=code_identity(),
        )


def _from_pieces(
    decision: object, pieces: object, reach: tuple[str, ...], save: str | None
) -> Explained:
    from bootlease.errors import TransportError  # noqa: PLC0415 - heavy
    from bootlease.explain import Pieces, explain_decision  # noqa: PLC0415 - heavy
    from bootlease.verifier.code import code_identity  # noqa: PLC0415 - heavy

    try:
        digest = bytes.fromhex(str(decision))
        source = Pieces(base64.b64decode(str(pieces), validate=True))
    except ValueError as exc:
        raise TransportError(f"{reach[1]} did not answer as a bootlease verifier") from exc
    return explain_decision(digest, source, reach, saved=save, code=code_identity())


def print_explanation(explanation: Explanation, *, whole: bool, as_json: bool) -> None:
    """Print an explanation as text, or as JSON."""
    from bootlease.cli.explain_text import explanation_lines  # noqa: PLC0415 - heavy

    if as_json:
        click.echo(json.dumps(explanation.as_dict(), indent=2))
        return
    for line in explanation_lines(explanation, whole=whole):
        click.echo(line)


def save_boot(boot: RecordedBoot, folder: Path) -> None:
    """Write log, quoted values and IMA entries into a folder, which is made if it is missing.

    Raises:
        click.BadParameter: One of the files is there already.
    """
    files = _files(boot)
    for path in (folder / name for name in files):
        if path.exists():
            raise click.BadParameter(f"{path} exists; it is left as it is.", param_hint="'--save'")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)
    click.echo(f"{folder}: {', '.join(files)}", err=True)


def _files(boot: RecordedBoot) -> Mapping[str, bytes]:
    from bootlease.explain import (  # noqa: PLC0415 - heavy
        EVENT_LOG,
        IMA_LIST,
        PCRS,
        REFERENCE,
        values_file,
    )
    from bootlease.reference import serialise_reference  # noqa: PLC0415 - heavy

    files = {PCRS: json.dumps(values_file(boot.quoted), indent=1).encode() + b"\n"}
    if boot.log:
        files[EVENT_LOG] = boot.log
    if boot.ima:
        files[IMA_LIST] = boot.ima
    if boot.reference is not None:
        files[REFERENCE] = serialise_reference(boot.reference)
    return files
