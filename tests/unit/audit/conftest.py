"""A recorded history that the tests of auditing start from."""

from __future__ import annotations

import pytest

from bootlease.testing.local_ca import LocalCA
from bootlease.testing.recorded import RecordedHistory
from bootlease.testing.scene import Scene


@pytest.fixture
def history(local_ca: LocalCA) -> RecordedHistory:
    """An enrolled node before its first decision."""
    return RecordedHistory(Scene.create(local_ca))
