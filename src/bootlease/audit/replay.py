"""Replay: making a recorded decision again, and comparing byte for byte.

A decision is a pure function of what its record names: evidence, logs, IMA list, enrolment, roots,
reference sets in their order, policy and epoch, the challenge, the lineage's state and the TPM's
high-water mark before it. Given these, the same steps give the same findings, the same record and
the same claims, or somebody has altered one of them, or the code decides otherwise now.

What another program decided is compared in all but the sentences of its findings (``compare``).

Nothing here depends on time, machine, order or what was replayed before: caches hold only what
their keys determine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bootlease.appraisal import (
    AppraisalCache,
    AttestationResult,
    BootLog,
    CodeIdentity,
    appraise,
    build_claims,
    read_boot_log,
    record_decision,
    verdict_known,
)
from bootlease.appraisal.issue import DEVELOPER
from bootlease.audit.compare import (
    compare_claims,
    compare_records,
    in_recorded_words,
    other_verdict,
)
from bootlease.audit.gather import DecisionInputs, Gathered, Gatherer, InputError
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import TCG_LOG, VerifiedEvidence
from bootlease.ledger import DecisionRecord
from bootlease.model import Effect, Finding
from bootlease.policy import PolicyEpoch
from bootlease.reference import IMAReferenceSet, ReferenceSet
from bootlease.token import ExecutionClaims, VerifierID


@dataclass(frozen=True, slots=True)
class Replayed:
    """What making a decision again came to.

    Attributes:
        record: The record made now; ``None`` where an input stood in the way.
        claims: The claims of each lease granted now, in order.
        result: The attestation result made now.
        findings: Every difference, and notes.
        evidence: The evidence, verified now.
    """

    record: bytes | None
    claims: tuple[ExecutionClaims, ...]
    result: AttestationResult | None
    findings: tuple[Finding, ...]
    evidence: VerifiedEvidence | None = None

    @property
    def identical(self) -> bool:
        """The decision was made again, to the byte."""
        return self.record is not None and not self.refuses

    @property
    def refuses(self) -> bool:
        """Something is different, or missing without leave."""
        return any(finding.effect is Effect.REFUSES for finding in self.findings)


class Replayer:
    """Makes decisions again, many after another.

    Args:
        inputs: Where inputs come from.
        code: The program that runs now: another one that decided is noted, and may have used
            other words.
    """

    def __init__(self, inputs: DecisionInputs, code: CodeIdentity | None = None) -> None:
        self._gatherer = Gatherer(inputs)
        self._code = code
        self._verdicts = AppraisalCache()

    def replay(self, record: DecisionRecord, claims: Sequence[bytes] | None) -> Replayed:
        """Make a recorded decision again.

        Args:
            record: As parsed; unverified.
            claims: Claims digest of each lease it granted, as recorded; ``None`` to leave the
                comparison to the caller.
        """
        notes = self._note_code(record)
        try:
            replayed = self._replay(record, claims)
        except InputError as exc:
            return Replayed(None, (), None, (exc.finding, *notes))
        except VerificationError as exc:
            return Replayed(None, (), None, (_unverified(exc), *notes))
        # ValueError: a record can hold what no value of ours holds, such as an id of 15 bytes.
        except (MalformedError, ValueError) as exc:
            finding = Finding(
                "replay.input.malformed", f"The decision cannot be made again: {exc}."
            )
            return Replayed(None, (), None, (finding, *notes))
        return replace(replayed, findings=(*replayed.findings, *notes))

    def _replay(self, record: DecisionRecord, claims: Sequence[bytes] | None) -> Replayed:
        gathered = self.gather(record)
        result = self.judge(gathered)
        evidence = gathered.evidence
        if len(result.leases) != len(record.leases):
            return Replayed(None, (), result, (other_verdict(record, result),), evidence)
        again = record_decision(
            result,
            challenge=gathered.challenge,
            prior=gathered.prior,
            high_water=gathered.high_water,
            enrolment=gathered.enrolment,
            roots=gathered.roots,
            lease_ids=[lease.lease_id for lease in record.leases],
            issuer=record.issuer,
            code=CodeIdentity(record.code_version, record.code),
            previous=record.previous,
            now=record.time,
        )
        again, notes = in_recorded_words(record, again, self._code)
        made = _claims_of(result, record, again.digest)
        findings = compare_records(record, again)
        if claims is not None:
            findings += compare_claims(claims, made)
        return Replayed(again.encoded, made, result, (*findings, *notes), evidence)

    def gather(self, record: DecisionRecord) -> Gathered:
        """Return all that a decision rests on; see ``Gatherer``."""
        return self._gatherer.gather(record)

    def judge(self, gathered: Gathered) -> AttestationResult:
        """Appraise what a decision rests on."""
        evidence, policy, time = gathered.evidence, gathered.policy, gathered.time
        references = [each for each in gathered.references if isinstance(each, ReferenceSet)]
        # The verdict on a boot that was judged before needs no log a second time.
        known = verdict_known(self._verdicts, evidence, references, policy, now=time)
        return appraise(
            evidence,
            None if known else self._boot_log(evidence, policy, time),
            challenge=gathered.challenge,
            prior=gathered.prior,
            high_water=gathered.high_water,
            enrolment=gathered.enrolment,
            roots=gathered.roots,
            references=references,
            policy=policy,
            now=time,
            ima_references=[
                each for each in gathered.references if isinstance(each, IMAReferenceSet)
            ],
            cache=self._verdicts,
        )

    def _boot_log(
        self, evidence: VerifiedEvidence, policy: PolicyEpoch, time: int
    ) -> BootLog | None:
        digest = evidence.log_digests.get(TCG_LOG)
        if digest is None:
            return None
        return read_boot_log(self._gatherer.log(digest, time), policy.policy.quote.banks)

    def _note_code(self, record: DecisionRecord) -> tuple[Finding, ...]:
        code = self._code
        if code is None or (record.code_version, record.code) == (code.version, code.digest):
            return ()
        return (
            Finding(
                "replay.code.differs",
                "Another program decided than the one that replays.",
                effect=Effect.NOTES,
                expected=f"{record.code_version} {record.code.hex()}",
                seen=f"{code.version} {code.digest.hex()}",
            ),
        )


def replay_decision(
    record: DecisionRecord,
    claims: Sequence[bytes],
    inputs: DecisionInputs,
    code: CodeIdentity | None = None,
) -> Replayed:
    """Make one recorded decision again; see ``Replayer``."""
    return Replayer(inputs, code).replay(record, claims)


def _unverified(exc: VerificationError) -> Finding:
    return Finding(
        "replay.evidence.unverified",
        "The recorded evidence does not verify, so it can never have been decided about.",
        seen=", ".join(finding.id for finding in exc.findings),
    )


def _claims_of(
    result: AttestationResult, record: DecisionRecord, digest: bytes
) -> tuple[ExecutionClaims, ...]:
    verifier = VerifierID(DEVELOPER, record.code_version)
    return tuple(
        build_claims(
            result,
            lease,
            lease_id=granted.lease_id,
            decision=digest,
            issuer=record.issuer,
            verifier=verifier,
            now=record.time,
        )
        for granted, lease in zip(record.leases, result.leases, strict=True)
    )
