"""A ledger in memory that the verifier's own routes publish, and that can be made to lie.

Implements the port ``LedgerReader``. It keeps leaves and computes the rest when asked, so that
a lie told in one place (entries, tiles, checkpoints) leaves the others as they were.

Not simulated: durability, decisions; a leaf is whatever a test appends.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final, cast

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from bootlease.ledger import (
    EMPTY_ROOT,
    Frontier,
    GovernanceDetail,
    GovernanceRecord,
    LedgerSigner,
    consistency_path,
    encode_leaf,
    extend,
    inclusion_path,
    leaf_hash,
)
from bootlease.ledger.governance import CHECKPOINT, LEDGER_OPENED, SHARD_OPENED
from bootlease.ledger.tiles import TILE_HEIGHT
from bootlease.ports import Shard
from bootlease.testing.served import served
from bootlease.token import PrivateKeySigner
from bootlease.verifier.app import build_app
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.service import Service, SystemClock, Throttle

NAME: Final = "verifier.example/ledger"
_TIME: Final = 1_790_000_000


@dataclass(slots=True)
class MemoryShard:
    """One tree, and the lies told about it.

    Attributes:
        name: Its period.
        leaves: What the tree holds; tiles and roots are made from it.
        entries: Leaves that are published in place of those of the tree, by index.
        missing: Indices of leaves whose bundles are not published.
        notes: Signed checkpoints by size.
        cosignatures: Lines by size and name.
        shown: Size of the checkpoint that is published; the latest where None.
    """

    name: str
    leaves: list[bytes] = field(default_factory=list)
    entries: dict[int, bytes] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    notes: dict[int, bytes] = field(default_factory=dict)
    cosignatures: dict[int, dict[str, bytes]] = field(default_factory=dict)
    shown: int | None = None

    def root(self, size: int) -> bytes:
        """Return the root of the first ``size`` leaves."""
        hashes = [leaf_hash(leaf) for leaf in self.leaves[:size]]
        return extend(Frontier(), hashes).root if hashes else EMPTY_ROOT

    def node(self, level: int, index: int) -> bytes:
        """Return a complete node."""
        start = index << level
        hashes = [leaf_hash(leaf) for leaf in self.leaves[start : start + (1 << level)]]
        return extend(Frontier(), hashes).root


class MemoryLedger:
    """A ledger with one shard and its opening record.

    Args:
        private: The ledger's key; a new one by default.
        name: Its name.
        first: Name of the first shard.

    Attributes:
        shards_held: The shards, in order.
        records: Governance records by digest.
        events: Kinds and details of what was recorded through the store's port.
        signer: Signs checkpoints.
    """

    def __init__(
        self,
        private: Ed25519PrivateKey | None = None,
        *,
        name: str = NAME,
        first: str = "2026-11",
    ) -> None:
        self.private = private or Ed25519PrivateKey.generate()
        self.signer = LedgerSigner(name, PrivateKeySigner(self.private))
        self.shards_held: list[MemoryShard] = []
        self.records: dict[bytes, bytes] = {}
        self.events: list[tuple[str, Mapping[str, GovernanceDetail]]] = []
        self.open_shard(first)

    @property
    def vkey(self) -> str:
        """The ledger's verifier key."""
        return str(self.signer.key)

    @property
    def ledger(self) -> MemoryLedger:
        """Itself, as a store has its ledger."""
        return self

    @property
    def current(self) -> MemoryShard:
        """The shard that grows."""
        return self.shards_held[-1]

    def origin(self, shard: MemoryShard) -> str:
        """Return a shard's origin."""
        return f"{self.signer.key.name}/{shard.name}"

    def open_shard(self, name: str, *, final: bytes | None = None) -> MemoryShard:
        """Open a shard behind the last one.

        Args:
            name: Its period.
            final: Checkpoint to chain to in place of the last shard's.
        """
        details: dict[str, GovernanceDetail] = {}
        if self.shards_held:
            before = self.current
            details[CHECKPOINT] = final or before.notes[len(before.leaves)]
        kind = SHARD_OPENED if details else LEDGER_OPENED
        record = GovernanceRecord(_TIME, "verifier", kind, details, None)
        self.records[record.digest] = record.encoded
        self.shards_held.append(MemoryShard(name))
        self.append(encode_leaf(record.digest))
        return self.current

    def append(self, *leaves: bytes) -> None:
        """Append leaves to the last shard, and sign."""
        self.current.leaves.extend(leaves)
        self.seal(self.current)

    def grow(self, count: int, salt: str = "") -> None:
        """Append leaves of no further meaning."""
        start = len(self.current.leaves)
        self.append(*(made_leaf(f"{salt}{index}") for index in range(start, start + count)))

    def seal(self, shard: MemoryShard) -> None:
        """Sign what the shard holds now."""
        size = len(shard.leaves)
        sealed = self.signer.seal(self.origin(shard), size, shard.root(size))
        shard.notes[size] = sealed.checkpoint

    async def shards(self) -> Sequence[Shard]:
        """List the shards."""
        count = len(self.shards_held)
        return [
            Shard(number, shard.name, self.origin(shard), len(shard.leaves), number < count)
            for number, shard in enumerate(self.shards_held, 1)
        ]

    async def checkpoint(self, shard: int, *, size: int | None = None) -> bytes | None:
        """Return a checkpoint with its cosignatures."""
        held = self._held(shard)
        which = size if size is not None else held.shown or len(held.leaves)
        note = held.notes.get(which)
        return None if note is None else note + b"".join(held.cosignatures.get(which, {}).values())

    async def cosigned_checkpoint(self, shard: int) -> bytes | None:
        """Return the largest checkpoint with a cosignature."""
        sizes = self._held(shard).cosignatures
        return await self.checkpoint(shard, size=max(sizes)) if sizes else None

    async def tile(self, shard: int, level: int, number: int, width: int) -> bytes | None:
        """Return hashes of a tile."""
        held, first = self._held(shard), number << TILE_HEIGHT
        if (first + width) << TILE_HEIGHT * level > len(held.leaves):
            return None
        return b"".join(
            held.node(TILE_HEIGHT * level, index) for index in range(first, first + width)
        )

    async def entries(self, shard: int, start: int, end: int) -> Sequence[bytes]:
        """Return published leaves."""
        held = self._held(shard)
        if any(start <= index < end for index in held.missing):
            return []
        return [
            held.entries.get(index, leaf)
            for index, leaf in enumerate(held.leaves[start:end], start)
        ]

    async def inclusion(self, shard: int, index: int, size: int) -> Sequence[bytes] | None:
        """Return an inclusion path."""
        held = self._held(shard)
        if not index < size <= len(held.leaves):
            return None
        return inclusion_path(index, size, held.node)

    async def consistency(self, shard: int, old: int, new: int) -> Sequence[bytes] | None:
        """Return a consistency proof."""
        held = self._held(shard)
        if not old <= new <= len(held.leaves):
            return None
        return consistency_path(old, new, held.node)

    async def position(self, record: bytes) -> tuple[int, int, int] | None:
        """Return where the leaf of a governance record is."""
        leaf = encode_leaf(record)
        for number, shard in enumerate(self.shards_held, 1):
            if leaf in shard.leaves:
                return number, shard.leaves.index(leaf), 1
        return None

    async def add_cosignature(self, shard: int, size: int, *, name: str, line: bytes) -> None:
        """Keep a cosignature, the first of each name."""
        self._held(shard).cosignatures.setdefault(size, {}).setdefault(name, line)

    async def governance_record(self, digest: bytes) -> bytes | None:
        """Return a governance record."""
        return self.records.get(digest)

    async def record_event(
        self, kind: str, details: Mapping[str, GovernanceDetail], *, now: int, author: str
    ) -> None:
        """Remember that something was recorded."""
        del now, author
        self.events.append((kind, details))

    def _held(self, shard: int) -> MemoryShard:
        return self.shards_held[shard - 1]


