"""The ledger in the store: every leaf sealed, shards chained, tiles and proofs that verify."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bootlease.ledger import (
    Frontier,
    GovernanceRecord,
    encode_leaf,
    extend,
    leaf_hash,
    node_hash,
    verify_checkpoint,
    verify_consistency,
    verify_inclusion,
)
from bootlease.ports import StoredPolicy, StoredReference, StoreUnavailableError
from bootlease.store import Database, SQLStore, ledgerreads
from bootlease.store.connection import Connection
from bootlease.store.tail import load_tail
from bootlease.testing.store_scene import (
    AUTHOR,
    LIFE,
    NOW,
    PREFIX,
    FaultySealer,
    StoredNode,
    StoreScene,
    bodies,
    challenge,
    reading,
)

DECEMBER = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


def root_of(leaves: list[bytes]) -> bytes:
    """The root, by the recursive definition of RFC 9162 §2.1.1."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


async def grow(scene: StoreScene, node: StoredNode, *, leaves: int) -> None:
    """Append many leaves, in groups of uneven sizes."""
    while leaves > 0:
        count = min(leaves, 37 if leaves % 2 else 300)
        await scene.renew(node, leases=count)
        leaves -= count


def test_the_first_leaf_opens_the_ledger_and_what_follows_is_sealed(scene: StoreScene) -> None:
    """Shard, checkpoint, entries and places agree, and the checkpoint is signed."""
    store = scene.store

    async def story() -> None:
        node = await scene.fill()
        (shard,) = await store.ledger.shards()
        assert (shard.number, shard.name, shard.final) == (1, "2026-11", False)
        assert shard.origin == f"{PREFIX}/2026-11"
        note = await store.ledger.checkpoint(1)
        assert note is not None
        checkpoint = verify_checkpoint(note, scene.sealer.key, origin=shard.origin)
        leaves = list(await store.ledger.entries(1, 0, shard.size))
        assert (checkpoint.size, checkpoint.root) == (len(leaves), root_of(leaves))
        commit = node.commits[0]
        place = await store.ledger.position(commit.digest)
        assert place == (1, shard.size - 1, 1)
        assert leaves[-1] == encode_leaf(commit.digest, commit.claims[0])

    asyncio.run(story())
    kinds = [row[0] for row in scene.rows("SELECT kind FROM governance ORDER BY number")]
    assert kinds == [
        *("ledger.opened", "policy.activated", "reference.registered", "root.added"),
        "node.enrolled",
    ]


def test_governance_records_form_a_chain_with_their_authors(scene: StoreScene) -> None:
    """Each names the one before it, stands in the tree, and is found by its digest."""
    store = scene.store

    async def story() -> None:
        await scene.fill()
        await store.add_join_token(b"t" * 32, now=NOW, expires_at=NOW + 9, author="operator:alice")
        await store.add_credential(b"c" * 32, label="bob", now=NOW, author="cli:init", roles=())
        await store.record_event("admin.login", {"from": "::1"}, now=NOW, author="operator:bob")
        previous = None
        authors = []
        for document, digest, at in scene.rows(
            "SELECT record, digest, position FROM governance ORDER BY number"
        ):
            record = GovernanceRecord.parse(document)
            assert (record.previous, record.digest) == (previous, digest)
            assert await store.ledger.governance_record(digest) == document
            assert await store.ledger.position(digest) == (1, at, 1)
            assert await store.ledger.entries(1, at, at + 1) == (encode_leaf(digest),)
            authors.append(record.author)
            previous = digest
        assert authors[0] == "verifier"
        assert authors[-3:] == ["operator:alice", "cli:init", "operator:bob"]

    asyncio.run(story())


def test_what_changed_nothing_is_not_recorded(scene: StoreScene) -> None:
    """A policy, set or root that is there already leaves no record."""
    store = scene.store

    async def story() -> None:
        await scene.fill()
        (before,) = await store.ledger.shards()
        policy = StoredPolicy(1, "p", b"d" * 32, b"text", NOW)
        reference = StoredReference("r", b"d" * 32, b"text", NOW)
        assert not await store.activate_policy(policy, author=AUTHOR)
        assert not await store.add_reference(reference, author=AUTHOR)
        assert not await store.add_root(b"der", now=NOW, author=AUTHOR)
        assert (await store.ledger.shards())[0] == before

    asyncio.run(story())


