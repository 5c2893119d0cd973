"""Reading request bodies that strangers send: bounded in length, time and number.

Specification: RFC 9110 §8.3 (Content-Type), §8.4 (Content-Encoding), §15.5.14 (413). A body is
refused as soon as its announced or its real length is too much, and what is refused is not read
to its end: the connection is closed instead. No content coding is accepted, so nothing inflates.

Memory is budgeted by what has arrived, never by what was announced: who announces much and sends
nothing holds nothing. Full evidence of the usual size has a budget that longer bodies cannot use
up, the operator has one of its own, and one client gets only a part of each.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from bootlease.verifier.limits import Limits
from bootlease.verifier.problems import ProblemError, ProblemKind

ALL_HERE: Final = "body_all_here"
"""Of a request's state: its body came with its head, so that there is nothing to wait for."""
_MAX_LENGTH_DIGITS: Final = 15


class Budget:
    """How much of bodies of one kind may be in memory at once.

    Args:
        size: Bytes of all clients.
        per_client: Bodies of one client.
    """

    __slots__ = ("_free", "_per_client", "_present")

    def __init__(self, size: int, per_client: int) -> None:
        self._free = size
        self._per_client = per_client
        self._present = Counter[str]()

    def enter(self, client: str) -> None:
        """Let one more body of ``client`` begin.

        Raises:
            ProblemError: It has as many as it may.
        """
        if self._present[client] >= self._per_client:
            raise _busy("Too many large requests of one client at once; try again.")
        self._present[client] += 1

    def take(self, size: int) -> None:
        """Take so many bytes.

        Raises:
            ProblemError: Fewer are free.
        """
        if size > self._free:
            raise _busy("Too many large requests at once; try again.")
        self._free -= size

    def leave(self, client: str, size: int) -> None:
        """Give back what one body of ``client`` took."""
        self._free += size
        self._present[client] -= 1
        if not self._present[client]:
            del self._present[client]


def _busy(detail: str) -> ProblemError:
    return ProblemError(ProblemKind.BUSY, detail, retry_after=2)


@dataclass(frozen=True, slots=True)
class Tier:
    """The bytes of a body that one budget pays for.

    Attributes:
        above: Those after this many,
        up_to: and not after this many.
        budget: The budget.
    """

    above: int
    up_to: int
    budget: Budget


def tiers_of_strangers(limits: Limits) -> tuple[Tier, ...]:
    """Return what pays for the bodies of nodes and of whoever says to be one."""
    ordinary = Budget(limits.ordinary_bytes, limits.ordinary_per_client)
    huge = Budget(limits.huge_bytes, limits.huge_per_client)
    return (
        Tier(limits.small, limits.ordinary, ordinary),
        Tier(limits.ordinary, limits.evidence_ima, huge),
    )


def tiers_of_operators(limits: Limits) -> tuple[Tier, ...]:
    """Return what pays for bodies that came with an admin credential."""
    budget = Budget(limits.admin_bytes, limits.ordinary_per_client)
    return (Tier(limits.small, limits.reference, budget),)


class Body:
    """The body of one request, held within bounds until ``release``.

    Args:
        tiers: What pays for it.
        client: Whose it is.
    """

    __slots__ = ("_client", "_taken", "_tiers", "data")

    def __init__(self, tiers: Sequence[Tier], client: str) -> None:
        self._tiers = tiers
        self._client = client
        self._taken: dict[Budget, int] = {}
        self.data = b""

    async def read(self, request: Request, media_type: str | None, *, at_most: int) -> bytes:
        """Read the body.

        Args:
            request: The request.
            media_type: The only media type accepted; None where no body is.
            at_most: Longest body accepted.

        Raises:
            ProblemError: Another media type, a coding, too long, too slow, or no room for it.
        """
        limits: Limits = request.app.state.service.limits
        if media_type is not None:
            _check_media_type(request, media_type)
        if announced_length(request) > at_most:
            raise _too_large(at_most)
        try:
            if request.scope["state"].get(ALL_HERE):
                self.data = await self._receive(request, at_most)
            else:
                async with asyncio.timeout(limits.body_time):
                    self.data = await self._receive(request, at_most)
        except TimeoutError as exc:
            raise ProblemError(
                ProblemKind.TIMEOUT,
                f"The body did not arrive within {limits.body_time:g} seconds.",
            ) from exc
        except ClientDisconnect as exc:
            raise ProblemError(ProblemKind.MALFORMED, "The body ended early.") from exc
        request.scope["state"]["body_read"] = True
        return self.data

    async def _receive(self, request: Request, at_most: int) -> bytes:
        chunks: list[bytes] = []
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > at_most:
                raise _too_large(at_most)
            self._pay(length)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _pay(self, length: int) -> None:
        for tier in self._tiers:
            if length <= tier.above:
                return
            if tier.budget not in self._taken:
                tier.budget.enter(self._client)
                self._taken[tier.budget] = 0
            owed = min(length, tier.up_to) - tier.above - self._taken[tier.budget]
            tier.budget.take(owed)
            self._taken[tier.budget] += owed

    def release(self) -> None:
        """Let go of the body."""
        self.data = b""
        for budget, size in self._taken.items():
            budget.leave(self._client, size)
        self._taken = {}


def _check_media_type(request: Request, media_type: str) -> None:
    given = [value.strip().lower() for value in request.headers.getlist("content-type")]
    if given != [media_type]:
        raise ProblemError(ProblemKind.MEDIA, f"The body must be {media_type}, without parameters.")
    codings = [value.strip().lower() for value in request.headers.getlist("content-encoding")]
    if codings not in ([], ["identity"]):
        raise ProblemError(ProblemKind.MEDIA, "No content encoding is accepted.")


def announced_length(request: Request) -> int:
    """Return how long the body will be; 0 where no header says so, for then there is none.

    Raises:
        ProblemError: The header is not a length.
    """
    text = request.headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        raise ProblemError(ProblemKind.MALFORMED, "Content-Length is not a length.")
    return int(text)


def _too_large(at_most: int) -> ProblemError:
    if at_most == 0:
        return ProblemError(ProblemKind.TOO_LARGE, "This request takes no body.")
    return ProblemError(ProblemKind.TOO_LARGE, f"The body must have at most {at_most} bytes.")
