"""Token keys in the folder: a rotation is done or not, whenever the verifier is killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from bootlease.errors import MalformedError
from bootlease.ledger.governance import KEY_ROTATED
from bootlease.ports import Store
from bootlease.testing.set_clock import SetClock
from bootlease.token import KeySet, VerificationKey
from bootlease.token.keyrotation import follow_rotations, sign_rotation
from bootlease.verifier.datadir import (
    NEXT_SIGNING_KEY,
    ROTATIONS,
    SIGNING_KEY,
    load_signing_key,
    make_keys,
)
from bootlease.verifier.keyfolder import KeyFolder, read_rotations, token_keys_of
from bootlease.verifier.problems import ProblemError, ProblemKind
from bootlease.verifier.rotating import Rotating
from bootlease.verifier.tokenkeys import OVERLAP, Rotated, TokenKeys

ISSUER = "https://v.example"
NOW = 1_800_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A verifier's folder, as far as keys go."""
    make_keys(tmp_path)
    return tmp_path


class Ledger:
    """A store that only keeps records."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []

    async def record_event(self, kind: str, details: dict[str, Any], **_: object) -> None:
        """Keep a record."""
        self.records.append((kind, details))


def rotating(folder: Path, ledger: Ledger, keys: TokenKeys, clock: SetClock) -> Rotating:
    """What rotates the keys of a folder."""
    return Rotating(cast("Store", ledger), keys, ISSUER, clock, KeyFolder(folder, ISSUER))


def test_a_rotation_is_recorded_and_kept(folder: Path) -> None:
    """The new key signs, the folder and the ledger name both, the old private half is gone."""
    keys, ledger, clock = token_keys_of(folder, ISSUER), Ledger(), SetClock(NOW)
    first = keys.key_id
    signed_before = keys.sign(b"data")
    for _ in range(2):
        asyncio.run(rotating(folder, ledger, keys, clock).rotate(author="operator:test"))
    assert [kind for kind, _ in ledger.records] == [KEY_ROTATED] * 2
    again = token_keys_of(folder, ISSUER)
    assert again.key_id == keys.key_id != first
    VerificationKey(again.public).verify(keys.sign(b"data"), b"data")
    assert len({key.key_id for key in again.all().keys}) == 3
    start = KeySet((next(key for key in again.all().keys if key.key_id == first),))
    start.keys[0].verify(signed_before, b"data")
    chain = [each.statement for each in again.rotations]
    assert follow_rotations(start, chain, issuer=ISSUER).get(again.key_id) is not None
    assert not (folder / NEXT_SIGNING_KEY).exists()
    assert (folder / SIGNING_KEY).stat().st_mode & 0o777 == 0o600
    KeyFolder(folder, ISSUER).recover()


def test_a_key_counts_until_its_tokens_have_run_out(folder: Path) -> None:
    """Unless it is revoked; and one set of keys is one object, for what is kept with it."""
    keys, clock = token_keys_of(folder, ISSUER), SetClock(NOW)
    first = keys.key_id
    asyncio.run(rotating(folder, Ledger(), keys, clock).rotate(author="a"))
    both = keys.counting(NOW + OVERLAP - 1)
    assert [key.key_id for key in both.keys] == [keys.key_id, first]
    assert keys.counting(NOW) is both
    assert [key.key_id for key in keys.counting(NOW + OVERLAP).keys] == [keys.key_id]
    keys.revoked = lambda: frozenset({first})
    assert [key.key_id for key in keys.counting(NOW).keys] == [keys.key_id]


def test_a_rotation_that_was_not_named_is_forgotten(folder: Path) -> None:
    """Killed after the key was made: the old one signs on."""
    before = load_signing_key(folder / SIGNING_KEY).key_id
    KeyFolder(folder, ISSUER).make()
    KeyFolder(folder, ISSUER).recover()
    assert not (folder / NEXT_SIGNING_KEY).exists()
    assert token_keys_of(folder, ISSUER).key_id == before


def test_a_rotation_that_was_named_is_finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the new key has its place: it takes it at the next start."""
    keys = token_keys_of(folder, ISSUER)
    monkeypatch.setattr(KeyFolder, "_take_up", lambda _: None)
    asyncio.run(rotating(folder, Ledger(), keys, SetClock(NOW)).rotate(author="a"))
    assert load_signing_key(folder / SIGNING_KEY).key_id != keys.key_id
    monkeypatch.undo()
    KeyFolder(folder, ISSUER).recover()
    assert token_keys_of(folder, ISSUER).key_id == keys.key_id
    assert not (folder / NEXT_SIGNING_KEY).exists()


def test_an_old_key_in_the_new_ones_place_is_refused(folder: Path) -> None:
    """Restored from where it was kept, it would sign what nobody believes."""
    old = (folder / SIGNING_KEY).read_bytes()
    keys = token_keys_of(folder, ISSUER)
    asyncio.run(rotating(folder, Ledger(), keys, SetClock(NOW)).rotate(author="a"))
    (folder / SIGNING_KEY).write_bytes(old)
    with pytest.raises(MalformedError, match="names last"):
        KeyFolder(folder, ISSUER).recover()


def test_a_verifier_without_a_place_for_keys_rotates_none(folder: Path) -> None:
    """And one that has rotated as often as nodes can follow does not go on."""
    keys, clock = token_keys_of(folder, ISSUER), SetClock(NOW)
    elsewhere = Rotating(cast("Store", Ledger()), keys, ISSUER, clock, None)
    with pytest.raises(ProblemError) as refused:
        asyncio.run(elsewhere.rotate(author="a"))
    assert refused.value.kind is ProblemKind.CONFLICT
    keys.rotations = (Rotated(NOW, VerificationKey(keys.public), ""),) * 63
    with pytest.raises(ProblemError, match="as often"):
        asyncio.run(rotating(folder, Ledger(), keys, clock).rotate(author="a"))
    assert not (folder / NEXT_SIGNING_KEY).exists()


def test_a_damaged_list_of_rotations_is_refused(folder: Path) -> None:
    """Not JSON, of another schema, of another verifier, not one chain, or not signed."""
    keys = token_keys_of(folder, ISSUER)
    for _ in range(2):
        asyncio.run(rotating(folder, Ledger(), keys, SetClock(NOW)).rotate(author="a"))
    path = folder / ROTATIONS
    good = json.loads(path.read_text())
    first, second = good["rotations"]
    forged = sign_rotation(ISSUER, keys.public, now=NOW, signer=keys)
    for damaged in (
        {**good, "schema": 2},
        {"schema": 1},
        {"schema": 1, "rotations": {}},
        {"schema": 1, "rotations": [second, first]},
        {"schema": 1, "rotations": [{**first, "rotation": forged}]},
        {"schema": 1, "rotations": [{**first, "at": "now"}]},
        {"schema": 1, "rotations": [{**first, "previous": {"kty": "oct", "k": "AA"}}]},
        {"schema": 1, "rotations": [{"at": 1}]},
        {"schema": 1, "rotations": [first] * 64},
    ):
        path.write_text(json.dumps(damaged))
        with pytest.raises(MalformedError):
            read_rotations(folder, ISSUER)
    path.write_text("x")
    with pytest.raises(MalformedError):
        read_rotations(folder, ISSUER)
    path.write_text(json.dumps(good))
    with pytest.raises(MalformedError):
        read_rotations(folder, "https://other.example")
    assert len(read_rotations(folder, ISSUER)) == 2