@pytest.mark.parametrize("size", [2, 255, 256, 257, 700, 1025])
def test_tiles_are_those_of_the_tree(scene: StoreScene, size: int) -> None:
    """Every tile, full or not, holds the hashes of its subtrees; there is nothing beyond."""
    ledger = scene.store.ledger

    async def story() -> None:
        node = await scene.node()
        (shard,) = await ledger.shards()
        if size > shard.size:
            await grow(scene, node, leaves=size - shard.size)
        leaves = list(await ledger.entries(1, 0, size))
        assert len(leaves) == size
        hashes = [leaf_hash(leaf) for leaf in leaves]
        for number in range(size // 256 + 1):
            row = hashes[number * 256 : number * 256 + 256]
            for width in {1, len(row) // 2, len(row)} & set(range(1, 257)):
                expected = b"".join(row[:width]) if width <= len(row) else None
                assert await ledger.tile(1, 0, number, width) == expected
            if len(row) < 256:
                assert await ledger.tile(1, 0, number, len(row) + 1) is None
        roots = [root_of(leaves[at : at + 256]) for at in range(0, size - size % 256, 256)]
        if roots:
            assert await ledger.tile(1, 1, 0, len(roots)) == b"".join(roots)
        assert await ledger.tile(1, 1, 0, len(roots) + 1) is None
        assert await ledger.tile(1, 99, 0, 1) is None

    asyncio.run(story())


def test_proofs_verify_against_every_checkpoint(scene: StoreScene) -> None:
    """Inclusion and consistency between any two signed sizes; no proof where there is no tree."""
    ledger = scene.store.ledger

    async def story() -> None:
        node = await scene.node()
        await grow(scene, node, leaves=600)
        (shard,) = await ledger.shards()
        leaves = list(await ledger.entries(1, 0, shard.size))
        roots = {each.size: each.root for each in scene.sealer.sealed}
        assert roots[shard.size] == root_of(leaves)
        for index in (0, 1, 255, 256, 511, shard.size - 1):
            path = await ledger.inclusion(1, index, shard.size)
            assert path is not None
            verify_inclusion(leaf_hash(leaves[index]), index, shard.size, path, roots[shard.size])
        for old, root in roots.items():
            proof = await ledger.consistency(1, old, shard.size)
            assert proof is not None
            verify_consistency(old, shard.size, proof, root, roots[shard.size])
        assert await ledger.inclusion(1, shard.size, shard.size) is None
        assert await ledger.inclusion(1, 0, shard.size + 1) is None
        assert await ledger.inclusion(2, 0, 1) is None
        assert await ledger.consistency(1, 2, shard.size + 1) is None
        assert await ledger.consistency(1, 3, 2) is None

    asyncio.run(story())


def test_the_tail_is_the_same_made_from_rows_or_kept(scene: StoreScene) -> None:
    """What the writer remembers is what a writer that begins anew would find."""

    async def story() -> None:
        node = await scene.node()
        await grow(scene, node, leaves=777)

    asyncio.run(story())
    commits = scene.store._writer._commits
    assert commits is not None
    assert commits._tail == load_tail(scene.store._reader)


def test_another_process_that_writes_is_noticed(scene: StoreScene) -> None:
    """The end of the ledger is read again after somebody else appended to it."""

    async def story() -> None:
        node = await scene.node()
        other = scene.open()
        try:
            await other.record_event("admin.login", {}, now=NOW, author=AUTHOR)
        finally:
            other.close()
        await scene.renew(node)
        (shard,) = await scene.store.ledger.shards()
        leaves = list(await scene.store.ledger.entries(1, 0, shard.size))
        assert (shard.size, scene.sealer.sealed[-1].root) == (4, root_of(leaves))

    asyncio.run(story())


def test_a_shard_is_opened_when_the_month_moves_on_and_never_backwards(scene: StoreScene) -> None:
    """The first leaf of the next shard holds the whole final checkpoint of the one before."""
    ledger = scene.store.ledger

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node, now=NOW + 1)
        final = await ledger.checkpoint(1)
        question = challenge(node.id, DECEMBER - 1)
        await scene.store.add_challenge(question, now=DECEMBER - 1, at_most=9)
        await scene.commit(node, node.decide(question, now=DECEMBER))
        assert [(each.name, each.final) for each in await ledger.shards()] == [
            ("2026-11", True),
            ("2026-12", False),
        ]
        assert await ledger.checkpoint(1) == final
        (first, second) = await ledger.entries(2, 0, 9)
        assert second == encode_leaf(node.commits[-1].digest, node.commits[-1].claims[0])
        assert await ledger.position(node.commits[-1].digest) == (2, 1, 1)
        opening = GovernanceRecord.parse(
            scene.rows("SELECT record FROM governance WHERE shard = 2 AND position = 0")[0][0]
        )
        assert encode_leaf(opening.digest) == first
        assert opening.kind == "shard.opened"
        assert opening.details["checkpoint"] == final
        # A clock that is put back does not open the shard of before.
        await scene.store.record_event("admin.login", {}, now=NOW, author=AUTHOR)
        shards = await ledger.shards()
        assert [each.size for each in shards] == [3, 3]

    asyncio.run(story())


def test_decisions_of_two_months_in_one_group_share_the_later_shard(scene: StoreScene) -> None:
    """The group's latest time decides, so that a shard is opened between groups only."""

    async def story() -> None:
        one, other = await scene.node("a"), await scene.node("b")
        late = challenge(other.id, DECEMBER)
        await scene.store.add_challenge(late, now=DECEMBER, at_most=9)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.store._writer.submit(lambda _db: None))
            tasks.create_task(scene.store.commit_decision(one.decide(scene.question(one))))
            tasks.create_task(scene.store.commit_decision(other.decide(late, now=DECEMBER)))
        shards = await scene.store.ledger.shards()
        assert sum(each.size for each in shards) == 3 + 1 + 2

    asyncio.run(story())


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE entries SET leaf = x'00' WHERE position = 1",
        "DELETE FROM entries WHERE position = 2",
        "DELETE FROM entries WHERE position = 1",
        "DELETE FROM checkpoints WHERE size = 3",
        "UPDATE checkpoints SET root = x'00' WHERE size = 3",
        "DELETE FROM shards",
    ],
)
def test_an_altered_ledger_is_refused_and_never_mended(scene: StoreScene, tampering: str) -> None:
    """Rows that do not lead to the last signed root stop the store, at start and while running."""

    async def first() -> None:
        await scene.renew(await scene.node())

    async def then() -> None:
        with pytest.raises(StoreUnavailableError, match="ledger"):
            await scene.store.record_event("admin.login", {}, now=NOW, author=AUTHOR)

    asyncio.run(first())
    with closing(sqlite3.connect(scene.path)) as raw:
        for table in ("entries", "checkpoints", "shards"):
            raw.execute(f"DROP TRIGGER {table}_no_update")
            raw.execute(f"DROP TRIGGER {table}_no_delete")
        assert raw.execute(tampering).rowcount == 1
        raw.commit()
    asyncio.run(then())
    with pytest.raises(StoreUnavailableError, match="ledger"):
        scene.open()


