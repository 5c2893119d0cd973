"""``bootlease ledger monitor``: follow a ledger from outside, and alarm.

What fetches is imported when the command runs: help needs none of it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bootlease.cli.quantities import FiniteRange, counted
from bootlease.cli.trust_options import read_vkey
from bootlease.errors import TransportError

if TYPE_CHECKING:
    from bootlease.monitor import MonitorState, Round
    from bootlease.monitor.alarms import AlarmError

_MAX_PAUSE: Final = 300.0
_MAX_EVIDENCE: Final = 64
"""Files of evidence beside one state file: a service that starts anew after each alarm must not
fill the disk, and the first ones are those that matter."""


@click.command()
@click.argument("url")
@click.option(
    "--ledger-key",
    "vkey",
    required=True,
    help="The ledger's key (name+id+base64), or a file with it or a join bundle.",
)
@click.option(
    "--state",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps what was seen; made where there is none.",
)
@click.option(
    "--tls-root",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM root that the verifier's TLS certificate ends in; by default the machine's roots.",
)
@click.option("--once", is_flag=True, help="Look once and exit.")
@click.option(
    "--interval",
    type=FiniteRange(min=0.1, max=86_400),
    default=30,
    show_default=True,
    help="Seconds between looks.",
)
@click.option(
    "--reread",
    type=click.IntRange(min=0),
    default=None,
    help="Bundles of 256 old entries to read again at each look.  [default: 16]",
)
@click.option("--reread-all", is_flag=True, help="Read every old entry again at each look.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each look.")
def monitor(
    *,
    url: str,
    vkey: str,
    path: Path,
    tls_root: Path | None,
    once: bool,
    interval: float,
    reread: int | None,
    reread_all: bool,
    as_json: bool,
) -> None:
    """Follow the ledger at URL, a verifier's URL, and alarm when it lies.

    Reads every published entry, grows the tree itself, and compares it with every checkpoint.
    Alarms, and exits 1, on monitor.fork, monitor.gap, monitor.rewrite, monitor.rollback and
    monitor.signature; the checkpoints that show it are kept beside the state file. A log that
    cannot be read is tried again, or with --once exits 3.
    """
    from bootlease.cli.files import read_file  # noqa: PLC0415 - what help does without
    from bootlease.monitor import LogSource, Monitor, load_state, save_state  # noqa: PLC0415
    from bootlease.monitor.alarms import AlarmError  # noqa: PLC0415
    from bootlease.monitor.following import DEFAULT_REREAD  # noqa: PLC0415

    if reread_all and reread is not None:
        raise click.UsageError("--reread and --reread-all exclude each other")
    again = None if reread_all else DEFAULT_REREAD if reread is None else reread
    key = read_vkey(vkey, "--ledger-key")
    state = load_state(path, str(key))
    root = None if tls_root is None else read_file(tls_root).decode(errors="replace")
    source = LogSource(url, tls_root=root)
    following = Monitor(source, key, reread=again)
    pause = interval
    try:
        while True:
            try:
                seen = following.look(state)
            except AlarmError as alarm:
                _keep_evidence(path, alarm, as_json=as_json)
                raise
            except TransportError as exc:
                if once:
                    raise
                click.echo(f"bootlease: {exc}; looking again in {pause:g} s", err=True)
                time.sleep(pause)
                pause = min(2 * pause, max(interval, _MAX_PAUSE))
                continue
            save_state(path, seen.state)
            state, pause = seen.state, interval
            _tell(seen, as_json=as_json)
            if once:
                return
            time.sleep(interval)
    finally:
        source.close()


def _tell(seen: Round, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**_members(seen.state), "new": seen.new, "reread": seen.reread}))
        return
    for shard in seen.state.shards[-1:]:
        click.echo(
            f"{shard.name}: {counted(shard.tree.size, 'entry', 'entries')},"
            f" root {shard.tree.root().hex()} ({seen.new} new, {seen.reread} read again,"
            f" {counted(len(seen.state.shards), 'shard')})"
        )
    if not seen.state.shards:
        click.echo("the ledger has no shard yet")


def _members(state: MonitorState) -> dict[str, object]:
    return {
        "shards": [
            {
                "name": shard.name,
                "size": shard.tree.size,
                "root": shard.tree.root().hex(),
                "closed": shard.closed,
            }
            for shard in state.shards
        ],
        "findings": [],
    }


def _keep_evidence(path: Path, alarm: AlarmError, *, as_json: bool) -> None:
    """Write what shows the alarm beside the state file: the log may hide it again."""
    number, data = alarm.evidence()
    file = path.with_name(f"{path.name}.alarm-{number}.json")
    kept = sum(one.name.startswith(f"{path.name}.alarm-") for one in path.parent.iterdir())
    if kept >= _MAX_EVIDENCE and not file.exists():
        click.echo(f"bootlease: {kept} files of evidence are kept; this one is not", err=True)
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass  # this very alarm was kept before
    except OSError as exc:
        click.echo(f"bootlease: the evidence could not be kept in {file}: {exc.strerror}", err=True)
    else:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
    if as_json:
        findings = [finding.as_dict() for finding in alarm.findings]
        click.echo(json.dumps({"findings": findings, "evidence": str(file)}))
    click.echo(f"bootlease: keep {file}: it holds the checkpoints that show it", err=True)
