"""Lineage: the chain of leases of one boot.

A renewal continues the lineage only while nothing it rests on has changed: its head, the boot,
the life of the lease before. Everything else begins a new lineage, with every log in full, so
that no lineage stands on a log the verifier has not appraised (design section 4, step 6).

How far the node's IMA list was appraised belongs to the lineage too, and is carried here; what it
says of further entries is ``appraisal.ima``'s to judge.

Two different renewals of one head are a fork: two copies of one node's state, such as a cloned
virtual TPM. The first moves the head; the other then names one that was continued before, which a
lineage remembers, also over the beginning of the next. Its refusal ends the node's lineage: neither
copy goes on. That two do not both move the head is the store's to see, in the transaction.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence import TCG_LOG, VerifiedEvidence
from bootlease.evidence.fields import DIGEST_SIZE
from bootlease.frozen import quick_init
from bootlease.ima.state import IMAState
from bootlease.model import ClockInfo, Finding

MAX_PRIOR: Final = 4096
MAX_SEQUENCE: Final = 10_000
"""Number of a lineage's last decision. A lease is proven by its lineage back to full evidence: what
is granted must fit into a proof (``ledger.prooffile.MAX_PROOF``). Agents begin anew long before."""
MAX_HEADS: Final = 3
"""Heads before the last that are told from an unknown one: agents renew at a third of a life, so a
copy that is further behind holds no lease any more."""


@dataclass(frozen=True, slots=True)
class IMAProgress:
    """How far an IMA list was appraised.

    Attributes:
        state: Behind the last entry that a quote vouched for: what further entries continue.
        rules: Digest of all that its entries were judged by. Under other rules the entries before
            count for nothing, and the list has to be seen whole.
    """

    state: IMAState
    rules: bytes


@quick_init
@dataclass(frozen=True, slots=True)
class Prior:
    """Where a lineage stands: what the last decision left behind.

    Attributes:
        root: Evidence digest of the lineage's first evidence.
        head: Names the last decision of the lineage; a renewal must name it.
        sequence: Number of that decision, from 0.
        clock_info: The TPM's counters at that decision.
        expires_at: First second at which its leases are over.
        log_digests: SHA-256 of the logs that were appraised, by kind.
        policy_epoch: Epoch of the policy that granted.
        began_at: Seconds since the epoch at which the lineage's first decision was made.
        heads: The node's heads before this one, the last first; at most ``MAX_HEADS``.
        ima: How far the IMA list was appraised, where the policy looked at it.
    """

    root: bytes
    head: bytes
    sequence: int
    clock_info: ClockInfo
    expires_at: int
    log_digests: Mapping[str, bytes]
    policy_epoch: int
    began_at: int
    heads: tuple[bytes, ...] = ()
    ima: IMAProgress | None = None
    _encoded: bytes | None = field(init=False, default=None, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return the deterministic CBOR: an array, for an order that needs no sorting.

        ``[root, head, sequence, [clock, resetCount, restartCount, safe], expires at,
        {kind: log digest}, policy epoch, began at, [head before...]]``; where IMA was appraised,
        ``[state, rules]`` is last.
        """
        encoded = self._encoded
        if encoded is None:
            encoded = self._encode()
            object.__setattr__(self, "_encoded", encoded)
        return encoded

    def _encode(self) -> bytes:
        # Written out, for every grant waits for it: the general encoder takes three times as long.
        clock, octets, number = self.clock_info, cbor.encode_bytes, cbor.encode_integer
        members = [
            octets(self.root),
            octets(self.head),
            number(self.sequence),
            b"\x84" + number(clock.clock),
            number(clock.reset_count),
            number(clock.restart_count),
            b"\xf5" if clock.safe else b"\xf4",
            number(self.expires_at),
            _encode_logs(self.log_digests),
            number(self.policy_epoch),
            number(self.began_at),
            cbor.array([octets(each) for each in self.heads]),
        ]
        if self.ima is None:
            return b"\x89" + b"".join(members)
        progress = cbor.array((octets(self.ima.state.encode()), octets(self.ima.rules)))
        return b"\x8a" + b"".join(members) + progress

    @classmethod
    def parse(cls, data: bytes) -> Prior:
        """Parse an encoded prior state.

        Raises:
            MalformedError: The bytes are no prior state.
        """
        members = cbor.decode(data, max_bytes=MAX_PRIOR)
        types = [type(member) for member in members] if type(members) is list else []
        if types not in (_PRIOR_TYPES, [*_PRIOR_TYPES, list]):
            raise MalformedError("a prior state has other members")
        root, head, sequence, clock, expires_at, logs, epoch, began_at, heads, *progress = members
        if [type(value) for value in clock] != [int, int, int, bool]:
            raise MalformedError("a prior state needs the TPM's counters")
        if len(root) != DIGEST_SIZE or len(head) != DIGEST_SIZE:
            raise MalformedError("a prior state needs root and head")
        if min(sequence, expires_at, epoch, began_at, *clock[:3]) < 0:
            raise MalformedError("a prior state has no negative numbers")
        for kind, digest in logs.items():
            if type(kind) is not str or type(digest) is not bytes or len(digest) != DIGEST_SIZE:
                raise MalformedError("a prior state needs log digests")
        if len(heads) > MAX_HEADS or any(
            type(each) is not bytes or len(each) != DIGEST_SIZE for each in heads
        ):
            raise MalformedError(f"a prior state has at most {MAX_HEADS} heads before its own")
        ima = _parse_progress(progress[0]) if progress else None
        prior = cls(
            *(root, head, sequence, ClockInfo(*clock), expires_at, logs, epoch),
            *(began_at, tuple(heads), ima),
        )
        object.__setattr__(prior, "_encoded", data)
        return prior


