"""The event log of a boot that a verifier has decided about, from its folder."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from bootlease.errors import VerificationError
from bootlease.model import Finding

if TYPE_CHECKING:
    from bootlease.store.auditreader import AuditReader

_META: Final = "bootlease.cli.recorded_log"
_NAME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE: Final = click.File("rb", lazy=True)


class _Named(io.BytesIO):
    """A recorded log with the name that it was asked by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class FileOrRecorded(click.ParamType[IO[bytes]]):
    """A file, or, beside ``data_option``, a decision or node that stands for its event log."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[bytes]:
        """Open the file, or read the log."""
        text = str(value)
        folder: Path | None = None if ctx is None else ctx.meta.get(_META)
        if folder is None or _NAME.fullmatch(text) is None:
            return _FILE.convert(text, param, ctx)
        return _Named(recorded_log(bytes.fromhex(text), folder), text)


def _keep(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    ctx.meta[_META] = value


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_keep,
    help="A verifier's folder: the digest of a decision, or a node's id for its latest one, then"
    " stands for the event log of that boot.",
)


def recorded_log(name: bytes, data: Path) -> bytes:
    """Return the event log that a decision, or a node's latest one, is about.

    Args:
        name: Digest of the decision, or node id.
        data: The verifier's folder; it may be running.

    Raises:
        VerificationError: There is no such decision, or its log is not kept any more.
        StoreUnavailableError: The folder cannot be read.
    """
    from bootlease.store.auditreader import audit_reader  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import DATABASE, read_settings  # noqa: PLC0415 - heavy

    read_settings(data)
    with audit_reader(data / DATABASE) as reader, reader.snapshot():
        return _log(name, reader)


def _log(name: bytes, reader: AuditReader) -> bytes:
    from bootlease.evidence import TCG_LOG, parse_evidence  # noqa: PLC0415 - heavy
    from bootlease.explain.recorded import recorded_decision  # noqa: PLC0415 - heavy

    record, _ = recorded_decision(reader.latest_of(name) or name, reader)
    document = reader.evidence(record.evidence)
    digest = None if document is None else parse_evidence(document).binding.logs.get(TCG_LOG)
    log = None if digest is None else reader.log(digest)
    if log is None or hashlib.sha256(log).digest() != digest:
        raise VerificationError(
            Finding(
                "replay.input.missing",
                "The event log of this decision is not kept any more, or was altered.",
                seen=record.digest.hex(),
            )
        )
    return log
