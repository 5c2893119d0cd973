"""Finding the highest rate that a verifier sustains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

RESOLUTION = 1.05
"""The search ends where the lowest rate that failed is so close to the highest that did not."""
_LOWEST = 1.0


async def highest_rate(sustains: Callable[[float], Awaitable[bool]], start: float) -> float:
    """Return the highest rate that is sustained, within ``RESOLUTION``.

    Double until it fails, then bisect. A rate that fails is tried once more, because a disturbance
    from elsewhere must not pass for the verifier's limit; one that then passes counts.

    Args:
        sustains: Runs a rate for a while and tells.
        start: First rate.

    Returns:
        The rate, or 0 where not even one operation a second is sustained.
    """

    async def holds(rate: float) -> bool:
        return await sustains(rate) or await sustains(rate)

    good, bad = 0.0, start
    if await holds(start):
        good, bad = start, start * 2
        while await holds(bad):
            good, bad = bad, bad * 2
    else:
        while bad > _LOWEST:
            if await holds(bad / 2):
                good = bad / 2
                break
            bad /= 2
    while good and bad / good > RESOLUTION:
        middle = (good * bad) ** 0.5
        if await holds(middle):
            good = middle
        else:
            bad = middle
    return good
