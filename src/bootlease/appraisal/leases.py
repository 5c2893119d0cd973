"""What policy says to the leases that are asked for.

One lease that policy denies refuses all, unless it was asked for as optional: then it is left out,
and noted. What is left out changes nothing for the others. Where nothing is left to grant, what was
denied refuses.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bootlease.evidence import DeniedLease, VerifiedEvidence
from bootlease.evidence.denied import MAX_REASONS
from bootlease.evidence.expiring import permitted_seconds
from bootlease.evidence.request import MAX_AUDIENCE, TokenEncoding
from bootlease.evidence.verify import VerifiedLease
from bootlease.frozen import quick_init
from bootlease.model import Effect, Finding, legible, refusals
from bootlease.policy import Facts, Policy, ScopeVerdict
from bootlease.policy.authorization import Known
from bootlease.token import KeyProtection

MOST_TOLD: Final = 128
"""Findings about leases that a refusal gives: an agent reads no problem of thousands."""
EXPIRING_LEVEL: Final = 3
"""The one level that is more than the node's word: its key is one that the TPM lets expire."""

_MAX_NAMED: Final = 4
_UNPROVEN: Final = Finding(
    "lease.level.unproven",
    "Level 3 is asked for with a key that does not expire: only one whose policy asks for this "
    "verifier's permits proves it.",
)


@quick_init
@dataclass(frozen=True, slots=True)
class LeaseVerdict:
    """What became of the leases asked for, as far as policy goes.

    Attributes:
        findings: Everything found, in the order of the leases; what bars one is ahead of the rest.
        leases: Those that policy grants.
        denied: Those that it denies and that were optional, where others are left.
    """

    findings: tuple[Finding, ...]
    leases: tuple[VerifiedLease, ...]
    denied: tuple[DeniedLease, ...] = ()

    def brief(self) -> tuple[Finding, ...]:
        """Return as many findings as a refusal gives, and how many more there are."""
        told, others = self.findings[:MOST_TOLD], self.findings[MOST_TOLD:]
        if not others:
            return told
        more = Finding(
            "policy.findings.more",
            f"There are {len(others)} more findings about the leases asked for.",
            effect=Effect.REFUSES if refusals(others) else Effect.NOTES,
            seen=str(len(others)),
        )
        return (*told, more)


def request_effort(leases: Sequence[VerifiedLease], rules: Policy, *, at_most: int) -> int:
    """Estimate how long ``check_request`` takes for what it was never asked, in microseconds.

    For who has others to serve meanwhile. A node chooses what it asks for, and a wildcard over many
    names costs a thousand times what a name does. Where it is more than ``at_most``, it may be any
    such number.
    """
    kinds = {(lease.audience, lease.protection) for lease in leases}
    names = (name for lease in leases for name in lease.scope)
    return rules.authorization.effort(len(kinds), names, at_most=at_most)


def check_request(
    evidence: VerifiedEvidence, rules: Policy, facts: Facts, expires_at: int, now: int
) -> LeaseVerdict:
    """Ask policy about every lease asked for, and whether any would still have life left."""
    leases, at_most = evidence.leases, rules.lease.max_leases
    frame: list[Finding] = []
    # One pass, for every renewal comes here: hardly any lease is of either kind.
    optional = permits = False
    for lease in leases:
        optional = optional or lease.optional
        permits = permits or lease.permit is not None
    # A permit lasts whole seconds, and an expiration of 0 would be none at all.
    if now >= expires_at or (permits and permitted_seconds(expires_at, now) < 1):
        frame.append(
            Finding(
                "lease.life.over",
                "A lease on this challenge would already be over: its life counts from the "
                "challenge's issue.",
                expected=f"before {expires_at}",
                seen=str(now),
            )
        )
    wanted = len(leases)
    if optional:
        wanted = sum(not lease.optional for lease in leases)
    if wanted > at_most:
        frame.append(_too_many(at_most, wanted))
    known = rules.authorization.known(facts)
    if not optional:
        # No more than could be granted: policies on many scopes take long to judge one wildcard.
        for lease in leases[:at_most]:
            frame += _judged(rules, known, lease)
        return LeaseVerdict(tuple(frame), leases)
    return _with_optional(frame, leases, rules, known, room=at_most - wanted)


