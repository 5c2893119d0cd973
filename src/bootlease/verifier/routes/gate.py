"""Who is heard, and how often: what the routes ask before they do anything for a stranger.

An honest node is never refused for what others do in its name or from its address. Evidence that
names a challenge which only that node was ever told (it rode in an answer to the node) is heard
whatever was counted before; for all other evidence, failures are counted for the client address,
and for the client address together with the node it names, never for that node alone.

A client is an IPv4 address or an IPv6 /64, which is what one customer gets. Behind a Unix socket
there are no addresses: there the node that a request names stands for its client, and whatever
forwards to the socket has to keep clients apart itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from fastapi import Request

from bootlease.errors import MalformedError, VerificationError
from bootlease.verifier.bodies import Body
from bootlease.verifier.glance import nonce_in
from bootlease.verifier.leasing import Decided
from bootlease.verifier.problems import ProblemError, ProblemKind, too_many
from bootlease.verifier.rates import RateCounter, client_at
from bootlease.verifier.service import Service

T = TypeVar("T")


def client_of(request: Request, node: str = "") -> str:
    """Return who asks, as far as the transport tells.

    Args:
        request: The request.
        node: The node it names, in hex.
    """
    return client_at(request.client.host) if request.client is not None else f"unix/{node}"


def throttled(counter: RateCounter, key: tuple[str, ...], now: int) -> None:
    """Count one event.

    Raises:
        ProblemError: There were too many.
    """
    if wait := counter.count(key, now):
        raise too_many(wait)


async def with_body(
    request: Request,
    media_type: str | None,
    at_most: int,
    handle: Callable[[bytes], Awaitable[T]],
    client: str,
) -> T:
    """Read a stranger's body, handle it, and let go of it."""
    body = Body(request.app.state.strangers, client)
    return await _within(body, request, media_type, at_most, handle)


async def with_upload(
    request: Request, media_type: str, at_most: int, handle: Callable[[bytes], Awaitable[T]]
) -> T:
    """Do the same with an operator's upload: no stranger can take the room for it."""
    body = Body(request.app.state.operators, client_of(request))
    return await _within(body, request, media_type, at_most, handle)


async def _within(
    body: Body,
    request: Request,
    media_type: str | None,
    at_most: int,
    handle: Callable[[bytes], Awaitable[T]],
) -> T:
    try:
        return await handle(await body.read(request, media_type, at_most=at_most))
    finally:
        body.release()


_NO_FAILURE: Final = frozenset(
    {
        ProblemKind.BUSY,
        ProblemKind.BUSY_CLIENT,
        ProblemKind.UNAVAILABLE,
        ProblemKind.LOG_WANTED,
        ProblemKind.IMA_WANTED,
        ProblemKind.OUTDATED,
        ProblemKind.UNKNOWN_NODE,
    }
)
_UNREAD: Final = frozenset({ProblemKind.TIMEOUT, ProblemKind.MEDIA, ProblemKind.MALFORMED})
"""What becomes of bodies before anybody judges what they say."""


@dataclass(frozen=True, slots=True)
class Presenter:
    """Somebody who presents evidence in a node's name.

    Attributes:
        service: The verifier.
        client: Who.
        node: In whose name.
        now: When.
    """

    service: Service
    client: str
    node: bytes
    now: int

    @property
    def _named(self) -> tuple[str, str]:
        return self.client, self.node.hex()

    async def admit(self, length: int) -> None:
        """Judge by its length whether a body is worth reading.

        Raises:
            ProblemError: It is long, and its node is not enrolled or its client was too slow or
                failed too often. No renewal is so long.
        """
        limits, throttle = self.service.limits, self.service.throttle
        if not limits.small < length <= self.service.longest_evidence:
            return
        await self.service.leasing.enrolled(self.node)
        if length > limits.ordinary and (
            wait := max(self._patience(), throttle.slow_bodies.wait((self.client,), self.now))
        ):
            raise too_many(wait)

    async def decide(self, body: bytes) -> Decided:
        """Decide about evidence, if its presenter is heard.

        Raises:
            MalformedError: As ``Leasing.lease``.
            VerificationError: As ``Leasing.lease``.
            ProblemError: As ``Leasing.lease``, or there were too many failures.
        """
        throttle = self.service.throttle
        if wait := self._patience():
            if not await self._is_own(body):
                raise too_many(wait)
            if wait := throttle.own_failures.wait(self._named, self.now):
                raise too_many(wait)
        try:
            decided = await self.service.leasing.lease(self.node, body)
        except (VerificationError, MalformedError):
            await self._count(body)
            raise
        except ProblemError as exc:
            if exc.kind not in _NO_FAILURE:
                await self._count(body)
            raise
        if decided.commit is not None and not decided.answer.granted:
            throttle.refusals.count((self.node.hex(),), self.now)
        return decided

    def count_unread(self, error: ProblemError) -> None:
        """Count a body that could not be had.

        Raises:
            ProblemError: It was in the name of a node that is not enrolled, once too often.
        """
        throttle = self.service.throttle
        if error.kind is ProblemKind.UNKNOWN_NODE:
            throttled(throttle.unknown_nodes, (self.client,), self.now)
        elif error.kind in _UNREAD:
            self._count_failure()
            if error.kind is ProblemKind.TIMEOUT:
                throttle.slow_bodies.count((self.client,), self.now)

    def _patience(self) -> int:
        # What a node's own AK signed is counted for the node: nobody else can make it refused.
        throttle = self.service.throttle
        return max(
            throttle.failures.wait(self._named, self.now),
            throttle.failures_per_client.wait((self.client,), self.now),
            throttle.refusals.wait((self.node.hex(),), self.now),
        )

    async def _is_own(self, body: bytes) -> bool:
        nonce = nonce_in(body)
        stored = None if nonce is None else await self.service.store.challenge(nonce)
        return stored is not None and not stored.asked and stored.challenge.node == self.node

    async def _count(self, body: bytes) -> None:
        if await self._is_own(body):
            self.service.throttle.own_failures.count(self._named, self.now)
            self.service.counts["unverified"] += 1
        else:
            self._count_failure()

    def _count_failure(self) -> None:
        throttle = self.service.throttle
        throttle.failures.count(self._named, self.now)
        throttle.failures_per_client.count((self.client,), self.now)
        self.service.counts["unverified"] += 1
