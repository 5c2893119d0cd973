"""Numbers as people write and read them."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number between bounds; ``nan``, which no comparison finds out of bounds, is none."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - whatever was typed, as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Check the form and the bounds."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return how many of a thing there are, in words of the right number."""
    return f"{count} {one if count == 1 else many or one + 's'}"
