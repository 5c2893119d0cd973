"""What a verifier signs with: tokens, its ledger, security events, permits: a key for each."""

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
        leash: Signs permits to use expiring keys, and nothing else; None as above.
    """

    token: Signer
    ledger: LedgerSigner
    events: Signer | None
    leash: Signer | None = None
