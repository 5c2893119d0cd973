"""The leases that are open: who opened each, who watches it, what it was granted last.

All of it belongs to the API's thread, and nothing in it waits for anybody. A lease is wished for as
long as the stream that opened it is open. Its handle is a secret of 256 random bits that is kept
only as a digest, and looked up by that: how long a comparison takes tells nothing about a handle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from bootlease.errors import TransportError
from bootlease.evidence import TokenEncoding
from bootlease.localapi import (
    Alive,
    Denied,
    Ended,
    EndedReason,
    Event,
    Granted,
    LeaseAsk,
    Unreached,
    encode_event,
)
from bootlease.model import Effect, Finding
from bootlease.node.lease import EndReason, HeldLease, Holding
from bootlease.node.wishbook import NoSuchKeyError, ShareTakenError, Wishes, WishId
from bootlease.node.workloads.peers import Peer
from bootlease.node.workloads.problems import (
    ProblemError,
    ProblemKind,
    busy,
    in_use,
    no_such_key,
    nobody,
    too_long,
    unknown_lease,
)
from bootlease.node.workloads.ratelimit import RateLimiter
from bootlease.node.workloads.rules import Rule, Rules, permitting
from bootlease.node.workloads.wishing import holder_of, key_of, wish_of
from bootlease.ports import Clock
from bootlease.token import base64url

MAX_WATCHERS: Final = 16
"""Streams that watch one lease, besides the one that holds it."""

_TOLD: Final[Mapping[EndReason, EndedReason]] = {
    EndReason.LAPSED: EndedReason.LAPSED,
    EndReason.REFUSED: EndedReason.REFUSED,
    EndReason.REBOOTED: EndedReason.REBOOTED,
    EndReason.UNUSABLE: EndedReason.LAPSED,
}
"""What a stream is told. Not of the agent's stop: a lease goes on without it until its deadline."""


class Stream(Protocol):
    """A connection that events go to."""

    def send(self, line: bytes) -> None:
        """Send an event, without waiting."""

    def finish(self) -> None:
        """Close the stream behind what was sent."""


@dataclass(slots=True, eq=False)
class OpenLease:
    """A lease that a workload holds open.

    Attributes:
        peer: Who opened it, as it was then.
        ask: What it asked for.
        rule: The rule that permits it.
        wish: Its wish at the agent.
        opener: The stream that it is open by.
        watchers: Other streams.
        holding: What it was granted last, if that has not ended.
        granted: The same, as workloads are told.
        refused: A refusal was told since it was opened or granted.
    """

    peer: Peer
    ask: LeaseAsk
    rule: Rule
    wish: WishId
    opener: Stream
    watchers: list[Stream] = field(default_factory=list)
    holding: Holding | None = None
    granted: Granted | None = None
    refused: bool = False

    def tell(self, event: Event) -> None:
        """Tell every stream."""
        line = encode_event(event)
        for stream in (self.opener, *self.watchers):
            stream.send(line)


