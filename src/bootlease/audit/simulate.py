"""Trying a policy on what nodes last proved: which scopes each would lose or gain, and why.

A node's last decision is made again twice from what was recorded: by the policy of then, and by a
candidate with the reference sets that it would accept. Both at the time of the decision, with its
challenge and in its lineage. What is compared is not only what the node asked for but every scope
name that either policy has: a node may gain what it never asked for, since nobody gave it.

What a candidate demands and the recorded evidence does not hold, a PCR that was not quoted or an
IMA list that was not sent, cannot be told; the node would be asked for it. Under other IMA rules a
node sends its list whole: here it is put together from the decisions of its lineage.

That a lease would have been over is no loss: an agent renews in time, whatever the life. Nothing is
written, and no state is kept between nodes but caches.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from bootlease.appraisal import AttestationResult
from bootlease.appraisal.ima import accepted_ima, ima_rules
from bootlease.audit.build import Recorded
from bootlease.audit.gather import DecisionInputs, Gathered, InputError
from bootlease.audit.replay import Replayer
from bootlease.errors import MalformedError, VerificationError
from bootlease.evidence import IMA_LIST, VerifiedEvidence, parse_evidence
from bootlease.evidence.segment import IMASegment
from bootlease.ledger import DecisionRecord
from bootlease.lineage import Prior
from bootlease.lineage.continuation import MAX_SEQUENCE
from bootlease.model import Effect, Finding
from bootlease.policy import Authorization, Policy, PolicyEpoch, ScopeVerdict
from bootlease.policy.authorization import Known
from bootlease.reference import AnyReference, IMAReferenceSet
from bootlease.token import KeyProtection

UNTOLD: Final = (
    *("ima.list.missing", "ima.list.wanted", "ima.pcr.unquoted"),
    *("quote.bank.missing", "quote.pcr.missing"),
)
"""What a node is asked for anew where a policy wants it: that it is missing says nothing of it."""

_WISHES: Final = (
    "policy.scope.",
    "policy.audience.",
    "lease.life.",
    "policy.report-only",
    "policy.findings.more",
)
_MAX_REASONS: Final = 8


class SimulationInputs(DecisionInputs, Protocol):
    """Where decisions and their inputs come from."""

    def decision(self, digest: bytes) -> Recorded | None:
        """Return a decision by the digest of its record."""


class Change(enum.Enum):
    """What becomes of a scope name that a node may have."""

    LOSES = "loses"
    GAINS = "gains"


@dataclass(frozen=True, slots=True)
class ScopeChange:
    """One scope name that a node may have by one policy alone.

    Attributes:
        change: By which.
        scope: The scope name.
        audience: The relying party.
        asked: The node asked for it when it was last decided about.
        reasons: Why: what refuses, or what refused before, or the policies that decide.
    """

    change: Change
    scope: str
    audience: str
    asked: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a candidate would mean for one node.

    Attributes:
        node: Its id.
        time: When it was last decided about.
        changes: What it would lose and gain.
        untold: Why nothing can be told, if nothing can.
    """

    node: bytes
    time: int
    changes: tuple[ScopeChange, ...] = ()
    untold: str | None = None


Wish = tuple[str, str, KeyProtection]


