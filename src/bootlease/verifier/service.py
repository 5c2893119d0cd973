"""Everything a running verifier consists of, put together; nothing here knows of HTTP."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from bootlease.ledger import NoteKey
from bootlease.ports import Clock, Store
from bootlease.token import KeySet, VerificationKey
from bootlease.verifier.answers import Issuer
from bootlease.verifier.code import code_identity
from bootlease.verifier.enrolling import Enrolling
from bootlease.verifier.keys import Keys
from bootlease.verifier.leasing import Leasing
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.logins import Logins
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.registry import Registry, load_snapshot


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        """Return seconds since the epoch."""
        return int(time.time())

    def boottime(self) -> float:
        """Return seconds since boot, time asleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class Throttle:
    """The rates of strangers.

    Evidence that does not verify is counted for each client *and node*, so that nobody uses up
    the patience that another client has with its own node. Only what a node's own AK signed is
    counted for the node alone.
    """

    def __init__(self, limits: Limits) -> None:
        keys = limits.tracked_clients
        self.challenges = RateCounter(limits.challenges, keys)
        self.challenges_per_client = RateCounter(limits.challenges_per_client, keys)
        self.failures = RateCounter(limits.failures, keys, shared=False)
        self.failures_per_client = RateCounter(limits.failures_per_client, keys, shared=False)
        self.own_failures = RateCounter(limits.own_failures, keys, shared=False)
        self.slow_bodies = RateCounter(limits.slow_bodies, keys, shared=False)
        self.refusals = RateCounter(limits.refusals, keys, shared=False)
        self.unknown_nodes = RateCounter(limits.unknown_nodes, keys)
        self.enrolments = RateCounter(limits.enrolments, keys)
        self.logins = RateCounter(limits.logins, keys, shared=False)
        self.ledger = RateCounter(limits.ledger, keys)


@dataclass(slots=True)
class Service:
    """A verifier.

    Attributes:
        issuer: Its name and key.
        keys: What it publishes for its tokens.
        ledger_key: What it publishes for its ledger.
        store: What it remembers.
        registry: What its operator decided.
        enrolling: Lets nodes in.
        leasing: Sets challenges and answers evidence.
        logins: Records who acts as an operator.
        clock: Tells the time.
        limits: Bounds.
        throttle: Rates.
        counts: What happened since the last summary, by name.
    """

    issuer: Issuer
    keys: KeySet
    ledger_key: NoteKey
    store: Store
    registry: Registry
    enrolling: Enrolling
    leasing: Leasing
    logins: Logins
    clock: Clock
    limits: Limits
    throttle: Throttle
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def longest_evidence(self) -> int:
        """Length of the longest evidence document accepted now."""
        active = self.registry.now.active
        looks_at_ima = active is not None and active.policy.ima.required
        return self.limits.evidence_ima if looks_at_ima else self.limits.evidence


async def build_service(
    store: Store,
    keys: Keys,
    issuer: str,
    *,
    clock: Clock | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Service:
    """Put a verifier together.

    Args:
        store: An open store.
        keys: What it signs with.
        issuer: The verifier's URL.
        clock: Tells the time; the system's by default.
        limits: Bounds.
    """
    ticking = clock or SystemClock()
    registry = Registry(store, ticking, await load_snapshot(store))
    who = Issuer(issuer, keys.token, code_identity())
    return Service(
        issuer=who,
        keys=KeySet((VerificationKey(keys.token.public),)),
        ledger_key=keys.ledger.key,
        store=store,
        registry=registry,
        enrolling=Enrolling(store, registry, ticking, limits),
        leasing=Leasing(store, registry, who, ticking, limits),
        logins=Logins(store, ticking),
        clock=ticking,
        limits=limits,
        throttle=Throttle(limits),
    )
