"""What fuzzing found and kept passes its target in every run: seeds, corpus, mended crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_pass(name: str) -> None:
    """An input of the corpus, or one that once crashed, ends without an exception."""
    kept = sorted((HERE / "corpus" / name).glob("*"))
    assert kept
    for file in [*kept, *sorted((HERE / "crashes" / name).glob("*"))]:
        TARGETS[name].run(file.read_bytes())


def test_nothing_is_kept_for_a_target_that_is_gone() -> None:
    """Every folder of inputs is that of a target."""
    kept = {folder.name for kind in ("corpus", "crashes") for folder in (HERE / kind).glob("*")}
    assert kept <= TARGETS.keys()


def test_seeds_parse() -> None:
    """Every seed is accepted by its parser, and every target has one."""
    seeded = set()
    for target, name, data in seeds():
        dict(TARGETS[target].parsers)[name](data)
        seeded.add(target)
    assert seeded == TARGETS.keys()
