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


def ledger_name(issuer: str) -> str:
    """Return how the ledger of an issuer is named: in its key, and before its shards' names.

    Args:
        issuer: The verifier's URL.
    """
    return issuer.partition("://")[2] + "/ledger"
