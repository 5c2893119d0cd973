"""``bootlease policy simulate``: who would lose or gain which scope by a policy, and why."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.files import name_of, naming
from bootlease.cli.policy_files import cedar_option, policy_document
from bootlease.cli.quantities import counted

if TYPE_CHECKING:
    from bootlease.audit.simulate import ScopeChange
    from bootlease.cli.simulating import Outcome

_MAX_WORKERS: Final = 256
_SHOWN_NODES: Final = 3
_SHOWN_GROUPS: Final = 50
"""Groups in the text; JSON has them all."""


@click.command()
@click.argument("file", metavar="CANDIDATE", type=click.File("rb", lazy=True))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The verifier's folder; it may be running.",
)
@cedar_option
@click.option(
    "--reference",
    "reference_files",
    type=click.File("rb", lazy=True),
    multiple=True,
    help="A reference set that would be registered with it; repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    help="Processes; by default one for each core.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    file: IO[bytes],
    *,
    data: Path,
    cedar: Path | None,
    reference_files: tuple[IO[bytes], ...],
    workers: int | None,
    as_json: bool,
) -> int:
    """Try the policy CANDIDATE on what every node last proved.

    Makes the last decision about each node again, by the policy of then and by the candidate, with
    the reference sets that are registered now. Tells which scopes nodes would lose or gain, and
    why: those that they asked for, and any other that either policy names. Changes nothing, and
    disturbs no running verifier. Exits 1 if a node would lose a scope that it asked for.
    """
    from bootlease.cli.simulating import Ground, run  # noqa: PLC0415 - heavy
    from bootlease.policy import parse_policy  # noqa: PLC0415 - heavy
    from bootlease.policy.file import MAX_FILE  # noqa: PLC0415 - heavy
    from bootlease.verifier.datadir import DATABASE, read_settings  # noqa: PLC0415 - heavy

    read_settings(data)
    with naming(name_of(file) if cedar is None else f"{name_of(file)} with {cedar}"):
        document = policy_document(file.read(MAX_FILE + 1), cedar)
        policy = parse_policy(document)
    references = tuple(map(_reference_document, reference_files))
    ground = Ground(data / DATABASE, document, references)
    with _progress() as progress:
        outcome = run(ground, workers or os.cpu_count() or 1, progress)
    members = {"id": policy.id, "digest": policy.digest.hex()}
    if as_json:
        click.echo(json.dumps({"candidate": members, **outcome.as_dict()}, indent=2))
    else:
        _print(outcome)
    return ExitCode.REFUSED if outcome.losing else ExitCode.ACCEPTED


def _reference_document(file: IO[bytes]) -> bytes:
    from bootlease.reference import MAX_ANY_FILE, parse_any_reference  # noqa: PLC0415 - heavy

    with naming(f"{name_of(file)} is not a reference set"):
        document = file.read(MAX_ANY_FILE + 1)
        parse_any_reference(document)
    return document


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Lend what shows progress on a terminal, and nowhere else."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with click.progressbar(length=1, label="simulating", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _print(outcome: Outcome) -> None:
    groups = outcome.ordered()
    for each, nodes in groups[:_SHOWN_GROUPS]:
        click.echo(f"{_headline(each, len(nodes))}: {_named(nodes)}")
        for reason in each.reasons:
            click.echo(f"  {reason}")
    if len(groups) > _SHOWN_GROUPS:
        click.echo(f"and {counted(len(groups) - _SHOWN_GROUPS, 'more change')}: see --json")
    for reason, nodes in sorted(outcome.untold.items()):
        click.echo(f"cannot be told of {counted(len(nodes), 'node')}: {_named(nodes)}")
        click.echo(f"  {reason}")
    if outcome.undecided:
        click.echo(f"{counted(outcome.undecided, 'node')} never attested: nothing is known of them")
    if outcome.revoked:
        click.echo(f"{counted(outcome.revoked, 'node')} left out: revoked")
    click.echo(
        f"{counted(outcome.nodes, 'node')}: {outcome.losing} would lose what they asked for,"
        f" {outcome.gaining} would gain it, of {sum(map(len, outcome.untold.values()))} it cannot"
        " be told"
    )


def _headline(change: ScopeChange, nodes: int) -> str:
    verb = change.change.value if nodes == 1 else change.change.value.removesuffix("s")
    asked = "" if change.asked else ", never asked for"
    return f"{counted(nodes, 'node')} {verb} {change.scope} for {change.audience}{asked}"


def _named(nodes: list[bytes]) -> str:
    shown = ", ".join(node.hex() for node in nodes[:_SHOWN_NODES])
    return shown if len(nodes) <= _SHOWN_NODES else f"{shown}, …"
