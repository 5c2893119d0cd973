"""Keys and a small sealed tree that the tests of the ledger share."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from bootlease.ledger import (
    Ed25519Cosigner,
    Frontier,
    LedgerSigner,
    MLDSA44Cosigner,
    Receipt,
    encode_leaf,
    extend,
    leaf_hash,
)
from bootlease.token import PrivateKeySigner

NAME: Final = "verifier.example/ledger"
ORIGIN: Final = "verifier.example/ledger/2026-11"


@pytest.fixture(scope="session")
def signer() -> PrivateKeySigner:
    """The ledger's Ed25519 key."""
    return PrivateKeySigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))


@pytest.fixture(scope="session")
def other_signer() -> PrivateKeySigner:
    """Somebody else's Ed25519 key."""
    return PrivateKeySigner(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))


@pytest.fixture(scope="session")
def ledger(signer: PrivateKeySigner) -> LedgerSigner:
    """What signs for the ledger."""
    return LedgerSigner(NAME, signer)


@pytest.fixture(scope="session")
def witness(other_signer: PrivateKeySigner) -> Ed25519Cosigner:
    """A witness with an Ed25519 key."""
    return Ed25519Cosigner("witness.example/w1", other_signer)


@pytest.fixture(scope="session")
def pq_witness() -> MLDSA44Cosigner:
    """A witness with an ML-DSA-44 key."""
    return MLDSA44Cosigner("witness.example/w2", MLDSA44PrivateKey.from_seed_bytes(b"\x03" * 32))


@pytest.fixture(scope="session")
def receipts(ledger: LedgerSigner) -> tuple[Receipt, ...]:
    """Receipts of seven leaves, appended at once to a tree of six."""
    frontier = extend(Frontier(), [leaf_hash(b"%d" % number) for number in range(6)]).frontier
    leaves = [encode_leaf(bytes([number]) * 32, b"\xcc" * 32) for number in range(7)]
    extension = extend(frontier, [leaf_hash(leaf) for leaf in leaves])
    sealed = ledger.seal(ORIGIN, extension.frontier.size, extension.root)
    return tuple(
        Receipt(leaf, 6 + number, extension.path(number), sealed)
        for number, leaf in enumerate(leaves)
    )
