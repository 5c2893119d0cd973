"""The file in which a monitor keeps what it has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, TransportError
from bootlease.ledger import Frontier, extend, leaf_hash
from bootlease.monitor import MonitorState, load_state, save_state
from bootlease.monitor.state import SeenShard

KEY = "verifier.example/ledger+00000000+AQ=="
TREE = extend(Frontier(), [leaf_hash(b"%d" % index) for index in range(11)]).frontier
STATE = MonitorState(
    KEY, (SeenShard("2026-11", TREE, b"note\n", closed=True), SeenShard("2026-12.2")), 1, 7
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Shards, trees, notes and the place to read again."""
    path = tmp_path / "state.json"
    save_state(path, STATE)
    assert load_state(path, KEY) == STATE
    assert path.stat().st_mode & 0o077 == 0


def test_without_a_file_nothing_was_seen(tmp_path: Path) -> None:
    """A first run begins at the beginning."""
    assert load_state(tmp_path / "none", KEY) == MonitorState(KEY)


def test_a_file_of_another_log_is_refused(tmp_path: Path) -> None:
    """One log's tree says nothing of another's."""
    path = tmp_path / "state.json"
    save_state(path, STATE)
    with pytest.raises(MalformedError, match="follows the log of"):
        load_state(path, KEY + "x")


def test_a_file_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    """A folder that is gone is told of; nothing is half written."""
    with pytest.raises(TransportError, match="cannot write"):
        save_state(tmp_path / "gone" / "state.json", STATE)
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(TransportError, match="cannot write"):
        save_state(path, STATE)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"key": 1},
        {"shards": {}},
        {"shards": [7]},
        {"shards": [{"name": "2026-11"}]},
        {"reread": [1]},
        {"reread": [-1, 0]},
    ],
)
def test_each_damage_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """A member of another type, form or version."""
    path = tmp_path / "state.json"
    save_state(path, STATE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(MalformedError, match="is not a monitor's state"):
        load_state(path, KEY)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("size", 12),
        ("size", -1),
        ("hashes", [1]),
        ("hashes", ["zz"]),
        ("checkpoint", "*"),
        ("name", "../x"),
        ("closed", 1),
    ],
)
def test_a_damaged_shard_is_refused(tmp_path: Path, member: str, value: Any) -> None:
    """A tree whose hashes do not fit its size would never be found wrong later."""
    path = tmp_path / "state.json"
    save_state(path, STATE)
    members = json.loads(path.read_text())
    members["shards"][0][member] = value
    path.write_text(json.dumps(members))
    with pytest.raises(MalformedError, match="is not a monitor's state"):
        load_state(path, KEY)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Never another error than MalformedError."""
    path = tmp_path_factory.getbasetemp() / "monitor-state"
    path.write_bytes(data)
    with pytest.raises(MalformedError):
        load_state(path, KEY)