def _encode_logs(digests: Mapping[str, bytes]) -> bytes:
    # Of nearly every node it is the firmware's log alone.
    if digests.keys() == _TCG_ALONE:
        return _TCG + cbor.encode_bytes(digests[TCG_LOG])
    return cbor.encode(dict(digests))


_TCG_ALONE: Final = {TCG_LOG}
_TCG: Final = b"\xa1" + cbor.encode(TCG_LOG)
_PRIOR_TYPES: Final = [bytes, bytes, int, list, int, dict, int, int, list]


def _parse_progress(members: Sequence[Any]) -> IMAProgress:
    if [type(member) for member in members] != [bytes, bytes]:
        raise MalformedError("a prior state needs state and rules of an IMA list")
    state, rules = members
    if len(rules) != DIGEST_SIZE:
        raise MalformedError("a prior state needs the digest of IMA rules")
    return IMAProgress(IMAState.parse(state), rules)


@quick_init
@dataclass(frozen=True, slots=True)
class Lineage:
    """A decision's place in its lineage.

    Attributes:
        root: Evidence digest of the lineage's first evidence.
        previous: Head before this decision, ``None`` for the first.
        sequence: Number of this decision, from 0.
        began_at: Seconds since the epoch at which its first decision was made.
        heads: The node's heads that a grant leaves behind it, the last first.
    """

    root: bytes
    previous: bytes | None
    sequence: int
    began_at: int
    heads: tuple[bytes, ...] = ()


def head_after(claims_digests: Sequence[bytes]) -> bytes:
    """Return the head that a decision leaves: what its next renewal must name.

    Args:
        claims_digests: Claims digest of each lease granted, in order; at least one.
    """
    if len(claims_digests) == 1:
        return claims_digests[0]
    if not claims_digests:
        raise ValueError("a decision without leases leaves no head")
    return hashlib.sha256(cbor.encode(list(claims_digests))).digest()


def continue_lineage(
    prior: Prior | None, evidence: VerifiedEvidence, *, now: int
) -> tuple[Lineage, tuple[Finding, ...]]:
    """Place verified evidence in its lineage.

    Args:
        prior: Where the node's live lineage stands, if it has one.
        evidence: Verified evidence.
        now: Seconds since the epoch.

    Returns:
        The place, and why the lineage cannot go on there. With a refusing finding the place is
        only what was asked for.
    """
    heads = () if prior is None else (prior.head, *prior.heads)[:MAX_HEADS]
    if evidence.previous is None:
        findings = _unseen(evidence, {}, "a new lineage")
        return Lineage(evidence.digest, None, 0, now, heads), tuple(findings)
    if prior is None:
        return Lineage(evidence.digest, evidence.previous, 0, now), (
            Finding(
                "lineage.unknown-head",
                "The evidence continues a lineage that is not live; begin a new one.",
                seen=evidence.previous.hex(),
            ),
        )
    findings = _continuity(prior, evidence, now)
    if evidence.log_digests != prior.log_digests:
        findings += _unseen(evidence, prior.log_digests, "a log that changed")
    place = Lineage(prior.root, prior.head, prior.sequence + 1, prior.began_at, heads)
    return place, tuple(findings)


def _continuity(prior: Prior, evidence: VerifiedEvidence, now: int) -> list[Finding]:
    findings: list[Finding] = []
    if evidence.previous in prior.heads:
        findings.append(
            Finding(
                "lineage.forked",
                "The evidence continues a lease that was continued before: two copies of this "
                "node's state are in use, and both lineages end.",
                expected=prior.head.hex(),
                seen=evidence.previous.hex(),
            )
        )
    elif evidence.previous is None or not hmac.compare_digest(evidence.previous, prior.head):
        findings.append(
            Finding(
                "lineage.head.mismatch",
                "The evidence continues another lease than the lineage's last.",
                expected=prior.head.hex(),
                seen=None if evidence.previous is None else evidence.previous.hex(),
            )
        )
    if now >= prior.expires_at:
        findings.append(
            Finding(
                "lineage.lapsed",
                "The lease to renew has lapsed; begin a new lineage.",
                expected=f"before {prior.expires_at}",
                seen=str(now),
            )
        )
    if prior.sequence >= MAX_SEQUENCE:
        findings.append(
            Finding(
                "lineage.too-long",
                "The lineage has as many leases as a proof may hold; begin a new one.",
                expected=f"at most {MAX_SEQUENCE}",
                seen=str(prior.sequence + 1),
            )
        )
    # A boot is a lineage's whole extent: another boot may run other software under old leases.
    before, clock = prior.clock_info, evidence.quote.clock_info
    if before.reset_count != clock.reset_count or before.restart_count != clock.restart_count:
        findings.append(
            Finding(
                "lineage.boot-changed",
                "The node was reset or restarted since the last lease; begin a new lineage.",
                expected=f"resetCount {before.reset_count}, restartCount {before.restart_count}",
                seen=f"resetCount {clock.reset_count}, restartCount {clock.restart_count}",
            )
        )
    return findings


def _unseen(evidence: VerifiedEvidence, seen: Mapping[str, bytes], what: str) -> list[Finding]:
    """Demand in full every log whose digest has not been appraised in this lineage."""
    return [
        Finding(
            "lineage.full-evidence-required",
            f"The {kind} log is named by its digest only, but {what} must be sent in full.",
            seen=digest.hex(),
        )
        for kind, digest in evidence.log_digests.items()
        if kind not in evidence.logs and seen.get(kind) != digest
    ]
