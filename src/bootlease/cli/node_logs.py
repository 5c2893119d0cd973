"""Which logs a node presents: the kernel's, or files named by hand."""

from __future__ import annotations

from pathlib import Path

import click

from bootlease.cli.files import naming
from bootlease.errors import MalformedError
from bootlease.eventlog import parse_event_log
from bootlease.node.files import read_bounded
from bootlease.node.ima import IMAListFile, IMASource
from bootlease.node.logs import MAX_EVENT_LOG, EventLogFile, EventLogSource, kernel_log_of


def check_log(log: EventLogFile) -> None:
    """See that a log named by hand is one; whether it is a good one is the verifier's business."""
    data = read_bounded(log.path, "event log", at_most=MAX_EVENT_LOG)
    if not data:
        raise MalformedError(f"--log {log.path} is empty")
    with naming(f"--log {log.path} is not a TCG event log"):
        parse_event_log(data)


def log_source(ctx: click.Context, tcti: str, path: Path | None) -> EventLogSource:
    """Return where the event log comes from.

    Args:
        ctx: For errors.
        tcti: How the TPM is reached.
        path: A file named by hand.

    Raises:
        click.UsageError: The kernel has no log of this TPM, and no file was named.
    """
    if path is not None:
        return EventLogFile(path)
    if not tcti.startswith("device"):
        raise click.UsageError(
            "--log FILE is needed, or log under [node] of a configuration: the kernel keeps no"
            f" event log for the TPM at {tcti}",
            ctx,
        )
    return kernel_log_of(tcti)


def ima_source(tcti: str, path: Path | None) -> IMASource | None:
    """Return where the IMA list comes from; None where no kernel extends this TPM.

    Args:
        tcti: How the TPM is reached.
        path: A file named by hand.
    """
    if path is not None:
        return IMAListFile(path)
    # The kernel extends its own TPM: the list says nothing of another.
    return IMAListFile() if tcti.startswith("device") else None
