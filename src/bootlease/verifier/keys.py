"""What a verifier signs with: one key for tokens, one for its ledger, one for security events."""

from __future__ import annotations

from dataclasses import dataclass

from bootlease.ledger import LedgerSigner
from bootlease.token import Signer


@dataclass(frozen=True, slots=True)
class Keys:
    """A verifier's keys.

    Attributes:
        token: Signs execution tokens.
        ledger: Signs checkpoints and receipts.
        events: Signs security events; None in a folder that was never served since it lost it.
    """

    token: Signer
    ledger: LedgerSigner
    events: Signer | None
