"""Reading request bodies that strangers send: bounded in length, time and number.

Specification: RFC 9110 §8.3 (Content-Type), §8.4 (Content-Encoding), §15.5.14 (413). A body is
refused as soon as its announced or its real length is too much, and what is refused is not read
to its end: the connection is closed instead. No content coding is accepted, so nothing inflates.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from bootlease.verifier.limits import Limits
from bootlease.verifier.problems import ProblemError, ProblemKind

_MAX_LENGTH_DIGITS: Final = 15


class Places:
    """How many long bodies may be in memory at once.

    Args:
        count: How many.
    """

    __slots__ = ("_free",)

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self) -> None:
        """Take a place.

        Raises:
            ProblemError: None is free.
        """
        if self._free == 0:
            raise ProblemError(
                ProblemKind.BUSY, "Too many large requests at once; try again.", retry_after=2
            )
        self._free -= 1

    def leave(self) -> None:
        """Give the place back."""
        self._free += 1


class Body:
    """The body of one request, held within bounds until ``release``."""

    __slots__ = ("_placed", "_places", "data")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._placed = False
        self.data = b""

    async def read(self, request: Request, media_type: str | None, *, at_most: int) -> bytes:
        """Read the body.

        Args:
            request: The request.
            media_type: The only media type accepted; None where no body is.
            at_most: Longest body accepted.

        Raises:
            ProblemError: Another media type, a coding, too long, too slow, or no place for it.
        """
        limits: Limits = request.app.state.service.limits
        if media_type is not None:
            _check_media_type(request, media_type)
        announced = _content_length(request)
        if announced is not None and announced > at_most:
            raise _too_large(at_most)
        if announced is not None and announced > limits.small:
            self._place()
        try:
            async with asyncio.timeout(limits.body_time):
                self.data = await self._receive(request, at_most, limits.small)
        except TimeoutError as exc:
            raise ProblemError(
                ProblemKind.TIMEOUT,
                f"The body did not arrive within {limits.body_time:g} seconds.",
            ) from exc
        except ClientDisconnect as exc:
            raise ProblemError(ProblemKind.MALFORMED, "The body ended early.") from exc
        return self.data

    async def _receive(self, request: Request, at_most: int, small: int) -> bytes:
        chunks: list[bytes] = []
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > at_most:
                raise _too_large(at_most)
            if length > small:
                self._place()
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _place(self) -> None:
        if not self._placed:
            self._places.take()
            self._placed = True

    def release(self) -> None:
        """Let go of the body."""
        self.data = b""
        if self._placed:
            self._placed = False
            self._places.leave()


def _check_media_type(request: Request, media_type: str) -> None:
    given = request.headers.get("content-type", "")
    if given.strip().lower() != media_type:
        raise ProblemError(ProblemKind.MEDIA, f"The body must be {media_type}, without parameters.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ProblemError(ProblemKind.MEDIA, "No content encoding is accepted.")


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        raise ProblemError(ProblemKind.MALFORMED, "Content-Length is not a length.")
    return int(text)


def _too_large(at_most: int) -> ProblemError:
    if at_most == 0:
        return ProblemError(ProblemKind.TOO_LARGE, "This request takes no body.")
    return ProblemError(ProblemKind.TOO_LARGE, f"The body must have at most {at_most} bytes.")
