"""One shard of a ledger in memory, as a verifier seals it: really hashed and really signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from bootlease.evidence import IssuedLease, TokenEncoding
from bootlease.ledger import Frontier, LedgerSigner, NoteKey, Receipt, extend, leaf_hash
from bootlease.token import PrivateKeySigner
from bootlease.token.receipts import attach_receipt

NAME: Final = "verifier.example/ledger"
SHARD: Final = f"{NAME}/2026-11"


class SealedLedger:
    """Appends leaves and gives receipts; keeps no leaf.

    Attributes:
        signer: Signs it.
    """

    def __init__(self, signer: LedgerSigner) -> None:
        """Begin an empty shard."""
        self.signer = signer
        self._frontier = Frontier(0, ())

    @classmethod
    def create(cls) -> SealedLedger:
        """Return an empty one with a key of its own."""
        return cls(LedgerSigner(NAME, PrivateKeySigner(ed25519.Ed25519PrivateKey.generate())))

    @property
    def key(self) -> NoteKey:
        """Checks what it signs."""
        return self.signer.key

    def append(self, leaves: Sequence[bytes]) -> list[Receipt]:
        """Append leaves under one signature and return a receipt for each."""
        first = self._frontier.size
        extension = extend(self._frontier, [leaf_hash(leaf) for leaf in leaves])
        self._frontier = extension.frontier
        sealed = self.signer.seal(SHARD, extension.frontier.size, extension.root)
        return [
            Receipt(leaf, first + position, extension.path(position), sealed)
            for position, leaf in enumerate(leaves)
        ]


def with_receipt(lease: IssuedLease, receipt: Receipt) -> IssuedLease:
    """Return the lease with its receipt, where its encoding has it."""
    if lease.encoding is TokenEncoding.CWT:
        return replace(lease, token=attach_receipt(lease.token, receipt.cose()))
    return replace(lease, receipt=receipt.tlog_proof())