def _with_optional(
    frame: Sequence[Finding],
    leases: Sequence[VerifiedLease],
    rules: Policy,
    known: Known,
    *,
    room: int,
) -> LeaseVerdict:
    # Those that must be granted have their places first: nothing optional takes one from them.
    at_most = rules.lease.max_leases
    found: list[tuple[Finding, ...]] = []
    denied: dict[int, tuple[Finding, ...]] = {}
    judged = 0
    for place, lease in enumerate(leases):
        findings: tuple[Finding, ...]
        if lease.barred:
            findings = lease.barred
        elif lease.optional and room <= 0:
            findings = (_too_many(at_most, len(leases)),)
        elif lease.optional or judged < at_most:
            findings = _judged(rules, known, lease)
            judged += not lease.optional
        else:
            findings = ()
        found.append(findings)
        if lease.optional:
            if refusing := refusals(findings):
                denied[place] = refusing
            else:
                room -= 1
    if len(denied) == len(leases):
        return LeaseVerdict(_told_in_order(frame, leases, found), ())
    for place, refusing in denied.items():
        found[place] = tuple(_left_out(each, place, len(leases)) for each in _told(refusing))
    return LeaseVerdict(
        _told_in_order(frame, leases, found),
        tuple([lease for place, lease in enumerate(leases) if place not in denied]),
        tuple(
            DeniedLease(place, tuple(replace(each, effect=Effect.NOTES) for each in _told(why)))
            for place, why in denied.items()
        ),
    )


def _told_in_order(
    frame: Sequence[Finding],
    leases: Sequence[VerifiedLease],
    found: Sequence[Sequence[Finding]],
) -> tuple[Finding, ...]:
    # Only what bars a lease says what the verifier's leash key was: who makes the decision again
    # needs it, so a refusal must not leave it out for its number, nor a grant for want of room.
    first = sorted(zip(leases, found, strict=True), key=lambda each: not each[0].barred)
    return (*frame, *(finding for _, findings in first for finding in findings))


def _told(refusing: Sequence[Finding]) -> Sequence[Finding]:
    return refusing[:MAX_REASONS]


def _left_out(finding: Finding, place: int, count: int) -> Finding:
    message = f"Lease {place + 1} of {count} is left out. {finding.message}"
    return replace(finding, message=message, effect=Effect.NOTES)


def _too_many(at_most: int, seen: int) -> Finding:
    return Finding(
        "policy.leases.too-many",
        "The evidence asks for more leases than the policy grants at once.",
        expected=str(at_most),
        seen=str(seen),
    )


def _judged(rules: Policy, known: Known, lease: VerifiedLease) -> tuple[Finding, ...]:
    findings = _denied(rules, known, lease.scope, lease.audience, lease.protection)
    if lease.level == EXPIRING_LEVEL and lease.permit is None:
        findings = (*findings, _UNPROVEN)
    if lease.encoding is TokenEncoding.UNSAFE_BEARER:
        return (*findings, _bearer(rules, lease.audience))
    return findings


def _bearer(rules: Policy, audience: str) -> Finding:
    # A node's wish alone must not make what it holds worth stealing.
    shown = legible(audience, at_most=MAX_AUDIENCE)
    if audience not in rules.lease.unsafe_bearer_audiences:
        return Finding(
            "policy.unsafe-bearer.denied",
            f"The policy grants no bearer token for the audience {shown}.",
            seen=shown,
        )
    return Finding(
        "policy.unsafe-bearer.granted",
        f"The token for {shown} is a bearer token: whoever has it can use it until it expires.",
        effect=Effect.NOTES,
        seen=shown,
    )


@functools.lru_cache(maxsize=16_384)
def _denied(
    rules: Policy,
    known: Known,
    scope: tuple[str, ...],
    audience: str,
    protection: KeyProtection,
) -> tuple[Finding, ...]:
    # A lease asks for the same at each of its renewals, and few facts change from one to the next.
    shown = legible(audience, at_most=MAX_AUDIENCE)
    if audience not in rules.lease.audiences:
        # A node can name any number of them: scopes are not judged for those.
        return (
            Finding(
                "policy.audience.denied",
                f"The policy grants nothing for the audience {shown}.",
                seen=shown,
            ),
        )
    verdicts = [_verdict(rules, known, name, audience, protection) for name in scope]
    return tuple(
        finding for verdict in verdicts if not verdict.granted for finding in _why(verdict, shown)
    )


@functools.lru_cache(maxsize=16_384)
def _verdict(
    rules: Policy, known: Known, name: str, audience: str, protection: KeyProtection
) -> ScopeVerdict:
    # Each name once: leases of one node that differ in one name share the rest.
    (verdict,) = rules.authorization.decide(known, (name,), audience, protection)
    return verdict


def _why(verdict: ScopeVerdict, audience: str) -> Iterator[Finding]:
    names = ", ".join(verdict.policies[:_MAX_NAMED])
    if len(verdict.policies) > _MAX_NAMED:
        names += f" and {len(verdict.policies) - _MAX_NAMED} more"
    reason = f"forbidden by {names}" if names else "permitted by no policy"
    which = "" if verdict.at == verdict.name else f"{verdict.at}, which it covers, is "
    yield Finding(
        "policy.scope.denied",
        f"The policy does not grant the scope {verdict.name} for {audience}: {which}{reason}.",
        seen=verdict.name,
    )
    if verdict.errors:
        yield Finding(
            "policy.scope.undecided",
            f"The policy cannot be evaluated for the scope {verdict.name}, which denies it: "
            f"{verdict.errors[0]}.",
            seen=verdict.name,
        )
