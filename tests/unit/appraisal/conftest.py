"""What every test of appraisal starts from."""

from __future__ import annotations

import pytest

from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import Scene


@pytest.fixture(scope="session")
def ca() -> LocalCA:
    """A TPM manufacturer."""
    return LocalCA.create()


@pytest.fixture
def scene(ca: LocalCA) -> Scene:
    """A node that boots what its reference set was learned from, under a sound policy."""
    return Scene.create(ca)