def test_a_missing_tile_is_refused(scene: StoreScene) -> None:
    """A gap among the full tiles is found where their roots are needed."""

    async def story() -> None:
        await grow(scene, await scene.node(), leaves=600)

    asyncio.run(story())
    with closing(sqlite3.connect(scene.path)) as raw:
        raw.execute("DROP TRIGGER tiles_no_delete")
        raw.execute("DELETE FROM tiles WHERE number = 1")
        raw.commit()
    with pytest.raises(StoreUnavailableError, match="gaps"):
        scene.open()


def test_the_ledger_of_another_issuer_is_refused(scene: StoreScene) -> None:
    """A shard's origin is signed; it cannot go on under another name."""
    asyncio.run(scene.node())
    with pytest.raises(StoreUnavailableError, match="not of"):
        SQLStore.open(scene.path, scene.sealer, "other.example/ledger")


def test_cosignatures_stand_under_their_checkpoint(scene: StoreScene) -> None:
    """The first of each witness stays; a checkpoint that is not there takes none."""
    ledger = scene.store.ledger

    async def story() -> None:
        await scene.node()
        note = await ledger.checkpoint(1)
        assert note is not None
        await ledger.add_cosignature(1, 2, name="w2", line=b"second\n")
        await ledger.add_cosignature(1, 2, name="w1", line=b"first")
        await ledger.add_cosignature(1, 2, name="w1", line=b"again")
        assert await ledger.checkpoint(1) == note + b"first\nsecond\n"
        await scene.node("b")
        assert await ledger.checkpoint(1, size=2) == note + b"first\nsecond\n"
        assert await ledger.cosigned_checkpoint(1) == note + b"first\nsecond\n"
        latest = await ledger.checkpoint(1)
        assert latest is not None
        assert latest != note
        assert await ledger.checkpoint(1, size=99) is None
        assert await ledger.checkpoint(2) is None
        with pytest.raises(ValueError, match="no checkpoint"):
            await ledger.add_cosignature(1, 99, name="w1", line=b"x")

    asyncio.run(story())


