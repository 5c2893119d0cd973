"""What an agent asks for."""

from __future__ import annotations

from dataclasses import dataclass

from bootlease.evidence import LeaseRequest, TokenEncoding
from bootlease.evidence.request import MAX_AUDIENCE, encode_purpose
from bootlease.node.confirm import ConfirmationKey
from bootlease.token import scope as scopes
from bootlease.token.kinds import MAX_LEVEL


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """One lease to keep.

    Attributes:
        scope: Scope names, at least one.
        audience: The relying party.
        encoding: CWT or JWT.
        level: Level 0 to 3 at which the end of the lease will be enforced, where that is known.
        optional: What policy denies of it is not to stop the other leases.
    """

    scope: tuple[str, ...]
    audience: str
    encoding: TokenEncoding = TokenEncoding.CWT
    level: int | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        scopes.check(self.scope)
        if not 0 < len(self.audience) <= MAX_AUDIENCE or not self.audience.isprintable():
            raise ValueError(f"an audience has 1 to {MAX_AUDIENCE} printable characters")
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"a level is 0 to {MAX_LEVEL}")

    def purpose(self) -> bytes:
        """Return the encoding of all that is asked for, but the key."""
        return encode_purpose(
            self.scope, self.audience, self.encoding, self.level, optional=self.optional
        )

    def request(self, key: ConfirmationKey) -> LeaseRequest:
        """Return the request for this lease, to be held by ``key``."""
        return LeaseRequest(
            *(self.scope, self.audience, key.request, self.encoding),
            level=self.level,
            optional=self.optional,
        )