def made_leaf(name: str) -> bytes:
    """Return a leaf of no further meaning."""
    return encode_leaf(hashlib.sha256(name.encode()).digest())


def ledger_app(ledger: MemoryLedger) -> FastAPI:
    """Return a verifier's application that publishes the ledger and can do nothing else."""
    service = SimpleNamespace(
        store=SimpleNamespace(ledger=ledger),
        clock=SystemClock(),
        limits=DEFAULT_LIMITS,
        throttle=Throttle(DEFAULT_LIMITS),
    )
    return build_app(cast("Service", service))


@contextmanager
def published(ledger: MemoryLedger, *, port: int = 0) -> Iterator[str]:
    """Publish the ledger on this machine and give its URL; port 0 picks a free one."""
    with served(ledger_app(ledger), port=port) as url:
        yield url


class InProcess(httpx2.BaseTransport):
    """Carries GET requests to an ASGI application in this process.

    Attributes:
        requests: Paths that were asked for.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the application what its server would."""
        scope["state"] = {}
        await self._app(scope, receive, send)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.requests.append(request.url.path)

        async def answer() -> httpx2.Response:
            transport = httpx2.ASGITransport(self)
            async with httpx2.AsyncClient(transport=transport) as client:
                return await client.get(request.url, headers=request.headers)

        response = asyncio.run(answer())
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx2.ByteStream(response.content),
        )
