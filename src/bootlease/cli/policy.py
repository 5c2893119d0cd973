"""``bootlease policy``: check, try and activate a policy file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO

import click

from bootlease.cli.admin import activate
from bootlease.cli.exits import ExitCode
from bootlease.cli.files import name_of, naming
from bootlease.cli.lazy_group import LazyGroup
from bootlease.cli.operators import approve, proposals
from bootlease.cli.policy_files import cedar_option, read_policy
from bootlease.model import Effect, Finding
from bootlease.policy import CEDAR_SCHEMA, Mode, Policy, check_policy, policy_schema
from bootlease.reference import MAX_ANY_FILE, AnyReference, parse_any_reference


def read_reference(file: IO[bytes]) -> AnyReference:
    """Read a reference set; an error names the file."""
    with naming(f"{name_of(file)} is not a reference set"):
        return parse_any_reference(file.read(MAX_ANY_FILE + 1))


@click.group(cls=LazyGroup, modules={"simulate": "policy_simulate"}, name="policy")
def policy() -> None:
    """Check, try and activate policies: what a node must prove and what it may be granted."""


@policy.command()
@click.argument("file", type=click.File("rb", lazy=True))
@cedar_option
@click.option(
    "--reference",
    "reference_files",
    type=click.File("rb", lazy=True),
    multiple=True,
    help="A reference set that is registered with it; give all of them.",
)
@click.option("--now", type=int, help="Judge validity at this second since the epoch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    file: IO[bytes],
    *,
    cedar: Path | None,
    reference_files: tuple[IO[bytes], ...],
    now: int | None,
    as_json: bool,
) -> None:
    """Check the policy in FILE ("-" for standard input) and print its digest.

    Says what contradicts itself and what nothing uses; with the reference sets, also which of
    them no boot can match under this policy, and which have expired. Exits with 1 if there is
    anything of the kind.
    """
    loaded = read_policy(file, cedar)
    references = [read_reference(each) for each in reference_files] or None
    moment = int(time.time()) if now is None else now
    findings = check_policy(loaded, references, now=moment)
    if as_json:
        shown = [finding.as_dict() for finding in findings]
        digest = loaded.digest.hex()
        click.echo(json.dumps({"id": loaded.id, "digest": digest, "findings": shown}))
    else:
        word = "to be mended" if findings else "a sound policy"
        click.echo(f"{loaded.id}: {word}, digest {loaded.digest.hex()}")
        for finding in findings:
            click.echo(_line(finding))
        _remarks(loaded)
    if findings:
        click.get_current_context().exit(ExitCode.REFUSED)


def _line(finding: Finding) -> str:
    word = "problem" if finding.effect is Effect.REFUSES else "unused"
    return f"{word}: {finding.message} [{finding.id}]"


def _remarks(loaded: Policy) -> None:
    unsafe = loaded.enrolment.unsafe_unendorsed_ek
    if unsafe:
        click.echo(f"note: {len(unsafe)} EKs may enrol that no manufacturer vouches for", err=True)
    if loaded.mode is Mode.REPORT_ONLY:
        click.echo("note: the policy only reports: nothing is issued under it", err=True)


@policy.command()
@click.option("--cedar", is_flag=True, help="The schema of its Cedar policies instead.")
def schema(*, cedar: bool) -> None:
    """Print the JSON Schema of a policy file, for editors."""
    click.echo(CEDAR_SCHEMA if cedar else json.dumps(policy_schema(), indent=2), nl=not cedar)


for command in (activate, approve, proposals):
    policy.add_command(command)
