"""Everything a running verifier consists of, put together; nothing here knows of HTTP."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bootlease.ledger import NoteKey
from bootlease.ports import Clock, Store
from bootlease.token import KeySet
from bootlease.verifier.answers import Issuer
from bootlease.verifier.code import code_identity
from bootlease.verifier.continuity.ending import Ended, Ending
from bootlease.verifier.continuity.live import LiveLeases
from bootlease.verifier.continuity.rebuilding import rebuild
from bootlease.verifier.continuity.revoking import Revoking
from bootlease.verifier.continuity.statements import Statements
from bootlease.verifier.delegation.delegating import Delegating
from bootlease.verifier.enrolling import Enrolling
from bootlease.verifier.keys import Keys
from bootlease.verifier.leasing import Leasing
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.operators.logins import Logins
from bootlease.verifier.operators.proposals import Proposals
from bootlease.verifier.rates import RateCounter
from bootlease.verifier.registry import Registry, load_snapshot
from bootlease.verifier.rotating import KeyMaker, Rotating
from bootlease.verifier.securityevents.streams import Streams
from bootlease.verifier.tokenkeys import Rotated, TokenKeys


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
        self.exchanges = RateCounter(limits.exchanges, keys)
        self.logins = RateCounter(limits.logins, keys, shared=False)
        self.ledger = RateCounter(limits.ledger, keys)
        self.statements = RateCounter(limits.statements, keys)
        self.verifications = RateCounter(limits.verifications, keys)


@dataclass(slots=True)
class Service:
    """A verifier.

    Attributes:
        issuer: Its name and key.
        tokens: What it signs tokens with.
        rotating: Puts another key in its place.
        ledger_key: What it publishes for its ledger.
        store: What it remembers.
        registry: What its operator decided.
        enrolling: Lets nodes in.
        leasing: Sets challenges and answers evidence.
        delegating: Gives child leases for holders' grants.
        ending: Ends leases, and knows which live.
        revoking: Revokes.
        statements: Says what still counts.
        logins: Records who acts as an operator.
        proposals: Keeps what waits for a second person.
        streams: Tells relying parties what ended.
        clock: Tells the time.
        limits: Bounds.
        throttle: Rates.
        counts: What happened since the last summary, by name.
    """

    issuer: Issuer
    tokens: TokenKeys
    rotating: Rotating
    ledger_key: NoteKey
    store: Store
    registry: Registry
    enrolling: Enrolling
    leasing: Leasing
    delegating: Delegating
    ending: Ending
    revoking: Revoking
    statements: Statements
    logins: Logins
    proposals: Proposals
    streams: Streams
    clock: Clock
    limits: Limits
    throttle: Throttle
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def keys(self) -> KeySet:
        """What it publishes for its tokens: the keys that count, the one that signs first."""
        return self.tokens.counting(self.clock.now())

    @property
    def notify(self) -> list[Callable[[Ended], None]]:
        """Who is called with every end of leases before their time."""
        return self.ending.hooks

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
    rotations: Sequence[Rotated] = (),
    maker: KeyMaker | None = None,
) -> Service:
    """Put a verifier together.

    Args:
        store: An open store.
        keys: What it signs with.
        issuer: The verifier's URL.
        clock: Tells the time; the system's by default.
        limits: Bounds.
        rotations: The token keys before, the oldest first.
        maker: Makes the next token key, or None where none is to be made here.

    Raises:
        ValueError: There is no key for security events.
    """
    if keys.events is None:
        raise ValueError("a verifier needs a key for security events")
    ticking = clock or SystemClock()
    streams = Streams(store, keys.events, issuer, ticking)
    await streams.load()
    registry = Registry(store, ticking, await load_snapshot(store))
    tokens = TokenKeys(keys.token, rotations)
    tokens.revoked = lambda: registry.now.revoked.keys
    who = Issuer(issuer, tokens, code_identity(), keys.leash)

    def counting() -> KeySet:
        return tokens.counting(ticking.now())

    ending = Ending(LiveLeases())
    await rebuild(store, ending.live, ticking.now())
    statements = Statements(who, counting, registry, ending.live, clock=ticking, limits=limits)
    revoking = Revoking(store, registry, ending, ticking, counting)
    await revoking.resume()
    ending.changed.append(statements.changed)
    registry.changed.append(statements.changed)
    ending.hooks.append(lambda _: streams.wake())
    return Service(
        issuer=who,
        tokens=tokens,
        rotating=Rotating(store, tokens, issuer, ticking, maker),
        ledger_key=keys.ledger.key,
        store=store,
        registry=registry,
        enrolling=Enrolling(store, registry, ticking, limits, ending),
        leasing=Leasing(store, registry, who, ticking, limits, ending=ending),
        delegating=Delegating(
            store,
            registry,
            who,
            clock=ticking,
            limits=limits,
            live=ending.live,
            keys=counting,
        ),
        ending=ending,
        revoking=revoking,
        statements=statements,
        logins=Logins(store, ticking),
        proposals=Proposals(store, registry, ticking),
        streams=streams,
        clock=ticking,
        limits=limits,
        throttle=Throttle(limits),
    )
