"""``bootlease ledger``, ``replay`` and what keeps a verifier: options that will not do are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootlease.cli import run
from bootlease.cli.quantities import counted

Said = Callable[[], str]
ID = "00" * 16


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was said on standard error, on one line."""
    return lambda: " ".join(capsys.readouterr().err.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a few files that are not what is asked for."""
    (tmp_path / "data").mkdir()
    (tmp_path / "text").write_text("neither key nor proof\n")
    (tmp_path / "object").write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ledger prof", "Did you mean 'proof'?"),
        ("ledger proof nonsense --data {}/data -o {}/x", "LEASE is no id (32 hex digits), and no"),
        (
            f"ledger proof {ID} --data {{}}/data -o {{}}/x --receipt {{}}/text",
            "--receipt goes with",
        ),
        ("ledger verify {}/text --ledger-key k --token-keys {}/text", "neither a key (name+id+b"),
        ("replay nofile", "neither a decision's digest (64 hex digits) nor a proof file"),
        ("replay {}", "neither a decision's digest (64 hex digits) nor a proof file"),
        ("replay {}/text", "text is not a whole proof file: CBOR"),
        ("replay {}/text --data {}/data", "a proof file goes without --data"),
        ("verifier backup --data {}/data -o {}/text", "text exists; it is left as it is"),
        ("verifier backup --data {}/data -o {}/no/x", "there is no folder"),
        ("verifier backup --data {}/data -o -", "never to standard output"),
        ("ledger export --data {}/data -o {}/text", "text exists; it is left as it is"),
        ("verifier restore {}/text --data {}/data", "text is no backup: it is not an SQLite"),
        ("verifier prune --data {}/data --older-than nan", "'nan' is not a number"),
        ("verifier prune --data {}/data --older-than inf", "not in the range"),
        ("verifier prune --data {}/data --older-than 1e300", "not in the range"),
        ("ledger import {}/text --data {}/new --issuer https://v.example", "text is no whole exp"),
        ("ledger monitor http://127.0.0.1:1 --ledger-key k --state {}/s", "--ledger-key: 'k' is"),
        ("ledger monitor http://127.0.0.1:1 --ledger-key a+b+ --state {}/s", "name+id+base64"),
        ("ledger monitor http://127.0.0.1:1 --ledger-key {}/object --state {}/s", "join bundle"),
        ("ledger monitor http://v --ledger-key k --state {}/s --interval nan", "is not a number"),
        ("ledger witness serve --data {}/data --log k", "--log: 'k' is neither a key"),
        ("ledger witness serve --data {}/data --log k --bind x:99999", "--bind 'x:99999'"),
    ],
)
def test_what_will_not_do_is_named(line: str, reason: str, folder: Path, said: Said) -> None:
    """Exit code 2 and a sentence that names the option or file; nothing is made."""
    before = {path.name for path in folder.iterdir()}
    assert run([word.replace("{}", str(folder)) for word in line.split()]) == 2
    assert reason in said()
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1000, "1000 entries")]
)
def test_numbers_go_with_their_words(count: int, words: str) -> None:
    """One is one entry; none are entries."""
    assert counted(count, "entry", "entries") == words
