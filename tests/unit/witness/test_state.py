"""The witness's memory and its folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger import NoteKey, SignatureType
from bootlease.witness import make_witness, open_witness
from bootlease.witness import state as module
from bootlease.witness.state import Seen, WitnessState

ROOT = bytes(range(32))
NEW = Seen("log", 7, ROOT, b"note")


@pytest.fixture
def state(tmp_path: Path) -> WitnessState:
    """An empty memory."""
    return WitnessState(tmp_path / "state.db", make=True)


def test_what_was_cosigned_is_remembered(tmp_path: Path, state: WitnessState) -> None:
    """Also by the next process."""
    assert state.advance(state.latest("log"), NEW, now=1)
    state.close()
    again = WitnessState(tmp_path / "state.db")
    assert again.latest("log") == NEW
    assert again.all() == [NEW]
    again.close()


def test_only_the_latest_tree_is_replaced(state: WitnessState) -> None:
    """Who has compared with an older one must compare again."""
    nothing = state.latest("log")
    assert state.advance(nothing, NEW, now=1)
    assert not state.advance(nothing, replace(NEW, size=9), now=2)
    assert not state.advance(replace(NEW, root=bytes(32)), replace(NEW, size=9), now=2)
    assert state.latest("log") == NEW
    state.close()


@pytest.mark.parametrize("new", [replace(NEW, size=6), replace(NEW, origin="other")])
def test_going_back_is_a_mistake_of_ours(state: WitnessState, new: Seen) -> None:
    """Nothing in this package may even ask for it."""
    state.advance(state.latest("log"), NEW, now=1)
    with pytest.raises(ValueError, match="never goes back"):
        state.advance(NEW, new, now=2)
    state.close()


def test_writes_are_on_disk_when_they_return(state: WitnessState) -> None:
    """SQLite waits for the disk at every commit."""
    with state._locked() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    state.close()


def test_a_write_that_fails_changes_nothing(state: WitnessState) -> None:
    """A full disk, for one: the error is told, the old tree is the latest."""
    state.advance(state.latest("log"), NEW, now=1)
    state._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(TransportError, match="cannot reach its state"):
        state.advance(NEW, replace(NEW, size=9), now=2)
    state._connection.execute("PRAGMA query_only = OFF")
    assert state.latest("log") == NEW
    state.close()


def test_logs_and_conflicts_are_bounded(
    state: WitnessState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was stolen fills no disk."""
    monkeypatch.setattr(module, "MAX_LOGS", 1)
    monkeypatch.setattr(module, "MAX_CONFLICTS", 2)
    state.advance(state.latest("log"), NEW, now=1)
    with pytest.raises(TransportError, match="no more"):
        state.advance(state.latest("log2"), replace(NEW, origin="log2"), now=1)
    for number in range(4):
        state.keep_conflict("log", bytes([number]) * 32, b"note %d" % number, now=number)
    assert state.conflicts("log") == [b"note 0", b"note 1"]
    state.close()


def missing(_: Path) -> None:
    """Leave nothing there."""


def text(path: Path) -> None:
    """Put some text there."""
    path.write_text("no database, and long enough to have a header" * 40)


def later(path: Path) -> None:
    """Put a database of a later version there."""
    WitnessState(path, make=True).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()


@pytest.mark.parametrize("damage", [missing, text, later])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A missing one above all: a new one would cosign anything."""
    path = tmp_path / "state.db"
    damage(path)
    with pytest.raises(MalformedError):
        WitnessState(path)


def test_a_witness_is_made_and_opened(tmp_path: Path) -> None:
    """Its keys are those that were printed; its files are its own."""
    folder = tmp_path / "witness"
    vkeys = make_witness(folder, "witness.example/w1", ml_dsa_44=True)
    with open_witness(folder) as (_, cosigners):
        assert tuple(str(cosigner.key) for cosigner in cosigners) == vkeys
    assert [NoteKey.parse(vkey).kind for vkey in vkeys] == [
        SignatureType.ED25519_COSIGNATURE,
        SignatureType.ML_DSA_44_COSIGNATURE,
    ]
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.pem")} == {0}
    assert [path.name for path in tmp_path.iterdir()] == ["witness"]


def test_two_processes_do_not_share_a_witness(tmp_path: Path) -> None:
    """The second is told so."""
    make_witness(tmp_path / "w", "w")
    with (
        open_witness(tmp_path / "w"),
        pytest.raises(TransportError, match="another witness"),
        open_witness(tmp_path / "w"),
    ):
        pass


def test_nothing_is_made_over_something(tmp_path: Path) -> None:
    """A folder that is not empty is left as it is."""
    (tmp_path / "file").touch()
    with pytest.raises(MalformedError, match="not empty"):
        make_witness(tmp_path, "w")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "x" * 300])
def test_a_name_that_no_key_has_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is made."""
    with pytest.raises(MalformedError, match="--name"):
        make_witness(tmp_path / "w", name)
    assert not (tmp_path / "w").exists()


def readable(folder: Path) -> None:
    """Let others read the key."""
    (folder / "ed25519.pem").chmod(0o644)


def no_key(folder: Path) -> None:
    """Put text in the key's place."""
    (folder / "ed25519.pem").write_text("text")


def other_key(folder: Path) -> None:
    """Put a key of another kind in its place."""
    (folder / "ml-dsa-44.pem").replace(folder / "ed25519.pem")


def swapped(folder: Path) -> None:
    """Put the Ed25519 key in the other's place."""
    (folder / "ml-dsa-44.pem").write_bytes((folder / "ed25519.pem").read_bytes())


def gone(folder: Path) -> None:
    """Take the key away."""
    (folder / "ed25519.pem").unlink()


def no_state(folder: Path) -> None:
    """Take the memory away."""
    (folder / "state.db").unlink()


def no_settings(folder: Path) -> None:
    """Take the name away."""
    (folder / "witness.json").unlink()


def other_settings(folder: Path) -> None:
    """Write settings of another version."""
    (folder / "witness.json").write_text('{"schema": 2}')


@pytest.mark.parametrize(
    "damage",
    [readable, no_key, other_key, swapped, gone, no_state, no_settings, other_settings],
)
def test_each_damage_to_the_folder_is_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A witness starts with its own keys and its own memory, or not at all."""
    make_witness(tmp_path / "w", "w", ml_dsa_44=True)
    damage(tmp_path / "w")
    with pytest.raises(MalformedError), open_witness(tmp_path / "w"):
        pass
