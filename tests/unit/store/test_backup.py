"""Backup while running, restore, export and import."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from bootlease.endorsement import TrustedRoots
from bootlease.errors import MalformedError
from bootlease.ledger import GovernanceRecord, verify_checkpoint
from bootlease.ledger.shardlist import is_shard_name
from bootlease.ports import Act, Activated, CommitOutcome, Proposal, StoreUnavailableError
from bootlease.store import Database, SQLStore, import_into, ledgerreads, restore
from bootlease.store.registry import roots_digest
from bootlease.store.tables import IMPORTED
from bootlease.store.transfer import EXPORTED, export
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.store_scene import (
    AUTHOR,
    NOW,
    PREFIX,
    SECRET,
    StoredNode,
    StoreScene,
    digest_of,
    enrolment,
    pending,
    reading,
)

LATER = NOW + 3 * 86_400


async def lived(scene: StoreScene) -> StoredNode:
    """A store in use: full tiles, a cosignature, a refusal, a pruning."""
    node = await scene.fill()
    await scene.renew(node, leases=300, now=NOW + 2)
    await scene.renew(node, granted=False, now=NOW + 3)
    (shard,) = await scene.store.ledger.shards()
    await scene.store.ledger.add_cosignature(1, shard.size, name="w", line=b"line\n")
    await scene.prune_nothing()
    await scene.ask(node, now=NOW + 4)
    await scene.renew(node, now=NOW + 5)
    return node


def test_a_backup_is_a_private_copy_of_one_moment(scene: StoreScene, tmp_path: Path) -> None:
    """Made while decisions go on, checked, one file; a second one replaces nothing."""
    target = tmp_path / "backup.db"

    async def story() -> None:
        node = await lived(scene)
        backing = asyncio.create_task(scene.store.back_up(target))
        for now in range(NOW + 6, NOW + 20):
            await scene.renew(node, now=now)
        await backing
        with pytest.raises(StoreUnavailableError, match="exists"):
            await scene.store.back_up(target)

    asyncio.run(story())
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.glob("*backup*")) == ["backup.db"]
    with reading(target) as db:
        (shard,) = ledgerreads.all_shards(db)
        note = ledgerreads.checkpoint(db, 1)
        assert note is not None
        assert verify_checkpoint(note, scene.sealer.key, origin=shard.origin).size == shard.size


def test_a_backup_that_cannot_be_written_leaves_nothing(scene: StoreScene, tmp_path: Path) -> None:
    """No half copy, and an error that says where."""
    asyncio.run(lived(scene))
    with pytest.raises(StoreUnavailableError, match="absent"):
        asyncio.run(scene.store.back_up(tmp_path / "absent" / "backup.db"))


def test_a_copy_whose_ledger_is_broken_gets_no_name(scene: StoreScene, tmp_path: Path) -> None:
    """A backup is checked before anybody relies on it."""
    asyncio.run(lived(scene))
    with closing(sqlite3.connect(scene.path)) as raw:
        raw.execute("DROP TRIGGER entries_no_delete")
        raw.execute("DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")
        raw.commit()
    with pytest.raises(StoreUnavailableError, match="checkpoint"):
        asyncio.run(scene.store.back_up(tmp_path / "backup.db"))
    assert list(tmp_path.glob("*backup*")) == []


def damage(path: Path) -> None:
    """Lose the pages of the indexes, which nobody but SQLite's own check looks for."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("DELETE FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        raw.commit()


def test_a_copy_that_sqlite_finds_unsound_gets_no_name(scene: StoreScene, tmp_path: Path) -> None:
    """Damage far from the ledger's end is found too, before anybody relies on the backup."""
    asyncio.run(lived(scene))
    damage(scene.path)
    with pytest.raises(StoreUnavailableError, match="not sound"):
        asyncio.run(scene.store.back_up(tmp_path / "backup.db"))
    assert list(tmp_path.glob("*backup*")) == []


