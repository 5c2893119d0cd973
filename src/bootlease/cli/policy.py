"""``bootlease policy``: check a policy file."""

from __future__ import annotations

import json
import time
from typing import IO

import click

from bootlease.cli.admin import activate
from bootlease.cli.exits import ExitCode
from bootlease.cli.files import naming
from bootlease.cli.reference_files import name_of
from bootlease.model import Effect, Finding
from bootlease.policy import Mode, Policy, check_policy, parse_policy
from bootlease.policy.file import MAX_FILE
from bootlease.reference import MAX_ANY_FILE, AnyReference, parse_any_reference


def read_policy(file: IO[bytes]) -> Policy:
    """Read a policy file; an error names the file."""
    with naming(name_of(file)):
        return parse_policy(file.read(MAX_FILE + 1))


def _read_reference(file: IO[bytes]) -> AnyReference:
    with naming(f"{name_of(file)} is not a reference set"):
        return parse_any_reference(file.read(MAX_ANY_FILE + 1))


@click.group(name="policy")
def policy() -> None:
    """Check policies: what a node must prove and what it may be granted."""


@policy.command()
@click.argument("file", type=click.File("rb", lazy=True))
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
    file: IO[bytes], *, reference_files: tuple[IO[bytes], ...], now: int | None, as_json: bool
) -> None:
    """Check the policy in FILE ("-" for standard input) and print its digest.

    Says what contradicts itself and what nothing uses; with the reference sets, also which of
    them no boot can match under this policy, and which have expired. Exits with 1 if there is
    anything of the kind.
    """
    loaded = read_policy(file)
    references = [_read_reference(each) for each in reference_files] or None
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


policy.add_command(activate)