class Simulator:
    """Tries one candidate on many nodes.

    Args:
        inputs: Where decisions come from.
        candidate: The policy to try.
        references: Every set that would be registered with it, the newest first.
    """

    def __init__(
        self, inputs: SimulationInputs, candidate: Policy, references: Iterable[AnyReference]
    ) -> None:
        self._inputs = inputs
        self._replayer = Replayer(inputs)
        self._candidate = PolicyEpoch(candidate, 1)
        self._references = tuple(references)

    def simulate(self, record: DecisionRecord) -> Simulated:
        """Try the candidate on the node of its last decision."""
        try:
            gathered = self._replayer.gather(record)
            before = self._replayer.judge(gathered)
            after = self._replayer.judge(self._under_candidate(gathered, record))
        except InputError as exc:
            return Simulated(record.node, record.time, untold=exc.finding.message)
        except VerificationError as exc:
            return Simulated(record.node, record.time, untold=exc.findings[0].message)
        except (MalformedError, ValueError) as exc:
            return Simulated(record.node, record.time, untold=f"It cannot be read: {exc}.")
        refused = _of_the_node(after.findings)
        # What else refuses may rest on what is missing.
        if missing := [finding for finding in refused if finding.id in UNTOLD]:
            return Simulated(record.node, record.time, untold=missing[0].message)
        old = _Side(gathered.policy.policy, before)
        new = _Side(self._candidate.policy, after)
        asked = {
            (name, lease.audience, lease.protection): None
            for lease in gathered.evidence.leases
            for name in lease.scope
        }
        return Simulated(record.node, record.time, tuple(_changes(old, new, asked)))

    def _under_candidate(self, gathered: Gathered, record: DecisionRecord) -> Gathered:
        changed = replace(gathered, policy=self._candidate, references=self._references)
        evidence, prior = gathered.evidence, gathered.prior
        rules = self._candidate.policy
        if not rules.ima.required or evidence.ima is None or evidence.ima.first == 0:
            return changed
        accepted = accepted_ima(
            [each for each in self._references if isinstance(each, IMAReferenceSet)], rules
        )
        progress = None if prior is None else prior.ima
        if progress is not None and progress.rules == ima_rules(rules, accepted, record.time):
            return changed
        return replace(changed, evidence=self._with_whole_list(evidence, prior, record))

    def _with_whole_list(
        self, evidence: VerifiedEvidence, prior: Prior | None, record: DecisionRecord
    ) -> VerifiedEvidence:
        """Put the IMA list together that a node would have sent from its first entry."""
        pieces = [evidence.ima_list() or b""]
        for _ in range(MAX_SEQUENCE):
            start = 0 if prior is None or prior.ima is None else prior.ima.state.offset
            earlier = None if record.previous is None else self._inputs.decision(record.previous)
            if start == 0 or earlier is None:
                break
            record = DecisionRecord.parse(earlier.record)
            prior = None if record.prior is None else Prior.parse(record.prior)
            document = self._inputs.evidence(record.evidence)
            segment = None if document is None else parse_evidence(document).ima
            if segment is None:
                break
            # A renewal before which nothing was loaded brings nothing that would be kept.
            listed = b"" if segment.empty else self._inputs.log(segment.digest)
            if listed is None:
                break
            # Entries behind those that the quote vouched for were sent again the next time.
            begun = (
                0
                if segment.first == 0 or prior is None or prior.ima is None
                else (prior.ima.state.offset)
            )
            pieces.append(listed[: start - begun])
            if segment.first == 0:
                whole = b"".join(reversed(pieces))
                logs = {**evidence.logs, IMA_LIST: whole}
                return replace(evidence, ima=IMASegment.of(0, whole), logs=logs)
        raise InputError(
            Finding(
                "ima.list.wanted",
                "The beginning of the node's IMA list is not kept any more: the candidate judges"
                " files by other rules, so the node would send its list whole.",
            )
        )


class _Side:
    """What a node may have by one of the two policies.

    Args:
        rules: The policy.
        result: What the node's evidence came to under it.
    """

    def __init__(self, rules: Policy, result: AttestationResult) -> None:
        self.refused = _of_the_node(result.findings)
        self.rules = rules
        self._known = rules.authorization.known(result.facts)

    def verdict(self, wish: Wish) -> ScopeVerdict:
        """Decide about one name."""
        return _decide(self.rules.authorization, self._known, wish)

    def obstacles(self, wish: Wish) -> tuple[str, ...]:
        """Return what keeps the node from having a name; nothing where it may have it."""
        if self.refused:
            return tuple(dict.fromkeys(map(_told, self.refused)))[:_MAX_REASONS]
        if wish[1] not in self.rules.lease.audiences:
            return ("its audience is not in lease.audiences",)
        verdict = self.verdict(wish)
        return () if verdict.granted else (_why(verdict),)


@functools.lru_cache(maxsize=65_536)
def _decide(rules: Authorization, known: Known, wish: Wish) -> ScopeVerdict:
    # A fleet's nodes are alike in most of what the policies ask for.
    name, audience, protection = wish
    return rules.decide(known, (name,), audience, protection)[0]


def _changes(old: _Side, new: _Side, asked: dict[Wish, None]) -> Iterator[ScopeChange]:
    places = {(audience, protection) for _, audience, protection in asked}
    names = {*old.rules.authorization.policies.scopes, *new.rules.authorization.policies.scopes}
    others = ((name, *place) for name in sorted(names) for place in sorted(places))
    for wish in (*asked, *(each for each in others if each not in asked)):
        before, after = old.obstacles(wish), new.obstacles(wish)
        if bool(before) == bool(after):
            continue
        change, why = (Change.LOSES, after) if after else (Change.GAINS, before)
        reasons = why if after else (*(f"before: {each}" for each in why), _by(new.verdict(wish)))
        yield ScopeChange(change, wish[0], wish[1], wish in asked, reasons)


def _of_the_node(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return what refuses the node whatever it asks for."""
    return tuple(
        finding
        for finding in findings
        if finding.effect is Effect.REFUSES and not finding.id.startswith(_WISHES)
    )


def _told(finding: Finding) -> str:
    return f"{finding.message} [{finding.id}]"


def _why(verdict: ScopeVerdict) -> str:
    if verdict.errors:
        return f"a policy cannot be evaluated: {verdict.errors[0]}"
    reason = f"forbidden by {', '.join(verdict.policies)}" if verdict.policies else "not permitted"
    return reason if verdict.at == verdict.name else f"{verdict.at} is {reason}"


def _by(verdict: ScopeVerdict) -> str:
    return f"permitted by {', '.join(verdict.policies)}"
