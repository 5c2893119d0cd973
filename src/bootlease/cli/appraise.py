"""``bootlease appraise``: take recorded evidence through an appraisal, offline."""

from __future__ import annotations

import json
import time
from typing import IO

import click

from bootlease.appraisal import AttestationResult, boot_log_of, read_boot_log
from bootlease.appraisal import appraise as decide
from bootlease.cli.exits import ExitCode
from bootlease.cli.files import MAX_FILE, naming
from bootlease.cli.policy import read_policy
from bootlease.cli.reference import read_reference
from bootlease.endorsement import Enrolment, TrustedRoots, parse_certificates
from bootlease.eventlog import DEFAULT_LIMITS
from bootlease.evidence import Challenge, parse_evidence, verify_evidence
from bootlease.evidence.document import MAX_EVIDENCE
from bootlease.lineage import HighWaterMark, Prior
from bootlease.policy import PolicyEpoch
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
@click.option("--at", "moment", type=click.IntRange(0), help="Time of the decision (now).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def appraise(
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
    moment: int | None,
    as_json: bool,
) -> ExitCode:
    """Appraise the EVIDENCE document as a verifier would, and print every finding.

    Challenge, enrolment record and lineage are those the verifier kept. Nothing is granted or
    recorded.
    """
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
    references = [read_reference(file) for file in reference_files]
    with naming(f"EVIDENCE {evidence_file.name}"):
        presented = parse_evidence(evidence_file.read(MAX_EVIDENCE + 1))
    evidence = verify_evidence(presented, challenge, key, now=now)
    stored = None
    if log_file is not None:
        stored = read_boot_log(log_file.read(DEFAULT_LIMITS.max_bytes + 1))
    if challenge.node != enrolment.node:
        raise click.UsageError("the challenge was issued to another node than the enrolled one")
    log = boot_log_of(evidence) or stored
    if log is not None and log.digest != evidence.log_digests.get("tcg"):
        raise click.UsageError("the log is not the one that the evidence names")
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
    )
    _print(result, as_json=as_json)
    return ExitCode.ACCEPTED if result.accepted else ExitCode.REFUSED


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
