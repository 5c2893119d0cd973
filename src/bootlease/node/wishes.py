"""What an agent asks for."""

from __future__ import annotations

from dataclasses import dataclass

from bootlease.evidence import LeaseRequest, TokenEncoding
from bootlease.evidence.request import MAX_AUDIENCE
from bootlease.node.confirm import ConfirmationKey
from bootlease.token import scope as scopes


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """One lease to keep.

    Attributes:
        scope: Scope names, at least one.
        audience: The relying party.
        encoding: CWT or JWT.
    """

    scope: tuple[str, ...]
    audience: str
    encoding: TokenEncoding = TokenEncoding.CWT

    def __post_init__(self) -> None:
        scopes.check(self.scope)
        if not 0 < len(self.audience) <= MAX_AUDIENCE or not self.audience.isprintable():
            raise ValueError(f"an audience has 1 to {MAX_AUDIENCE} printable characters")

    def request(self, key: ConfirmationKey) -> LeaseRequest:
        """Return the request for this lease, to be held by ``key``."""
        return LeaseRequest(self.scope, self.audience, key.request, self.encoding)
