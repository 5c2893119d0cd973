"""Does the ledger hold what it promised? Its trees are built again here, leaf by leaf.

Specification: RFC 9162 §2.1.1 (Merkle tree hash). Written apart from ``bootlease.ledger.merkle``,
so that a mistake there is not repeated here; receipts are verified with the product's own code,
and their roots compared with these trees: so no client can have seen two trees of one size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from bench.crash.clients import Heard
from bench.crash.recorded import Database, Recorded, Shard
from bootlease import cbor
from bootlease.errors import BootleaseError
from bootlease.ledger import NoteKey, VerifiedReceipt, verify_receipt
from bootlease.token.receipts import receipts_of


def ledger_is_whole(_heard: Heard, database: Database) -> Iterator[str]:
    """Every checkpoint is that of the leaves and none is left out; each decision has its own."""
    for number, shard in database.shards.items():
        if [position for position, _ in shard.leaves] != list(range(len(shard.leaves))):
            yield f"shard {number} has gaps between its leaves"
            continue
        roots = roots_of([leaf for _, leaf in shard.leaves])
        for size, root in shard.roots.items():
            if size >= len(roots) or roots[size] != root:
                yield f"shard {number}: the checkpoint of size {size} is not that of its leaves"
        if shard.leaves and max(shard.roots, default=0) != len(shard.leaves):
            yield f"shard {number}: its last leaves have no checkpoint"
    for decision in database.decisions:
        if _leaves_at(database, decision) != _leaves_of(decision.digest, decision.claims):
            yield f"decision {decision.digest.hex()} is not where the ledger should have it"


def receipts_hold(heard: Heard, database: Database, key: NoteKey) -> Iterator[str]:
    """Every receipt a client saw verifies, and the tree it is about became the final tree."""
    trees = {
        shard.origin: (shard, roots_of([leaf for _, leaf in shard.leaves]))
        for shard in database.shards.values()
    }
    for told in heard.answers:
        for lease in told.answer.leases:
            name = f"token {lease.claims_digest.hex()}"
            leaf = _leaf(told.answer.decision, lease.claims_digest)
            try:
                receipts = [verify_receipt(data, leaf, key) for data in receipts_of(lease.token)]
            except BootleaseError as exc:
                yield f"{name}: its receipt does not verify: {exc}"
                continue
            if len(receipts) != 1:
                yield f"{name}: {len(receipts)} receipts came with it"
            for receipt in receipts:
                if not _kept(receipt, trees):
                    yield f"{name}: its receipt is of a tree that the ledger is no continuation of"


def _kept(receipt: VerifiedReceipt, trees: dict[str, tuple[Shard, list[bytes]]]) -> bool:
    shard, roots = trees.get(receipt.origin, (None, []))
    return (
        shard is not None
        and receipt.index < receipt.size < len(roots)
        and roots[receipt.size] == receipt.root
        and shard.leaves[receipt.index][1] == receipt.leaf
    )


def roots_of(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the root of the first n leaves, for each n from 0 to all of them."""
    roots = [hashlib.sha256().digest()]
    complete: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, node = 1, hashlib.sha256(b"\0" + leaf).digest()
        while complete and complete[-1][0] == size:
            node = _node(complete.pop()[1], node)
            size *= 2
        complete.append((size, node))
        root = complete[-1][1]
        for _, left in complete[-2::-1]:
            root = _node(left, root)
        roots.append(root)
    return roots


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _leaf(decision: bytes, claims: bytes | None) -> bytes:
    return cbor.encode([decision, claims])


def _leaves_of(decision: bytes, claims: Sequence[bytes]) -> list[bytes]:
    return [_leaf(decision, each) for each in claims] or [_leaf(decision, None)]


def _leaves_at(database: Database, decision: Recorded) -> list[bytes]:
    shard = database.shards.get(decision.shard)
    count = max(1, len(decision.claims))
    if shard is None:
        return []
    found = shard.leaves[decision.position : decision.position + count]
    return [leaf for _, leaf in found]
