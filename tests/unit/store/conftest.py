"""A store in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootlease.store import SQLStore
from bootlease.testing.store_scene import PREFIX, FaultySealer, StoreScene


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file."""
    return tmp_path / "verifier.db"


@pytest.fixture
def sealer() -> FaultySealer:
    """The ledger's key."""
    return FaultySealer()


@pytest.fixture
def store(path: Path, sealer: FaultySealer) -> Iterator[SQLStore]:
    """An open store."""
    opened = SQLStore.open(path, sealer, PREFIX)
    yield opened
    opened.close()


@pytest.fixture
def scene(path: Path, sealer: FaultySealer, store: SQLStore) -> StoreScene:
    """A store with nodes."""
    return StoreScene(path, sealer, store)