class Leases:
    """Every open lease.

    Args:
        rules: Who may have what.
        wishes: The agent's book.
        clock: Both clocks that a lease ends by.
        on_change: Told of each lease that is opened or closed, by a word for it.
        opening: How often leases may be opened under one rule.
    """

    def __init__(
        self,
        rules: Rules,
        wishes: Wishes,
        clock: Clock,
        on_change: Callable[[str, OpenLease], None],
        opening: RateLimiter[str],
    ) -> None:
        self._rules = rules
        self._wishes = wishes
        self._clock = clock
        self._on_change = on_change
        self._opening = opening
        self._by_handle: dict[tuple[str, bytes], OpenLease] = {}
        self._by_wish: dict[WishId, OpenLease] = {}
        self._by_stream: dict[Stream, OpenLease] = {}

    def __len__(self) -> int:
        return len(self._by_wish)

    def rules_about(self, peer: Peer) -> tuple[Rule, ...]:
        """Return the rules in force that speak of ``peer``."""
        return self._rules.about(peer)

    # -- what workloads do

    def open(self, peer: Peer, ask: LeaseAsk, stream: Stream) -> None:
        """Wish for a lease, for as long as ``stream`` is open.

        Raises:
            ProblemError: No rule permits it, a bound is reached, or the handle is in use.
        """
        rule = self._rule(peer, ask)
        name = _name(rule, ask.handle)
        if name in self._by_handle:
            raise in_use()
        if sum(lease.rule.name == rule.name for lease in self._by_wish.values()) >= rule.leases:
            raise ProblemError(
                ProblemKind.TOO_MANY,
                Finding(
                    "workload.leases.too-many",
                    f"Rule {rule.name} permits {rule.leases} leases at once.",
                ),
                retry_after=5,
            )
        if not self._opening.take(rule.name):
            raise busy(f"Leases are opened too often under rule {rule.name}.")
        lease = OpenLease(peer, ask, rule, self._wish(peer, rule, ask), stream)
        self._by_handle[name] = self._by_wish[lease.wish] = self._by_stream[stream] = lease
        self._on_change("opened", lease)

    def find(self, peer: Peer, handle: str) -> OpenLease:
        """Return the lease that ``handle`` names, where ``peer`` is of the rule that it is under.

        Raises:
            ProblemError: There is none.
        """
        for rule in self._rules.about(peer):
            lease = self._by_handle.get(_name(rule, handle))
            if lease is not None:
                return lease
        raise unknown_lease()

    def standing(self, peer: Peer, handle: str) -> tuple[Granted, Holding]:
        """Return what the lease that ``handle`` names was granted, if it stands at this moment.

        Raises:
            ProblemError: There is no such lease, or it does not stand.
        """
        lease = self.find(peer, handle)
        granted, holding = lease.granted, lease.holding
        if granted is None or holding is None or self._over(granted):
            raise ProblemError(
                ProblemKind.NO_LEASE,
                Finding("workload.lease.none", "The lease is not granted at this moment."),
                retry_after=1,
            )
        return granted, holding

    def watchable(self, peer: Peer, handle: str) -> OpenLease:
        """Return the lease that ``handle`` names, where one more may watch it.

        Raises:
            ProblemError: There is no such lease, or enough watch it.
        """
        lease = self.find(peer, handle)
        if len(lease.watchers) >= MAX_WATCHERS:
            raise busy(f"{MAX_WATCHERS} streams watch this lease already.")
        return lease

    def watch(self, lease: OpenLease, stream: Stream) -> None:
        """Tell ``stream`` what happens to a lease, from what it was granted last on."""
        lease.watchers.append(stream)
        self._by_stream[stream] = lease
        if lease.granted is not None and not self._over(lease.granted):
            stream.send(encode_event(lease.granted))

    def closed(self, stream: Stream) -> None:
        """Take note that a stream is closed: what it held open is withdrawn."""
        lease = self._by_stream.pop(stream, None)
        if lease is None:
            return
        if lease.opener is stream:
            self._close(lease)
        else:
            lease.watchers.remove(stream)

    # -- what the agent brings

    def granted(self, lease: HeldLease) -> None:
        """Hand out what was granted, each to its own."""
        for holding in lease.holdings:
            opened = self._by_wish.get(holding.id)
            if opened is not None:
                opened.holding = holding
                opened.refused = False
                opened.granted = _granted(opened, holding, lease)
                opened.tell(opened.granted)

    def ended(self, reason: EndReason, findings: tuple[Finding, ...]) -> None:
        """Tell that nothing is granted any more."""
        told = _TOLD.get(reason)
        for lease in list(self._by_wish.values()):
            lease.holding = lease.granted = None
            lease.refused = told is EndedReason.REFUSED
            if told is not None:
                lease.tell(Ended(told, findings))

    def denied(self, denied: Mapping[WishId, tuple[Finding, ...]]) -> None:
        """Tell those whose wish was denied alone, and close their streams."""
        for wish, findings in denied.items():
            lease = self._by_wish.get(wish)
            if lease is not None:
                # Of the node's decision they are notes; of this lease they are the refusal.
                self._end(lease, [replace(each, effect=Effect.REFUSES) for each in findings])

    def node_refused(self, findings: tuple[Finding, ...]) -> None:
        """Tell those who wait for a first lease that the node is refused, once."""
        for lease in list(self._by_wish.values()):
            if lease.granted is None and not lease.refused:
                lease.refused = True
                lease.tell(Ended(EndedReason.REFUSED, findings))

    def unreached(self, error: str, retry_in: float) -> None:
        """Tell that an attempt brought no answer."""
        for lease in list(self._by_wish.values()):
            lease.tell(Unreached(error, retry_in))

    def alive(self) -> None:
        """Tell every stream that the agent lives."""
        line = encode_event(Alive())
        for stream in list(self._by_stream):
            stream.send(line)

    # -- what the operator does

    def reload(self, rules: Rules) -> None:
        """Put other rules in force: what they do not permit ends."""
        self._rules = rules
        self._by_handle.clear()
        for lease in list(self._by_wish.values()):
            try:
                self._move(lease, self._rule(lease.peer, lease.ask))
            except ProblemError as exc:
                gone = Finding("workload.rule.withdrawn", "The agent's rules permit this no more.")
                self._end(lease, (gone, *exc.findings))

    # -- inside

    def _over(self, granted: Granted) -> bool:
        # Of two threads the keeper's may be late: by the clocks the lease is over all the same.
        over = self._clock.boottime() >= granted.deadline
        return over or self._clock.now() >= granted.expires_at

    def _rule(self, peer: Peer, ask: LeaseAsk) -> Rule:
        rules = self._rules.about(peer)
        if not rules:
            raise nobody(peer)
        return permitting(rules, ask)

    def _wish(self, peer: Peer, rule: Rule, ask: LeaseAsk) -> WishId:
        share = self._rules.share(rule)
        try:
            return self._wishes.add(wish_of(rule, ask), key_of(ask), holder_of(peer, rule), share)
        except NoSuchKeyError as exc:
            raise no_such_key() from exc
        except ShareTakenError as exc:
            raise too_long(rule.name) from exc
        except TransportError as exc:
            raise busy("The agent holds as many leases as it can.", retry_after=5) from exc

    def _move(self, lease: OpenLease, rule: Rule) -> None:
        name = _name(rule, lease.ask.handle)
        if name in self._by_handle:
            raise in_use()
        level = lease.rule.believed(lease.ask.level)
        lease.rule = rule
        self._by_handle[name] = lease
        if rule.believed(lease.ask.level) == level:
            self._wishes.hand_over(lease.wish, holder_of(lease.peer, rule))
            return
        self._wishes.remove(lease.wish)
        del self._by_wish[lease.wish]
        lease.wish = self._wish(lease.peer, rule, lease.ask)
        self._by_wish[lease.wish] = lease

    def _end(self, lease: OpenLease, findings: Sequence[Finding]) -> None:
        lease.tell(Denied(tuple(findings)))
        self._close(lease)

    def _close(self, lease: OpenLease) -> None:
        self._wishes.remove(lease.wish)
        self._by_wish.pop(lease.wish, None)
        name = _name(lease.rule, lease.ask.handle)
        if self._by_handle.get(name) is lease:
            del self._by_handle[name]
        lease.holding = lease.granted = None
        for stream in _streams(lease):
            self._by_stream.pop(stream, None)
            stream.finish()
        lease.watchers.clear()
        self._on_change("closed", lease)


def _streams(lease: OpenLease) -> Iterator[Stream]:
    yield lease.opener
    yield from lease.watchers


def _name(rule: Rule, handle: str) -> tuple[str, bytes]:
    return rule.name, hashlib.sha256(handle.encode()).digest()


def _granted(lease: OpenLease, holding: Holding, held: HeldLease) -> Granted:
    claims = holding.token.claims
    return Granted(
        handle=lease.ask.handle,
        lease_id=claims.lease_id.hex(),
        token=token_text(holding),
        encoding=lease.ask.encoding,
        sequence=held.sequence,
        scope=claims.scope,
        audience=claims.audience,
        expires_at=held.expires_at,
        deadline=held.deadline,
        life=held.life,
        level=claims.level,
    )


def token_text(holding: Holding) -> str:
    """Return a token as an Authorization header carries it."""
    if holding.wish.encoding is TokenEncoding.CWT:
        return base64url.encode(holding.encoded)
    return holding.encoded.decode("ascii")