def test_a_backup_that_sqlite_finds_unsound_is_not_restored(
    scene: StoreScene, tmp_path: Path
) -> None:
    """A backup may have been damaged since it was made."""
    saved, made = tmp_path / "backup.db", tmp_path / "restored.db"
    asyncio.run(lived(scene))
    asyncio.run(scene.store.back_up(saved))
    damage(saved)
    with pytest.raises(StoreUnavailableError, match="not sound"):
        restore(saved, made, scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    assert not made.exists()


def test_a_restore_voids_what_was_under_way(scene: StoreScene, tmp_path: Path) -> None:
    """Challenges, answers, pending enrolments and lineages of the backup are over."""
    saved, made = tmp_path / "backup.db", tmp_path / "restored.db"

    async def before() -> StoredNode:
        node = await lived(scene)
        await scene.store.add_pending(pending(enrolment("c"), epoch=1), now=NOW, at_most=9)
        await scene.store.add_join_token(b"t" * 32, now=NOW, expires_at=LATER + 9, author=AUTHOR)
        await scene.store.operators.propose(
            Proposal(b"d" * 32, Act.POLICY, b"", {}, b"p" * 32, AUTHOR, 1, NOW, LATER + 9)
        )
        await scene.store.back_up(saved)
        return node

    async def after(store: SQLStore, node: StoredNode) -> None:
        last = node.commits[-1]
        assert not await store.join_token_admits(b"t" * 32, node.id, now=LATER)
        assert await store.operators.proposals(now=LATER) == ()
        assert await store.challenge(scene.question(node).nonce) is None
        assert await store.answer(node.id, last.request, now=NOW + 5) is None
        lineage = await store.lineage(node.id)
        assert (lineage.version, lineage.prior) == (node.version + 1, None)
        assert lineage.decision == last.digest
        stale = await store.commit_decision(
            node.decide(scene.question(node), in_force=await store.in_force())
        )
        assert stale.outcome is CommitOutcome.EXPIRED
        found = await store.node(node.id)
        assert found is not None
        assert found.high_water == node.mark
        node.version, node.prior = lineage.version, None
        again = StoreScene(made, scene.sealer, store)
        await again.ask(node, now=LATER)
        await again.renew(node, now=LATER)

    node = asyncio.run(before())
    waiting = scene.rows("SELECT id FROM pending_enrolments")[0][0]
    restore(saved, made, scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with closing(SQLStore.open(made, scene.sealer, PREFIX)) as store:
        asyncio.run(after(store, node))
        outcome = asyncio.run(store.activate(waiting, digest_of(SECRET), now=NOW))
        assert outcome == (Activated.UNKNOWN, None)


def test_a_restore_opens_a_shard_chained_to_the_backup(scene: StoreScene, tmp_path: Path) -> None:
    """The old shard ends as it was saved; the new one names its checkpoint and the restore."""
    saved, made = tmp_path / "backup.db", tmp_path / "restored.db"

    async def before() -> bytes | None:
        node = await lived(scene)
        await scene.store.back_up(saved)
        final = await scene.store.ledger.checkpoint(1)
        # What happens after the backup is lost.
        await scene.renew(node, now=NOW + 9)
        return final

    final = asyncio.run(before())
    restore(saved, made, scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    with reading(made) as db:
        old, new = ledgerreads.all_shards(db)
        assert (old.name, old.final, new.name, new.final) == (
            *("2026-11", True),
            *(new.name, False),
        )
        assert re.fullmatch(r"2026-11\.[1-9][0-9]{15}", new.name)
        assert is_shard_name(new.name)
        opening = ledgerreads.opening(db, 2)
        assert opening is not None
        assert GovernanceRecord.parse(opening).details["checkpoint"] == final
        (last,) = db.rows_of("SELECT record FROM governance ORDER BY number DESC LIMIT 1")
        record = GovernanceRecord.parse(last[0])
        assert (record.kind, record.author, record.time) == ("store.restored", AUTHOR, LATER)
        assert record.details == {"shard": "2026-11", "size": old.size, "lineages": 1}
        assert ledgerreads.position(db, record.digest) == (2, 1, 1)
        note = ledgerreads.checkpoint(db, 2)
        assert note is not None
        assert verify_checkpoint(note, scene.sealer.key, origin=new.origin).size == 2


def test_two_restores_of_one_backup_never_share_a_shard(scene: StoreScene, tmp_path: Path) -> None:
    """What the first wrote is no fork of what the second writes, nor of a month's own shard."""
    saved = tmp_path / "backup.db"
    asyncio.run(lived(scene))
    asyncio.run(scene.store.back_up(saved))
    names = set()
    for number, now in enumerate((LATER, LATER, LATER + 60, NOW + 40 * 86_400)):
        made = tmp_path / f"{number}.db"
        restore(saved, made, scene.sealer, PREFIX, now=now, author=AUTHOR)
        with reading(made) as db:
            names.add(ledgerreads.all_shards(db)[-1].name)
    assert len(names) == 4
    assert names.isdisjoint({"2026-11", "2026-12"})


def test_a_restored_ledger_goes_on_with_the_next_month(scene: StoreScene, tmp_path: Path) -> None:
    """A restored store can itself be saved and restored, and opens its months as ever."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    asyncio.run(lived(scene))
    asyncio.run(scene.store.back_up(tmp_path / "backup.db"))
    restore(tmp_path / "backup.db", first, scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    restore(first, second, scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    with closing(SQLStore.open(second, scene.sealer, PREFIX)) as store:
        december = NOW + 20 * 86_400
        asyncio.run(store.record_event("admin.login", {}, now=december, author=AUTHOR))
        names = [each.name for each in asyncio.run(store.ledger.shards())]
    assert len(set(names)) == 4
    assert (names[0], names[3]) == ("2026-11", "2026-12")


@pytest.mark.parametrize("what", ["target", "issuer", "backup", "absent"])
def test_a_restore_refuses_what_is_not_sound(scene: StoreScene, tmp_path: Path, what: str) -> None:
    """An existing file, another issuer's ledger, a damaged copy, no copy: nothing is made."""
    saved, made = tmp_path / "backup.db", tmp_path / "restored.db"
    asyncio.run(lived(scene))
    asyncio.run(scene.store.back_up(saved))
    prefix = PREFIX
    if what == "target":
        made.write_bytes(b"mine")
    elif what == "issuer":
        prefix = "other.example/ledger"
    elif what == "backup":
        data = bytearray(saved.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        saved.write_bytes(data)
    else:
        saved.unlink()
    with pytest.raises(StoreUnavailableError):
        restore(saved, made, scene.sealer, prefix, now=LATER, author=AUTHOR)
    assert made.exists() == (what == "target")
    assert [each.name for each in tmp_path.glob(".*")] == []


def test_an_export_is_the_same_bytes_each_time_and_imports_whole(
    scene: StoreScene, tmp_path: Path
) -> None:
    """What goes out of the import is what went in, row by row, tiles made anew."""

    async def story() -> list[int]:
        node = await lived(scene)
        await scene.store.record_event("admin.login", {}, now=NOW + 40 * 86_400, author=AUTHOR)
        await scene.ask(node, now=NOW + 40 * 86_400)
        await scene.renew(node, now=NOW + 40 * 86_400)
        await scene.revoke(node)
        await scene.delegate()
        return [await scene.store.export(tmp_path / name) for name in ("one", "two")]

    counts = asyncio.run(story())
    assert counts[0] == counts[1]
    exported = (tmp_path / "one").read_bytes()
    assert (tmp_path / "two").read_bytes() == exported
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    imported = tmp_path / "imported.db"
    assert import_into(imported, tmp_path / "one") == counts[0]
    audited = StoreScene(imported, scene.sealer, scene.store)
    for table in (*(table.name for table in EXPORTED), "tiles"):
        if table == "blobs":
            continue
        rows = f"SELECT * FROM {table} ORDER BY 1, 2"  # noqa: S608 - a constant
        assert audited.rows(rows) == scene.rows(rows) != []
    with reading(imported) as again:
        assert export(again, tmp_path / "three") == counts[0]
    assert (tmp_path / "three").read_bytes() == exported


def test_an_import_says_so_and_no_verifier_opens_it(scene: StoreScene, tmp_path: Path) -> None:
    """It names its export, and is refused, restored or served, even where somebody is writing."""
    imported = tmp_path / "imported.db"

    async def export_it() -> StoredNode:
        node = await scene.fill()
        await scene.store.export(tmp_path / "export")
        return node

    node = asyncio.run(export_it())
    import_into(imported, tmp_path / "export")
    mark = (IMPORTED, digest_of((tmp_path / "export").read_bytes()).hex())
    audited = StoreScene(imported, scene.sealer, scene.store)
    assert audited.rows("SELECT * FROM settings") == [mark]
    with pytest.raises(StoreUnavailableError, match="made of an export"):
        audited.open()
    with pytest.raises(StoreUnavailableError, match="made of an export"):
        restore(imported, tmp_path / "new.db", scene.sealer, PREFIX, now=LATER, author=AUTHOR)
    with closing(sqlite3.connect(scene.path)) as raw:
        raw.execute("INSERT INTO settings VALUES (?, ?)", mark)
        raw.commit()
    with pytest.raises(StoreUnavailableError, match="made of an export"):
        asyncio.run(scene.renew(node))


def test_an_export_with_any_byte_changed_is_refused(scene: StoreScene, tmp_path: Path) -> None:
    """Sampled over the whole file: nothing altered, cut short or lengthened is imported."""

    async def story() -> None:
        await scene.fill()
        await scene.store.export(tmp_path / "export")

    asyncio.run(story())
    data = (tmp_path / "export").read_bytes()
    step = max(1, len(data) // 40)
    for at in range(0, len(data), step):
        (tmp_path / "altered").write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        with pytest.raises(MalformedError):
            import_into(tmp_path / f"{at}.db", tmp_path / "altered")
    for altered in (data[:-1], data + b"\0", b"", data[: len(data) // 2]):
        (tmp_path / "altered").write_bytes(altered)
        with pytest.raises(MalformedError):
            import_into(tmp_path / "none.db", tmp_path / "altered")


@pytest.mark.parametrize(
    ("table", "tampering", "match"),
    [
        ("decisions", "UPDATE decisions SET record = x'00'", "digest"),
        ("evidence", "UPDATE evidence SET document = x'00'", "digest"),
        ("governance", "UPDATE governance SET record = x'00'", "digest"),
        ("entries", "UPDATE entries SET leaf = x'00' WHERE position = 1", "another tree"),
        ("entries", "DELETE FROM entries WHERE position = 1", "missing"),
        ("checkpoints", "DELETE FROM checkpoints WHERE size = 6", "no checkpoint covers"),
        ("checkpoints", "UPDATE checkpoints SET root = zeroblob(32)", "another tree"),
    ],
)
def test_an_import_demands_digests_and_roots(
    scene: StoreScene, tmp_path: Path, table: str, tampering: str, match: str
) -> None:
    """An export made of an altered database is whole, and false."""
    asyncio.run(scene.fill())
    assert scene.rows("SELECT max(size) FROM checkpoints") == [(6,)]
    with closing(sqlite3.connect(scene.path)) as raw:
        raw.execute(f"DROP TRIGGER {table}_no_update")
        raw.execute(f"DROP TRIGGER {table}_no_delete")
        raw.execute(tampering)
        raw.commit()
    asyncio.run(scene.store.export(tmp_path / "export"))
    with pytest.raises(MalformedError, match=match):
        import_into(tmp_path / "imported.db", tmp_path / "export")
    assert not (tmp_path / "imported.db").exists()


def test_a_file_of_another_schema_is_not_read(tmp_path: Path) -> None:
    """Neither a file that is not there nor one without the schema is opened, or made."""
    with pytest.raises(StoreUnavailableError, match="no such file"):
        Database(tmp_path / "absent.db").demand_current()
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnavailableError, match="schema None"):
        Database(tmp_path / "empty.db").demand_current()
    assert not (tmp_path / "absent.db").exists()


def test_the_store_names_root_sets_as_the_verifier_does(local_ca: LocalCA) -> None:
    """The digest by which a set is looked up is the one that decisions record."""
    ders = [
        ca.root.public_bytes(serialization.Encoding.DER) for ca in (local_ca, LocalCA.create("b"))
    ]
    assert TrustedRoots.of(ders).digest == roots_digest([digest_of(der) for der in ders])
