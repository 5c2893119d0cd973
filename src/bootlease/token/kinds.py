"""What kinds of token there are, and levels of enforcement.

For those, a guard beside its workload first of all, that handle tokens without looking into them:
nothing is imported here.
"""

from __future__ import annotations

import enum
from typing import Final

MAX_LEVEL: Final = 3
"""The highest level at which the end of a lease is enforced on the node."""


class TokenFormat(enum.Enum):
    """How a token is encoded, and whether a consumer that knows no possession may take it."""

    CWT = "cwt"
    JWT = "jwt"
    UNSAFE_BEARER = "unsafe-bearer"
    """A JWT that any JWT library takes, from whoever has it."""
