"""What a verifier signs with: one key for tokens, one for its ledger."""

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
    """

    token: Signer
    ledger: LedgerSigner