def test_bulk_statements_agree_with_the_tree_for_groups_of_any_size(scene: StoreScene) -> None:
    """Groups are written in portions; none is lost or doubled at their edges."""

    async def story() -> None:
        nodes = [await scene.node(str(number)) for number in range(70)]
        for count in (1, 2, 3, 63, 64, 65, 70):
            made = [
                node.decide(scene.question(node), now=NOW + 1 + count) for node in nodes[:count]
            ]
            committed = await asyncio.gather(*map(scene.store.commit_decision, made))
            for node, commit, each in zip(nodes[:count], made, committed, strict=True):
                assert each.answer is not None
                node.committed(commit)
                assert commit.next_challenge is not None
                scene.ask_next(node, commit.next_challenge)
        (shard,) = await scene.store.ledger.shards()
        leaves = list(await scene.store.ledger.entries(1, 0, shard.size))
        assert len(leaves) == shard.size
        extension = extend(Frontier(), [leaf_hash(leaf) for leaf in leaves])
        assert extension.root == scene.sealer.sealed[-1].root

    asyncio.run(story())
    total = 1 + 2 + 3 + 63 + 64 + 65 + 70
    for table in ("decisions", "evidence", "answers"):
        assert scene.rows(f"SELECT count(*) FROM {table}") == [(total,)]  # noqa: S608
    assert scene.rows("SELECT max(number) FROM decisions") == [(total,)]


def test_the_write_ahead_log_is_moved_beside_the_writer(
    scene: StoreScene,
) -> None:
    """A log that has grown long is begun anew, without any commit's own checkpoint."""
    moved: list[int] = []
    store = scene.store
    store._wal._long = 1
    store._wal._pause = 0.01
    after_commit = store._wal.after_commit

    def watched(writing: Connection) -> None:
        helped = store._wal._help
        after_commit(writing)
        moved.append(helped)

    store._writer._after_commit = watched

    async def story() -> None:
        node = await scene.node()
        for now in range(NOW + 1, NOW + LIFE):
            await scene.renew(node, now=now)
            await asyncio.sleep(0.005)
            if any(moved):
                return

    asyncio.run(story())
    assert any(moved)


def test_a_ledger_without_entries_is_empty(store: SQLStore) -> None:
    """Before the first record there is nothing to read, and no error."""
    ledger = store.ledger

    async def story() -> None:
        assert await ledger.shards() == ()
        assert await ledger.checkpoint(1) is None
        assert await ledger.tile(1, 0, 0, 1) is None
        assert await ledger.entries(1, 0, 10) == ()
        assert await ledger.position(b"n" * 32) is None
        assert await ledger.governance_record(b"n" * 32) is None

    asyncio.run(story())


