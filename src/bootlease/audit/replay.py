"""Replay: making a recorded decision again, and comparing byte for byte.

A decision is a pure function of what its record names: evidence, logs, IMA list, enrolment, roots,
reference sets in their order, policy and epoch, the challenge, the lineage's state and the TPM's
high-water mark before it. Given these, the same steps give the same findings, the same record and
the same claims, or somebody has altered one of them, or the code decides otherwise now.

What another program decided is compared in all but the sentences of its findings (``compare``).

Nothing here depends on time, machine, order or what was replayed before: caches hold only what
their keys determine.

One input is not in the record: whether a log came along or was named by its digest. It changes
nothing but the finding ``lineage.full-evidence-required``, so the record's own findings say it.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar, cast

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
from bootlease.appraisal.bootlog import TCG_LOG
from bootlease.appraisal.issue import DEVELOPER
from bootlease.audit.compare import (
    compare_claims,
    compare_records,
    in_recorded_words,
    other_verdict,
)
from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import (
    IMA_LIST,
    Challenge,
    VerifiedEvidence,
    parse_evidence,
    verify_evidence,
)
from bootlease.ledger import DecisionRecord
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import Effect, Finding
from bootlease.policy import Policy, PolicyEpoch
from bootlease.reference import AnyReference, IMAReferenceSet, ReferenceSet
from bootlease.token import ExecutionClaims, VerifierID
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public

T = TypeVar("T")

FULL_EVIDENCE: Final = "lineage.full-evidence-required"
_KEPT_LOGS: Final = 32
_KEPT_SETS: Final = 4096


class DecisionInputs(Protocol):
    """Where the inputs of decisions come from, by the names that records give them.

    Each method returns ``None`` for what is not at hand, and may raise ``MalformedError`` for what
    is there and unreadable. What is returned need not be right: the replay compares digests.
    """

    def evidence(self, digest: bytes) -> bytes | None:
        """Return an evidence document, its logs left out."""

    def log(self, digest: bytes) -> bytes | None:
        """Return a log."""

    def enrolment(self, digest: bytes) -> Enrolment | None:
        """Return an enrolment record."""

    def roots(self, digest: bytes) -> TrustedRoots | None:
        """Return a set of roots."""

    def reference(self, digest: bytes) -> AnyReference | None:
        """Return a reference set of any kind."""

    def policy(self, digest: bytes, epoch: int) -> Policy | None:
        """Return a policy as it was in force in an epoch."""

    def pruned(self, time: int) -> bool:
        """Tell whether evidence and logs of a decision made then may have been let go."""


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


class _InputError(Exception):
    """An input is missing or altered; carries what to say of it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Replayer:
    """Makes decisions again, many after another.

    Args:
        inputs: Where inputs come from.
        code: The program that runs now: another one that decided is noted, and may have used
            other words.
    """

    def __init__(self, inputs: DecisionInputs, code: CodeIdentity | None = None) -> None:
        self._inputs = inputs
        self._code = code
        self._verdicts = AppraisalCache()
        self._logs: OrderedDict[bytes, bytes] = OrderedDict()
        # A fleet shares these; a lineage its enrolment.
        self._enrolment = functools.lru_cache(_KEPT_SETS)(self._load_enrolment)
        self._roots = functools.lru_cache(64)(self._load_roots)
        self._reference = functools.lru_cache(256)(self._load_reference)
        self._policy = functools.lru_cache(256)(self._load_policy)

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
        except _InputError as exc:
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
        enrolment = self._enrolment(record.enrolment)
        roots = self._roots(record.roots)
        policy = self._policy(record.policy_digest, record.policy_epoch)
        named = [self._reference(digest) for digest in record.references]
        references = [each for each in named if isinstance(each, ReferenceSet)]
        challenge = Challenge.parse(record.challenge)
        prior = None if record.prior is None else Prior.parse(record.prior)
        high_water = HighWaterMark.parse(record.high_water)
        evidence = self._verified(record, challenge, enrolment)
        if challenge.node != enrolment.node:
            raise _InputError(_altered("challenge", record.enrolment))
        # The verdict on a boot that was replayed before needs no log a second time.
        known = verdict_known(self._verdicts, evidence, references, policy, now=record.time)
        result = appraise(
            evidence,
            None if known else self._boot_log(evidence, policy, record.time),
            challenge=challenge,
            prior=prior,
            high_water=high_water,
            enrolment=enrolment,
            roots=roots,
            references=references,
            policy=policy,
            now=record.time,
            ima_references=[each for each in named if isinstance(each, IMAReferenceSet)],
            cache=self._verdicts,
        )
        if len(result.leases) != len(record.leases):
            return Replayed(None, (), result, (other_verdict(record, result),), evidence)
        again = record_decision(
            result,
            challenge=challenge,
            prior=prior,
            high_water=high_water,
            enrolment=enrolment,
            roots=roots,
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

    def _verified(
        self, record: DecisionRecord, challenge: Challenge, enrolment: Enrolment
    ) -> VerifiedEvidence:
        document = self._kept(
            self._inputs.evidence(record.evidence), "evidence", record.evidence, record.time
        )
        if hashlib.sha256(document).digest() != record.evidence:
            raise _InputError(_altered("evidence", record.evidence))
        evidence = parse_evidence(document)
        if evidence.logs:
            raise MalformedError("a recorded evidence document has its logs left out")
        key = _attestation_key(enrolment.ak_public)
        verified = verify_evidence(evidence, challenge, key, now=record.time)
        withheld = {each.seen for each in record.findings if each.id == FULL_EVIDENCE}
        logs = {
            kind: self._log(digest, record.time)
            for kind, digest in verified.log_digests.items()
            if digest.hex() not in withheld
        }
        if verified.ima is not None and not verified.ima.empty:
            # No other decision rests on the same entries, so they are not kept.
            logs[IMA_LIST] = self._load_log(verified.ima.digest, record.time)
        return replace(verified, logs=logs)

    def _boot_log(
        self, evidence: VerifiedEvidence, policy: PolicyEpoch, time: int
    ) -> BootLog | None:
        digest = evidence.log_digests.get(TCG_LOG)
        if digest is None:
            return None
        return read_boot_log(self._log(digest, time), policy.policy.quote.banks)

    def _kept(self, value: T | None, what: str, digest: bytes, time: int) -> T:
        if value is None and self._inputs.pruned(time):
            raise _InputError(
                Finding(
                    "replay.input.pruned",
                    f"The {what} was let go by the retention rules; the decision stays in the "
                    "ledger, but cannot be made again.",
                    effect=Effect.NOTES,
                    expected=digest.hex(),
                )
            )
        return _present(value, what, digest)

    def _log(self, digest: bytes, time: int) -> bytes:
        log = self._logs.get(digest)
        if log is None:
            log = self._load_log(digest, time)
            self._logs[digest] = log
            if len(self._logs) > _KEPT_LOGS:
                self._logs.popitem(last=False)
        else:
            self._logs.move_to_end(digest)
        return log

    def _load_log(self, digest: bytes, time: int) -> bytes:
        log = self._kept(self._inputs.log(digest), "log", digest, time)
        if hashlib.sha256(log).digest() != digest:
            raise _InputError(_altered("log", digest))
        return log

    def _load_enrolment(self, digest: bytes) -> Enrolment:
        return _named(self._inputs.enrolment, "enrolment record", digest, _digest_of)

    def _load_roots(self, digest: bytes) -> TrustedRoots:
        return _named(self._inputs.roots, "set of roots", digest, _digest_of)

    def _load_reference(self, digest: bytes) -> AnyReference:
        load: Callable[[bytes], _Digested | None] = self._inputs.reference
        return cast("AnyReference", _named(load, "reference set", digest, _digest_of))

    def _load_policy(self, digest: bytes, epoch: int) -> PolicyEpoch:
        policy = _named(lambda name: self._inputs.policy(name, epoch), "policy", digest, _digest_of)
        if epoch < 1:
            raise MalformedError("a policy epoch counts from 1")
        return PolicyEpoch(policy, epoch)

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


class _Digested(Protocol):
    @property
    def digest(self) -> bytes:
        """Content digest."""


def _digest_of(value: _Digested) -> bytes:
    return value.digest


def _named(
    load: Callable[[bytes], T | None], what: str, digest: bytes, digest_of: Callable[[T], bytes]
) -> T:
    try:
        value = _present(load(digest), what, digest)
    except MalformedError as exc:
        raise _InputError(_altered(what, digest)) from exc
    if digest_of(value) != digest:
        raise _InputError(_altered(what, digest))
    return value


def _present(value: T | None, what: str, digest: bytes) -> T:
    if value is None:
        raise _InputError(
            Finding(
                "replay.input.missing",
                f"The {what} that the decision rests on is not there under its digest: it was"
                " altered, or is not kept any more.",
                expected=digest.hex(),
            )
        )
    return value


def _altered(what: str, digest: bytes) -> Finding:
    return Finding(
        "replay.input.altered",
        f"The {what} that the decision rests on is not the one that was recorded.",
        expected=digest.hex(),
    )


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


@functools.lru_cache(maxsize=_KEPT_SETS)
def _attestation_key(ak_public: bytes) -> AttestationKey:
    # Loading a point costs as much as verifying with it; a node's AK hardly ever changes.
    return accept_attestation_key(parse_public(ak_public))
