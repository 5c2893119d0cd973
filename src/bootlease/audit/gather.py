"""What a recorded decision rests on, gathered by the digests that its record names.

What is at hand need not be right: everything is compared with its digest, and the evidence is
verified once more, before anybody judges it.

Two inputs are in the record's own findings alone. Whether a log came along or was named by its
digest changes nothing but ``lineage.full-evidence-required``. What the verifier's leash key was,
``expiring-key.authority.mismatch`` says where a key waited for another's permits; where none did,
it is the one that they all name.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar, cast

from bootlease.endorsement import Enrolment, TrustedRoots
from bootlease.errors import MalformedError
from bootlease.evidence import (
    IMA_LIST,
    Challenge,
    Evidence,
    VerifiedEvidence,
    parse_evidence,
    verify_evidence,
)
from bootlease.evidence.verify import named_authority
from bootlease.ledger import DecisionRecord
from bootlease.lineage import HighWaterMark, Prior
from bootlease.model import Effect, Finding
from bootlease.policy import Policy, PolicyEpoch
from bootlease.reference import AnyReference
from bootlease.tpm import AttestationKey, accept_attestation_key, parse_public

T = TypeVar("T")

FULL_EVIDENCE: Final = "lineage.full-evidence-required"
_STRAY_KEY: Final = "expiring-key.authority.mismatch"
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
class Gathered:
    """All that a decision rests on.

    Attributes:
        evidence: The evidence, verified.
        challenge: The challenge that it answers.
        prior: Where the node's lineage stood.
        high_water: The furthest that its TPM had been seen to stand.
        enrolment: The node's record.
        roots: Trusted manufacturers.
        references: Reference sets of every kind.
        policy: The policy.
        time: Seconds since the epoch.
    """

    evidence: VerifiedEvidence
    challenge: Challenge
    prior: Prior | None
    high_water: HighWaterMark
    enrolment: Enrolment
    roots: TrustedRoots
    references: tuple[AnyReference, ...]
    policy: PolicyEpoch
    time: int


class InputError(Exception):
    """An input is missing or altered.

    Attributes:
        finding: What to say of it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Gatherer:
    """Gathers what decisions rest on, many after another.

    Args:
        inputs: Where inputs come from.
    """

    def __init__(self, inputs: DecisionInputs) -> None:
        self._inputs = inputs
        self._logs: OrderedDict[bytes, bytes] = OrderedDict()
        # A fleet shares these; a lineage its enrolment.
        self._enrolment = functools.lru_cache(_KEPT_SETS)(self._load_enrolment)
        self._roots = functools.lru_cache(64)(self._load_roots)
        self._reference = functools.lru_cache(256)(self._load_reference)
        self._policy = functools.lru_cache(256)(self._load_policy)

    def gather(self, record: DecisionRecord) -> Gathered:
        """Return all that a decision rests on, its evidence verified.

        Raises:
            InputError: Something is missing or altered.
            VerificationError: The evidence does not verify.
            MalformedError: Something does not parse.
            ValueError: The record holds what no value of ours holds.
        """
        enrolment = self._enrolment(record.enrolment)
        roots = self._roots(record.roots)
        policy = self._policy(record.policy_digest, record.policy_epoch)
        references = tuple([self._reference(digest) for digest in record.references])
        challenge = Challenge.parse(record.challenge)
        prior = None if record.prior is None else Prior.parse(record.prior)
        high_water = HighWaterMark.parse(record.high_water)
        evidence = self._verified(record, challenge, enrolment)
        if challenge.node != enrolment.node:
            raise InputError(_altered("challenge", record.enrolment))
        return Gathered(
            *(evidence, challenge, prior, high_water, enrolment, roots, references, policy),
            record.time,
        )

    def log(self, digest: bytes, time: int) -> bytes:
        """Return a log.

        Args:
            digest: Its digest.
            time: When the decision was made that rests on it.

        Raises:
            InputError: It is missing or altered.
        """
        log = self._logs.get(digest)
        if log is None:
            log = self._load_log(digest, time)
            self._logs[digest] = log
            if len(self._logs) > _KEPT_LOGS:
                self._logs.popitem(last=False)
        else:
            self._logs.move_to_end(digest)
        return log

    def _verified(
        self, record: DecisionRecord, challenge: Challenge, enrolment: Enrolment
    ) -> VerifiedEvidence:
        document = self._kept(
            self._inputs.evidence(record.evidence), "evidence", record.evidence, record.time
        )
        if hashlib.sha256(document).digest() != record.evidence:
            raise InputError(_altered("evidence", record.evidence))
        evidence = parse_evidence(document)
        if evidence.logs:
            raise MalformedError("a recorded evidence document has its logs left out")
        key = _attestation_key(enrolment.ak_public)
        verified = verify_evidence(
            *(evidence, challenge, key), now=record.time, authority=_authority(record, evidence)
        )
        withheld = {each.seen for each in record.findings if each.id == FULL_EVIDENCE}
        logs = {
            kind: self.log(digest, record.time)
            for kind, digest in verified.log_digests.items()
            if digest.hex() not in withheld
        }
        if verified.ima is not None and not verified.ima.empty:
            # No other decision rests on the same entries, so they are not kept.
            logs[IMA_LIST] = self._load_log(verified.ima.digest, record.time)
        return replace(verified, logs=logs)

    def _kept(self, value: T | None, what: str, digest: bytes, time: int) -> T:
        if value is None and self._inputs.pruned(time):
            raise InputError(
                Finding(
                    "replay.input.pruned",
                    f"The {what} was let go by the retention rules; the decision stays in the "
                    "ledger, but cannot be made again.",
                    effect=Effect.NOTES,
                    expected=digest.hex(),
                )
            )
        return _present(value, what, digest)

    def _load_log(self, digest: bytes, time: int) -> bytes:
        log = self._kept(self._inputs.log(digest), "log", digest, time)
        if hashlib.sha256(log).digest() != digest:
            raise InputError(_altered("log", digest))
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


def _authority(record: DecisionRecord, evidence: Evidence) -> bytes | None:
    """Return the verifier's leash key: as the record says it, or as it was accepted.

    Raises:
        ValueError: The record names none where it says that it does.
    """
    for finding in record.findings:
        if finding.id == _STRAY_KEY:
            return None if finding.expected is None else bytes.fromhex(finding.expected)
    return named_authority(evidence)


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
        raise InputError(_altered(what, digest)) from exc
    if digest_of(value) != digest:
        raise InputError(_altered(what, digest))
    return value


def _present(value: T | None, what: str, digest: bytes) -> T:
    if value is None:
        raise InputError(
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


@functools.lru_cache(maxsize=_KEPT_SETS)
def _attestation_key(ak_public: bytes) -> AttestationKey:
    # Loading a point costs as much as verifying with it; a node's AK hardly ever changes.
    return accept_attestation_key(parse_public(ak_public))