def test_a_store_that_cannot_be_read_leaves_nothing_open(
    scene: StoreScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal at start closes what it opened."""
    asyncio.run(scene.node())
    opened: list[Connection] = []
    connect = Database.connect

    def watched(self: Database, *, read_only: bool) -> Connection:
        opened.append(connect(self, read_only=read_only))
        return opened[-1]

    monkeypatch.setattr(Database, "connect", watched)
    with pytest.raises(StoreUnavailableError):
        SQLStore.open(scene.path, FaultySealer(), "other.example/ledger")
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError):
            connection.command("SELECT 1")


def test_an_old_lineage_is_not_touched_by_another_nodes_shard(scene: StoreScene) -> None:
    """Decisions keep the place they had when later shards are opened."""

    async def story() -> None:
        node = await scene.node()
        await scene.renew(node)
        place = await scene.store.ledger.position(node.commits[0].digest)
        await scene.store.record_event("admin.login", {}, now=DECEMBER, author=AUTHOR)
        assert await scene.store.ledger.position(node.commits[0].digest) == place
        stored = await scene.store.decision(node.commits[0].digest)
        assert stored is not None
        assert replace(stored, number=1) == stored

    asyncio.run(story())


def test_a_receipt_is_given_again_as_it_was_given(scene: StoreScene) -> None:
    """Under the checkpoint of its commit, however far the tree has grown since."""

    async def story() -> None:
        node = await scene.node()
        given = []
        for leases in (1, 300, 2):
            await scene.ask(node)
            answer = (await scene.renew(node, leases=leases)).answer
            assert answer is not None
            given.append(answer.body)
        with reading(scene.path) as db:
            for commit, body in zip(node.commits, given, strict=True):
                place = ledgerreads.position(db, commit.digest)
                assert place is not None
                shard, first, count = place
                again = [ledgerreads.receipt(db, shard, first + at) for at in range(count)]
                assert bodies([each for each in again if each is not None]) == body
            (shard_now,) = ledgerreads.all_shards(db)
            assert ledgerreads.receipt(db, 1, shard_now.size) is None
            assert ledgerreads.receipt(db, 2, 0) is None

    asyncio.run(story())


def test_nothing_is_appended_to_a_ledger_that_became_anothers(scene: StoreScene) -> None:
    """A file whose shards are renamed under an open store is not gone on with."""

    async def story() -> None:
        node = await scene.node()
        with closing(sqlite3.connect(scene.path)) as raw:
            raw.execute("DROP TRIGGER shards_no_update")
            raw.execute("UPDATE shards SET origin = 'other.example/ledger/' || name")
            raw.commit()
        with pytest.raises(StoreUnavailableError, match="the ledger of other"):
            await scene.renew(node)

    asyncio.run(story())


class InterruptedCursor:
    """A cursor that lets something happen before a certain statement, once."""

    def __init__(self, cursor: sqlite3.Cursor, table: str, happens: Callable[[], None]) -> None:
        self._cursor = cursor
        self._table = table
        self._happens: Callable[[], None] | None = happens

    def execute(self, text: str, *parameters: Any) -> None:
        """Run a statement."""
        if self._table in text and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        self._cursor.execute(text, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


@pytest.mark.parametrize("table", ["governance", "shards", "entries", "checkpoints"])
def test_the_end_of_a_ledger_is_read_as_of_one_moment(scene: StoreScene, table: str) -> None:
    """A verifier that commits between two reads does not look like a ledger cut short."""

    def grow() -> None:
        asyncio.run(scene.store.record_event("admin.login", {}, now=NOW, author=AUTHOR))

    grow()
    with reading(scene.path) as db:
        db._cursor = InterruptedCursor(db._cursor, f"FROM {table}", grow)  # type: ignore[assignment]  # a stand-in for the driver's
        tail = load_tail(db)
        assert tail.frontier.size == 2
        assert not db.dbapi.in_transaction
    assert scene.rows("SELECT count(*) FROM entries") == [(3,)]


def test_a_question_aside_reads_one_state(scene: StoreScene) -> None:
    """Rows that are combined into one answer go together, whatever is written meanwhile."""

    def twice(db: Connection) -> list[int]:
        sizes = [ledgerreads.size_of(db, 1)]
        grow = scene.store.record_event("admin.login", {}, now=NOW, author=AUTHOR)
        asyncio.run(grow)
        return [*sizes, ledgerreads.size_of(db, 1)]

    async def story() -> list[int]:
        await scene.node()
        return await scene.store._aside.read(twice)

    assert asyncio.run(story()) == [2, 2]
