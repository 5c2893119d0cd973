"""What recorded logs mean, against kept hashes and against a second reader.

Provenance: ``eventlogs/`` are logs of real machines; ``expected_boot_meaning.tsv`` keeps hashes of
what they mean, made by ``boot_meaning.py`` after each aspect was checked against the log.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from types import ModuleType

HERE: Final = Path(__file__).parent


def _beside(name: str) -> ModuleType:
    """Load a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


boot_meaning, plain_reader = _beside("boot_meaning"), _beside("plain_reader")
EXPECTED: Final[dict[str, tuple[str, ...]]] = boot_meaning.expected()


@pytest.mark.corpus("eventlogs/*")
def test_each_aspect_is_what_was_checked(corpus_file: Path) -> None:
    """Every aspect of a recorded log still means what it meant when it was checked."""
    kept = EXPECTED[corpus_file.name]
    now = boot_meaning.row(corpus_file)
    columns = ("sha256", *boot_meaning.ASPECTS)
    changed = [name for name, was, is_ in zip(columns, kept, now, strict=True) if was != is_]
    assert changed == []


@pytest.mark.corpus
def test_every_recorded_log_is_kept(corpus: Path) -> None:
    """No recorded log is without its row, and no row without its log."""
    assert EXPECTED.keys() == {path.name for path in (corpus / "eventlogs").iterdir()}


@pytest.mark.corpus("eventlogs/*")
def test_a_second_reader_agrees(corpus_file: Path) -> None:
    """A reader that shares no code finds the same Secure Boot, authorities, images and lines."""
    data = corpus_file.read_bytes()
    state: dict[str, Any] | None = boot_meaning.meaning(data)
    if state is None:
        assert set(EXPECTED[corpus_file.name][1:]) == {boot_meaning.REFUSED}
        return
    reading = plain_reader.read(data, bank_of(data))
    secure = state["secure_boot"]
    authorities = [*secure["authorities_before"], *secure["authorities_after"]]
    assert [each["variable"] for each in authorities] == [name for name, _ in reading.authorities]
    assert [
        None if each["certificate"] is None else each["certificate"]["sha256"]
        for each in authorities
    ] == [certificate for _, certificate in reading.authorities]
    if secure["state"] != "unknown":
        assert secure["state"] == reading.state
        assert {
            name: secure[name.lower()]["digest"]
            for name in reading.databases
            if name.lower() in secure
        } == {name: digest for name, digest in reading.databases.items() if name.lower() in secure}
    assert [
        (each["digest"], each["unverified_file"].strip("\\"))
        for each in state["boot_applications"]["images"]
    ] == reading.images
    lines = [each["text"] for each in state["kernel_command_lines"]["lines"]]
    assert [line for line in reading.command_lines if line not in lines] == []


def bank_of(data: bytes) -> str:
    """Return the bank that the first reader took."""
    log = boot_meaning.parse_event_log(data)
    label: str = next(bank.label for bank in boot_meaning.BANKS if bank in log.banks)
    return label
