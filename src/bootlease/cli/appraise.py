"""``bootlease appraise``: take recorded evidence through an appraisal, offline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import click
from click.core import ParameterSource

from bootlease.appraisal import AttestationResult, read_boot_log
from bootlease.appraisal import appraise as decide
from bootlease.cli.exits import ExitCode
from bootlease.cli.explain import print_explanation, save_boot, save_option, timeline_option
from bootlease.cli.files import MAX_FILE, naming
from bootlease.cli.policy_files import read_policy
from bootlease.cli.reference_files import read_any_reference
from bootlease.endorsement import Enrolment, TrustedRoots, parse_certificates
from bootlease.eventlog import DEFAULT_LIMITS
from bootlease.evidence import IMA_LIST, TCG_LOG, Challenge, parse_evidence, verify_evidence
from bootlease.evidence.document import MAX_EVIDENCE, MAX_IMA_LIST
from bootlease.evidence.verify import named_authority
from bootlease.explain import Appraised, Names, explain, recorded_boot
from bootlease.lineage import HighWaterMark, Prior
from bootlease.policy import PolicyEpoch
from bootlease.reference import IMAReferenceSet, ReferenceSet
from bootlease.tpm import accept_attestation_key, parse_public

_file = click.File("rb", lazy=True)


@click.command(name="appraise")
@click.argument("evidence_file", metavar="EVIDENCE", type=_file)
@click.option("--challenge", "challenge_file", required=True, type=_file, help="As issued, CBOR.")
@click.option("--enrolment", "enrolment_file", required=True, type=_file, help="Record, CBOR.")
@click.option("--policy", "policy_file", required=True, type=_file, help="Policy, TOML.")
@click.option("--epoch", type=click.IntRange(1), default=1, show_default=True, help="Its epoch.")
@click.option(
    "--reference",
    "reference_files",
    required=True,
    multiple=True,
    type=_file,
    help="Reference set, JSON; may be given again.",
)
@click.option(
    "--root",
    "root_files",
    multiple=True,
    type=_file,
    help="Trusted manufacturer root, PEM or DER; may be given again.",
)
@click.option("--prior", "prior_file", type=_file, help="Lineage before the decision, CBOR.")
@click.option("--log", "log_file", type=_file, help="Event log, if the evidence names it only.")
@click.option(
    "--ima-list", "list_file", type=_file, help="IMA entries, if the evidence names them only."
)
@click.option("--at", "moment", type=click.IntRange(0), help="Time of the decision (now).")
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="Say what was booted, how far it is from the nearest reference, and what to do.",
)
@save_option
@timeline_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def appraise(
    ctx: click.Context,
    /,
    *,
    evidence_file: IO[bytes],
    challenge_file: IO[bytes],
    enrolment_file: IO[bytes],
    policy_file: IO[bytes],
    epoch: int,
    reference_files: tuple[IO[bytes], ...],
    root_files: tuple[IO[bytes], ...],
    prior_file: IO[bytes] | None,
    log_file: IO[bytes] | None,
    list_file: IO[bytes] | None,
    moment: int | None,
    explained: bool,
    save: Path | None,
    timeline: bool,
    as_json: bool,
) -> ExitCode:
    """Appraise the EVIDENCE document as a verifier would, and print every finding.

    Challenge, enrolment record and lineage are those the verifier kept. Nothing is granted or
    recorded.
    """
    if (save is not None or timeline) and not explained:
        raise click.UsageError("--save and --timeline go with --explain")
    now = int(time.time()) if moment is None else moment
    with naming(f"--challenge {challenge_file.name}"):
        challenge = Challenge.parse(challenge_file.read(MAX_FILE))
    with naming(f"--enrolment {enrolment_file.name}"):
        enrolment = Enrolment.parse(enrolment_file.read(MAX_FILE))
        key = accept_attestation_key(parse_public(enrolment.ak_public))
    rules = read_policy(policy_file)
    prior = None
    if prior_file is not None:
        with naming(f"--prior {prior_file.name}"):
            prior = Prior.parse(prior_file.read(MAX_FILE))
    roots = TrustedRoots.of(der for file in root_files for der in _certificates(file))
    named = [read_any_reference(file) for file in reference_files]
    with naming(f"EVIDENCE {evidence_file.name}"):
        presented = parse_evidence(evidence_file.read(MAX_EVIDENCE + 1))
    if list_file is not None:
        entries = list_file.read(MAX_IMA_LIST + 1)
        presented = replace(presented, logs={**presented.logs, IMA_LIST: entries})
    evidence = verify_evidence(
        *(presented, challenge, key), now=now, authority=named_authority(presented)
    )
    stored = evidence.logs.get(TCG_LOG)
    if stored is None and log_file is not None:
        stored = log_file.read(DEFAULT_LIMITS.max_bytes + 1)
    if challenge.node != enrolment.node:
        raise click.UsageError("the challenge was issued to another node than the enrolled one")
    log = None if stored is None else read_boot_log(stored)
    if log is not None and log.digest != evidence.log_digests.get(TCG_LOG):
        raise click.UsageError("the log is not the one that the evidence names")
    references = [each for each in named if isinstance(each, ReferenceSet)]
    files = [each for each in named if isinstance(each, IMAReferenceSet)]
    result = decide(
        evidence,
        log,
        challenge=challenge,
        prior=prior,
        high_water=HighWaterMark(),
        enrolment=enrolment,
        roots=roots,
        references=references,
        policy=PolicyEpoch(rules, epoch),
        now=now,
        ima_references=files,
    )
    if explained:
        appraised = Appraised(evidence, log, rules, references, files, now, result)
        names = Names(("appraise", *_typed(ctx)), saved=None if save is None else str(save))
        explanation = explain(appraised, names)
        if save is not None:
            save_boot(recorded_boot(appraised, explanation, stored), save)
        print_explanation(explanation, whole=timeline, as_json=as_json)
    else:
        _print(result, as_json=as_json)
    return ExitCode.ACCEPTED if result.accepted else ExitCode.REFUSED


def _typed(ctx: click.Context) -> Iterator[str]:
    """Return argument and options as they were given, to be typed again."""
    for parameter in ctx.command.params:
        if ctx.get_parameter_source(parameter.name or "") is not ParameterSource.COMMANDLINE:
            continue
        given = ctx.params[parameter.name or ""]
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(parameter, click.Option):
                yield parameter.opts[-1]
            if value is not True:
                yield str(getattr(value, "name", value))


def _certificates(file: IO[bytes]) -> tuple[bytes, ...]:
    with naming(f"--root {file.name}"):
        ders = parse_certificates(file.read(MAX_FILE))
        TrustedRoots.of(ders)
        return ders


def _print(result: AttestationResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_dict(result), indent=2))
        return
    click.echo("accepted" if result.accepted else "refused")
    for finding in result.findings:
        click.echo(f"  {finding.message} [{finding.id}, {finding.effect.value}]")
    for label, value in result.vector.to_jwt().items():
        click.echo(f"  {label}: {value}")


def _as_dict(result: AttestationResult) -> dict[str, object]:
    reference = result.reference
    return {
        "verdict": "accepted" if result.accepted else "refused",
        "findings": [finding.as_dict() for finding in result.findings],
        "ear_status": result.tier.label,
        "ear_trustworthiness_vector": result.vector.to_jwt(),
        "node": result.node.hex(),
        "evidence": result.evidence.hex(),
        "reference": reference and {"name": reference.name, "digest": reference.digest.hex()},
    }
